"""The compile: from a checked spec to a build folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from towerspec.check import Checked
from towerspec.cpu import this_cpu
from towerspec.emit import aoti, constants, torchscript, vocabularies
from towerspec.emit.contents import Content, digest, read
from towerspec.emit.folder import check_target, write
from towerspec.emit.manifest import manifest, surface_entry
from towerspec.emit.names import class_name, method
from towerspec.emit.python import Rendered, render_model, render_surface
from towerspec.emit.reuse import Earlier, Keys
from towerspec.emit.rounding import MAX_ERROR, is_rounded, precision_entry
from towerspec.emit.verify import Logged, Served, Verified, Verifier
from towerspec.emit.wide import Wide
from towerspec.ir.graph import Graph
from towerspec.ir.verify import verify
from towerspec.passes import check_names, optimise, slice_surface
from towerspec.watch import Watch
from towerspec.weights import match, read_safetensors

Progress = Callable[[str], None]
Verify = Callable[[nn.Module, Served], Verified]  # from the module of the code, and what the file holds
VERIFICATION = 2  # a file that was verified otherwise is made and verified anew


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
    samples: Path | None = None  # of -O3: a log, on whose rows that is measured


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
            compute what the spec says (T606) or, rounded, is too far from it (T613), a custom module mixes rows (T620),
            a surface or pass is unknown (T607, T609), `out` can't be written (T608), AOTInductor lacks a compiler, or
            can't compile a surface (T611, T612), or the samples can't be read (T621, T810 to T817).
    """
    _, graph = checked.sound()
    check_names(graph, options.surfaces, options.without)
    check_target(out)
    if "aoti" in options.targets:
        aoti.check_compiler()
    options = replace(options, cpu=options.cpu or this_cpu())
    watch = watch or Watch()
    progress("model.py")
    with torchscript.small_calls():
        earlier = Earlier(out) if options.fresh else Earlier.read(out)
        document, files = _Compile(checked, options, earlier, watch).run(progress)
    files["manifest.json"] = (json.dumps(document, indent=2) + "\n").encode()
    with watch.stage("write"):
        write(out, files)
    return document


class _Compile:
    """One compile: the model's parameters, and the files made so far."""

    def __init__(self, checked: Checked, options: Options, earlier: Earlier, watch: Watch) -> None:
        model, graph = checked.sound()
        verify(graph)
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
        nulls = vocabularies.null_words(beside) if beside else []
        samples = (
            Logged(checked, options.samples, self.known, nulls) if options.samples and options.level >= 3 else None
        )
        self.keys = Keys(self.weights, {**_shown(options), "verification": VERIFICATION, "samples": _digest(samples)})
        self.verifier = Verifier(model, graph, self.slices, self.wide, options, watch, samples)
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
            self.verifier.unified(self.unified, scripted, surfaces)
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

    # ---- a surface -----------------------------------------------------------------------------

    def _surface(self, surface: str) -> dict[str, Any]:
        options, sliced = self.options, self.slices[surface]
        with self.watch.stage("passes"):
            optimised = optimise(self.graph, surface, options.level, options.without, options.logits, options.cpu)
        with self.watch.stage("constants"):
            folded, mine = constants.fold(optimised, self.wide)
        with self.watch.stage("print"):
            rendered = render_surface(folded, self.model.path, options.logits)
        verify = partial(self.verifier.surface, surface, folded, mine, is_rounded(optimised))
        code = torchscript.without_comments(rendered.source)
        key = self.keys.of((sliced, optimised), code, [p.path for _, p in optimised.params])
        kept = self.earlier.find(surface, key)
        if kept:
            content, verified = kept.content, kept.entry["verified"]
            errors = kept.entry.get("precision", {}).get("errors", [])
        else:
            content, found = self._make(surface, rendered, mine, verify)
            verified, errors = self.verifier.entry(surface, found), list(found.errors)
        file, source = f"surfaces/{surface}.pt", rendered.source.encode()
        self.files[file], self.files[f"surfaces/{surface}.py"] = content, source
        entry = surface_entry(self.model, optimised, file, content, source, options.logits, self.known)
        if options.level >= 3:
            difference = verified["largest_difference"]
            entry["precision"] = precision_entry(optimised, options.cpu, options.max_error, difference, errors)
        if "aoti" in options.targets:
            entry["targets"]["aoti"] = self._ahead(key, folded, entry["inputs"], mine, verify)
        return {**entry, "verified": verified, "key": key}

    def _ahead(
        self,
        key: str,
        folded: Graph,
        inputs: Sequence[Mapping[str, Any]],
        mine: Mapping[str, Tensor],
        verify: Verify,
    ) -> dict[str, Any]:
        """What the manifest says of a surface's package and program, made unless the earlier build has them."""
        surface = folded.surface or ""
        made = aoti.kept(self.earlier, surface, key)
        if made is None:
            with self.watch.stage("AOTInductor"):
                made = aoti.compile_ahead(
                    folded, self.model.path, self.options.logits, inputs, mine, lambda *of: verify(*of).largest
                )
        self.files.update(made.files(surface))
        return made.entry(surface)

    def _make(
        self, surface: str, rendered: Rendered, mine: Mapping[str, Tensor], verify: Verify
    ) -> tuple[Content, Verified]:
        """The frozen file of a surface, verified, and what that found."""
        with self.watch.stage("TorchScript"):
            eager = torchscript.instance(rendered.source, rendered.cls, surface, mine)
            # What is verified is what the file holds.
            content, served = torchscript.store(torchscript.freeze(eager), torchscript.size(eager))
        return content, verify(eager, served)

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


def _digest(samples: Logged | None) -> str:
    return samples.digest if samples else ""


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
