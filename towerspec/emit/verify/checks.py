"""Compares what is about to be written with the reference: a surface's source in float64, its files in float32."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from towerspec.diagnostics import SpecError
from towerspec.emit import torchscript
from towerspec.emit.verify.cases import Case, Cases
from towerspec.emit.verify.culprit import Finding, culprit, mismatch, mixed_rows
from towerspec.emit.verify.rounding import DOUBLE, SINGLE, Precision, differences
from towerspec.ir.graph import Graph

Served = Callable[..., Sequence[Tensor]]


def verify_surface(
    sliced: Graph,
    optimised: Graph,
    model: nn.Module,
    served: Served,
    cases: Cases,
    weights: Mapping[str, Tensor],
    plain: Mapping[str, Tensor],
) -> float:
    """Checks a surface's source in float64 and its file in float32; returns the file's largest difference.

    `model` is the source's module, `weights` its parameters by path, `plain` the slice's, and `served` what the file
    holds. Rows are scored together and some of them alone.

    Raises:
        SpecError: a result isn't the reference's (T606), or a custom module mixes rows (T620).
    """
    verify_source(sliced, optimised, model, cases, weights, plain)
    return verify_file(sliced, served, cases)


def verify_source(
    sliced: Graph,
    optimised: Graph,
    model: nn.Module,
    cases: Cases,
    weights: Mapping[str, Tensor],
    plain: Mapping[str, Tensor],
) -> nn.Module:
    """Checks a surface's source in float64, and returns it so. Raises `SpecError` (T606, T620)."""
    mixed = mixed_rows(sliced, cases.classes, plain)
    if mixed:
        raise SpecError(mixed)
    wide = torchscript.widened(model, weights)
    found, _ = compare(sliced, lambda *inputs: wide(*map(widen, inputs)), cases.all, DOUBLE)
    if found:
        raise SpecError(culprit(sliced, optimised, found, weights, plain))
    return wide


def verify_file(sliced: Graph, served: Served, cases: Cases) -> float:
    """Checks a float32 file; returns its largest difference on ordinary rows. Raises `SpecError` (T606)."""
    found, largest = compare(sliced, served, cases.all, SINGLE)
    if found:
        raise SpecError(mismatch(sliced, None, found))
    return largest


def compare(sliced: Graph, call: Served, cases: Sequence[Case], precision: Precision) -> tuple[Finding | None, float]:
    """The first head that is too far from the reference, if any, and the largest difference on ordinary rows."""
    largest = 0.0
    for case in cases:
        with torch.no_grad():
            found = call(*case.inputs.values())
        for head, id_, x in results(sliced, found):
            wanted = case.wanted[id_]
            gap = differences(x, wanted) if x.shape == wanted.shape else torch.full_like(case.sizes, float("inf"))
            beyond = case.beyond(gap, id_, precision)
            if x.shape != wanted.shape or bool(beyond.any()):
                row = int(torch.where(beyond, gap, -1.0).argmax()) if len(gap) else 0
                return Finding(case, head, float(gap.max()) if len(gap) else float("inf"), row), largest
            ordinary = gap[precision.ordinary(case.sizes)]
            largest = max([largest, *ordinary.amax(0, keepdim=True).tolist()] if len(ordinary) else [largest])
        apart = _alone(sliced, call, case, precision)
        if apart:
            return apart, largest
    return None, largest


def _alone(sliced: Graph, call: Served, case: Case, precision: Precision) -> Finding | None:
    """A row whose score by itself isn't its score among others, if any is."""
    for row in case.alone:
        with torch.no_grad():
            found = call(*case.only(row).values())
        for head, id_, x in results(sliced, found):
            one = case.wanted[id_][row : row + 1]
            gap = torch.zeros_like(case.sizes)
            gap[row] = float(differences(x, one)[0]) if x.shape == one.shape else float("inf")
            if x.shape != one.shape or bool(case.beyond(gap, id_, precision)[row]):
                return Finding(case, head, float(gap[row]), row, alone=True)
    return None


def results(sliced: Graph, found: Sequence[Tensor]) -> Iterator[tuple[str, str, Tensor]]:
    """Each output's name, op and value: predictions, then logits where the surface returns them."""
    named = [(o.name, o.prediction) for o in sliced.outputs]
    if len(found) > len(named):
        named += [(f"{o.name}.logit", o.logit) for o in sliced.outputs]
    for (head, id_), x in zip(named, found, strict=True):
        yield head, id_, x


def widen(x: Tensor) -> Tensor:
    """Numbers in float64."""
    return x.double() if x.is_floating_point() else x
