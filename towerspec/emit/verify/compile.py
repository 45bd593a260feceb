"""The verification of one compile: every file of a surface, for every target, and the unified model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from towerspec.check.model import Model
from towerspec.emit import constants, torchscript
from towerspec.emit.manifest import surface_inputs
from towerspec.emit.python import render_surface
from towerspec.emit.verify.cases import Cases, make_cases
from towerspec.emit.verify.checks import Served, verify_source, verify_surface
from towerspec.emit.verify.errors import Measured, check_errors, verify_rounded
from towerspec.emit.verify.log import Logged
from towerspec.emit.verify.steer import Memo, Steering
from towerspec.emit.verify.unified import verify_unified
from towerspec.ir.graph import Graph
from towerspec.passes import optimise
from towerspec.watch import Watch

if TYPE_CHECKING:
    from towerspec.emit.build import Options


@dataclass(frozen=True)
class Verified:
    """How far a file's outputs are from the reference's at most; of fewer bits, by leaf and head too."""

    largest: float
    errors: tuple[Mapping[str, Any], ...] = ()


class Verifier:
    """Verifies what a compile makes; `weights` are the model's parameters by path, in float64."""

    def __init__(
        self,
        model: Model,
        graph: Graph,
        slices: Mapping[str, Graph],
        weights: Mapping[str, Tensor],
        options: Options,
        watch: Watch,
        samples: Logged | None = None,
    ) -> None:
        self.model, self.graph, self.slices, self.weights = model, graph, slices, weights
        self.options, self.watch, self.samples = options, watch, samples
        self.cases, self.steering, self.measured = cache(self._cases), cache(self._steering), cache(self._measured)
        self._memo: Memo = {}

    def surface(
        self,
        surface: str,
        folded: Graph,
        weights: Mapping[str, Tensor],
        rounded: bool,
        eager: nn.Module,
        served: Served,
    ) -> Verified:
        """Checks a surface's source and a file of it.

        Raises:
            SpecError: a result isn't the reference's (T606) or, rounded, is too far from it (T613), or a custom module
                mixes rows (T620).
        """
        sliced, cases = self.slices[surface], self.cases(surface)
        if not rounded:
            with self.watch.stage("verify"):
                return Verified(verify_surface(sliced, folded, eager, served, cases, weights, self.weights))
        measured, bound = self.measured(surface), self.options.max_error
        with self.watch.stage("verify"):
            errors = measured.errors(served)
            largest = check_errors(sliced, errors, bound)
            return Verified(max(largest, verify_rounded(sliced, served, cases.ordinary, bound)), tuple(errors))

    def unified(self, model: nn.Module, scripted: Any, surfaces: tuple[str, ...]) -> None:
        """Checks the unified model's methods and its routing. Raises `SpecError` (T606)."""
        cases = {surface: self.cases(surface) for surface in surfaces}
        slices = {surface: self.slices[surface] for surface in surfaces}
        with self.watch.stage("verify"):
            verify_unified(self.graph, slices, model, scripted, cases, self.weights)

    def entry(self, surface: str, verified: Verified) -> dict[str, Any]:
        """What the manifest says of a surface's verification."""
        cases = self.cases(surface)
        return {
            "calls": len(cases.all) + len(cases.classes.alone),
            "rows": cases.rows,
            "not_reached": list(cases.unreached),
            "largest_difference": float(f"{verified.largest:.3g}"),
        }

    # ---- what it is verified by ----------------------------------------------------------------

    def _steering(self, surface: str) -> Steering:
        sliced = self.slices[surface]
        return Steering(sliced, surface_inputs(self.model, sliced), self.weights, self._memo)

    def _cases(self, surface: str) -> Cases:
        """Generated inputs, and what the reference gives for them; only for what is to be verified."""
        sliced = self.slices[surface]
        with self.watch.stage("reference"):
            steering = self.steering(surface)
            return make_cases(sliced, steering.entries, self.weights, self.options.seed, steering)

    def _measured(self, surface: str) -> Measured:
        """The rows that rounding is measured on, with what the surface gives in float64 before its numbers are rounded.

        That source is verified itself first. Raises `SpecError` (T606, T620).
        """
        exact = self._unrounded(surface)
        with self.watch.stage("reference"):
            columns = self.samples.of(surface) if self.samples is not None else None
            return Measured(self.slices[surface], self.steering(surface), exact, self.options.seed, columns)

    def _unrounded(self, surface: str) -> nn.Module:
        options, sliced, cases = self.options, self.slices[surface], self.cases(surface)
        exact = optimise(self.graph, surface, options.level, (*options.without, "precision"), options.logits)
        folded, mine = constants.fold(exact, self.weights)
        rendered = render_surface(folded, self.model.path, options.logits)
        with self.watch.stage("verify"):
            eager = torchscript.instance(rendered.source, rendered.cls, surface, mine)
            return verify_source(sliced, folded, eager, cases, mine, self.weights)
