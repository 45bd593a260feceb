"""The compile: from a checked spec to a build folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from towerspec.check import Checked
from towerspec.check.model import Model
from towerspec.cpu import this_cpu
from towerspec.emit import aoti, constants, torchscript, vocabularies
from towerspec.emit.contents import Content, digest, read
from towerspec.emit.folder import check_target, write
from towerspec.emit.manifest import manifest, surface_entry, surface_inputs
from towerspec.emit.names import class_name, method
from towerspec.emit.python import Rendered, render_model, render_surface
from towerspec.emit.reuse import Earlier, Keys
from towerspec.emit.rounding import MAX_ERROR, is_rounded, precision_entry
from towerspec.emit.verify import (
    MANY,
    SHAPES,
    Case,
    Served,
    make_cases,
    verify_rounded,
    verify_source,
    verify_surface,
    verify_unified,
)
from towerspec.emit.wide import Wide
from towerspec.ir.graph import Graph
from towerspec.ir.verify import verify
from towerspec.passes import check_names, optimise, slice_surface
from towerspec.watch import Watch
from towerspec.weights import match, read_safetensors

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """What a compile was asked for."""

    level: int = 2
    weights: Path | None = None  # a file of them, or a run's folder
    seed: int = 0
    surfaces: tuple[str, ...] = ()  # empty for all
    without: tuple[str, ...] = ()  # passes to leave out
    logits: bool = False
    fresh: bool = False  # compile also what the earlier build has already
    targets: tuple[str, ...] = ()  # beside TorchScript: "aoti"
    cpu: str = ""  # the kind that -O3 is for; empty for this machine's
    max_error: float = MAX_ERROR  # of -O3: how far an output may be from the reference


def compile_spec(
    checked: Checked,
    out: Path,
    options: Options = Options(),
    progress: Progress = lambda step: None,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Compiles a checked spec into the folder `out` and returns its manifest.

    Every graph is compared with the float64 reference before it is written. The folder appears whole or
    not at all, and a previous build stays as it was until then. What that build has already, made from the
    same code, parameters and options, is taken over.

    Raises:
        SpecError: the spec has errors, the weights or vocabularies don't fit (T601 to T605, T610), a graph doesn't
            compute what the spec says (T606) or, rounded, is too far from it (T613), a surface or pass is unknown
            (T607, T609), `out` can't be written (T608), or AOTInductor lacks a compiler, or can't compile a surface
            (T611, T612).
    """
    model, graph = checked.sound()
    check_names(graph, options.surfaces, options.without)
    check_target(out)
    if "aoti" in options.targets:
        aoti.check_compiler()
    options = replace(options, cpu=options.cpu or this_cpu())
    watch = watch or Watch()
    progress("model.py")
    with torchscript.small_calls():
        earlier = Earlier(out) if options.fresh else Earlier.read(out)
        document, files = _Compile(model, verify(graph), options, earlier, watch).run(progress)
    files["manifest.json"] = (json.dumps(document, indent=2) + "\n").encode()
    with watch.stage("write"):
        write(out, files)
    return document


class _Compile:
    """One compile: the model's parameters, and the files made so far."""

    def __init__(self, model: Model, graph: Graph, options: Options, earlier: Earlier, watch: Watch) -> None:
        self.model, self.graph, self.options, self.earlier, self.watch = model, graph, options, earlier, watch
        with watch.stage("slice"):
            self.slices = {surface: verify(slice_surface(graph, surface)) for surface in graph.surfaces}
        with watch.stage("print"):
            self.source = render_model(graph, self.slices, model.path)
        file, beside = vocabularies.locate(options.weights) if options.weights else (None, None)
        self.weights_file = file
        with watch.stage("parameters"):
            self.unified = self._unified(file)
        self.weights = torchscript.tensors(self.unified)
        # The reference computes in float64: widened once, and not again for each call of each surface.
        self.wide = Wide(graph, self.weights)
        self.known = vocabularies.read_vocabularies(model, beside) if beside else {}
        self.keys = Keys(self.weights, _shown(options))
        self.cases = cache(self._cases)
        self.verify_unrounded = cache(self._verify_unrounded)
        self.files: dict[str, Content] = {"model.py": self.source.encode()}

    def run(self, progress: Progress) -> tuple[dict[str, Any], dict[str, Content]]:
        """The manifest, and every other file's content by name."""
        if self.known:
            self.files[vocabularies.FILE] = (json.dumps(self.known, ensure_ascii=False) + "\n").encode()
        surfaces = self.options.surfaces or self.graph.surfaces
        # First of all: TorchScript numbers its classes through a process, and the file shall not depend on the rest.
        unified, scripted = self._script_unified(surfaces)
        entries: dict[str, Any] = {}
        for surface in surfaces:
            progress(f"surface {surface}")
            entries[surface] = self._surface(surface)
        progress("unified.pt")
        if scripted:
            self._verify_unified(scripted, surfaces)
        versions = {"torch": str(torch.__version__)}
        shown = _shown(self.options)
        document = manifest(self.model, shown, versions, self._weights_entry(), self.files, unified, entries)
        return document, self.files

    def _unified(self, weights: Path | None) -> nn.Module:
        module = torchscript.load_source(self.source, "model")
        unified: nn.Module = getattr(module, class_name(self.graph.model))(seed=self.options.seed)
        if weights is not None:
            torchscript.fill(unified, match(self.graph, read_safetensors(weights)))
        return unified.eval().requires_grad_(False)

    def _weights_entry(self) -> dict[str, Any]:
        file = self.weights_file
        source = f"sha256:{digest(read(file))}" if file else f"seed:{self.options.seed}"
        shapes = {name: list(tensor.shape) for name, tensor in sorted(self.weights.items())}
        return {"source": source, "parameters": shapes}

    def _cases(self, surface: str, shapes: tuple[tuple[int, ...], ...] = SHAPES) -> list[Case]:
        """Generated inputs, and what the reference gives for them; only for what is to be verified."""
        sliced = self.slices[surface]
        with self.watch.stage("reference"):
            return make_cases(sliced, surface_inputs(self.model, sliced), self.wide, self.options.seed, shapes)

    # ---- a surface -----------------------------------------------------------------------------

    def _surface(self, surface: str) -> dict[str, Any]:
        options, sliced = self.options, self.slices[surface]
        with self.watch.stage("passes"):
            optimised = optimise(self.graph, surface, options.level, options.without, options.logits, options.cpu)
        with self.watch.stage("constants"):
            folded, mine = constants.fold(optimised, self.wide)
        with self.watch.stage("print"):
            rendered = render_surface(folded, self.model.path, options.logits)
        verify = partial(self._verify, surface, folded, mine, is_rounded(optimised))
        code = torchscript.without_comments(rendered.source)
        key = self.keys.of((sliced, optimised), code, [p.path for _, p in optimised.params])
        kept = self.earlier.find(surface, key)
        if kept:
            content, verified = kept.content, kept.entry["verified"]
        else:
            content, verified = self._make(surface, rendered, mine, verify)
        file, source = f"surfaces/{surface}.pt", rendered.source.encode()
        self.files[file], self.files[f"surfaces/{surface}.py"] = content, source
        entry = surface_entry(self.model, optimised, file, content, source, options.logits, self.known)
        if options.level >= 3:
            difference = verified["largest_difference"]
            entry["precision"] = precision_entry(optimised, options.cpu, options.max_error, difference)
        if "aoti" in options.targets:
            entry["targets"]["aoti"] = self._ahead(key, folded, entry["inputs"], mine, verify)
        return {**entry, "verified": verified, "key": key}

    def _ahead(
        self,
        key: str,
        folded: Graph,
        inputs: Sequence[Mapping[str, Any]],
        mine: Mapping[str, Tensor],
        verify: aoti.Verify,
    ) -> dict[str, Any]:
        """What the manifest says of a surface's package and program, made unless the earlier build has them."""
        surface = folded.surface or ""
        made = aoti.kept(self.earlier, surface, key)
        if made is None:
            with self.watch.stage("AOTInductor"):
                made = aoti.compile_ahead(folded, self.model.path, self.options.logits, inputs, mine, verify)
        self.files.update(made.files(surface))
        return made.entry(surface)

    def _make(
        self, surface: str, rendered: Rendered, mine: Mapping[str, Tensor], verify: aoti.Verify
    ) -> tuple[Content, dict[str, Any]]:
        """The frozen file of a surface, verified, and what that found."""
        with self.watch.stage("TorchScript"):
            eager = _eager(surface, rendered, mine)
            # What is verified is what the file holds.
            content, served = torchscript.store(torchscript.freeze(eager), torchscript.size(eager))
        error = verify(eager, served)
        return content, {"calls": len(self.cases(surface)), "largest_difference": float(f"{error:.3g}")}

    def _verify(
        self,
        surface: str,
        folded: Graph,
        mine: Mapping[str, Tensor],
        rounded: bool,
        eager: nn.Module,
        served: Served,
    ) -> float:
        """The largest difference of a surface's source and file from the reference."""
        sliced, cases = self.slices[surface], self.cases(surface)
        with self.watch.stage("verify"):
            if not rounded:
                return verify_surface(sliced, folded, eager, served, cases, mine)
            self.verify_unrounded(surface)
        cases = [*cases, *self.cases(surface, (MANY,))]
        with self.watch.stage("verify"):
            return verify_rounded(sliced, served, cases, self.options.max_error)

    def _verify_unrounded(self, surface: str) -> None:
        """Checks, in float64, all that a surface in fewer bits is before its numbers are rounded."""
        options = self.options
        exact = optimise(self.graph, surface, options.level, (*options.without, "precision"), options.logits)
        folded, mine = constants.fold(exact, self.wide)
        rendered = render_surface(folded, self.model.path, options.logits)
        eager = _eager(surface, rendered, mine)
        verify_source(self.slices[surface], folded, eager, self.cases(surface), mine)

    # ---- all surfaces --------------------------------------------------------------------------

    def _script_unified(self, surfaces: tuple[str, ...]) -> tuple[dict[str, Any], torch.jit.ScriptModule | None]:
        """What the manifest says of the unified model, and its script unless the earlier build has it."""
        verified = f"{', '.join(surfaces)}\n"  # with --surface, only these are
        code = torchscript.without_comments(self.source)
        key = self.keys.of((self.graph,), verified + code, tuple(self.weights))
        kept = self.earlier.find("", key)
        scripted = None
        if kept:
            content = kept.content
        else:
            with self.watch.stage("TorchScript"):
                size = torchscript.size(self.unified)
                content, scripted = torchscript.store(torchscript.script(self.unified), size)
        self.files["unified.pt"] = content
        methods = {surface: method(surface) for surface in self.graph.surfaces}
        return {"file": "unified.pt", "sha256": digest(content), "methods": methods, "key": key}, scripted

    def _verify_unified(self, scripted: torch.jit.ScriptModule, surfaces: tuple[str, ...]) -> None:
        cases = {surface: self.cases(surface) for surface in surfaces}
        slices = {surface: self.slices[surface] for surface in surfaces}
        with self.watch.stage("verify"):
            verify_unified(self.graph, slices, self.unified, scripted, cases, self.wide)


def _eager(surface: str, rendered: Rendered, weights: Mapping[str, Tensor]) -> nn.Module:
    """A surface's generated module with its weights."""
    module = torchscript.load_source(rendered.source, surface)
    return torchscript.fill(getattr(module, rendered.cls)(), weights).eval().requires_grad_(False)


def _shown(options: Options) -> dict[str, Any]:
    shown = {
        "level": options.level,
        "seed": options.seed,
        "without": list(options.without),
        "logits": options.logits,
    }
    if options.level < 3:
        return {**shown, "precision": "float32"}
    return {**shown, "precision": "mixed", "cpu": options.cpu, "max_error": options.max_error}
