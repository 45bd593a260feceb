"""The compile: from a checked spec to a build folder, written whole or not at all."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from towerspec.check import Checked
from towerspec.check.model import Model
from towerspec.diagnostics import Diagnostic, SpecError
from towerspec.emit import constants, torchscript, vocabularies
from towerspec.emit.manifest import digest, manifest, surface_entry, surface_inputs
from towerspec.emit.names import class_name
from towerspec.emit.python import render_model, render_surface
from towerspec.emit.verify import Case, make_cases, verify_surface, verify_unified
from towerspec.ir.graph import Graph
from towerspec.ir.verify import verify
from towerspec.passes import check_names, optimise, slice_surface
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


def compile_spec(
    checked: Checked, out: Path, options: Options = Options(), progress: Progress = lambda step: None
) -> dict[str, Any]:
    """Compiles a checked spec into the folder `out` and returns its manifest.

    Every graph is compared with the float64 reference before it is written. The folder appears whole or
    not at all, and a previous build stays as it was until then.

    Raises:
        SpecError: the spec has errors, the weights or vocabularies don't fit (T601 to T605, T610), a graph doesn't
            compute what the spec says (T606), a surface or pass is unknown (T607, T609), or `out` can't be written
            (T608).
    """
    model, graph = checked.sound()
    check_names(graph, options.surfaces, options.without)
    check_target(out)
    progress("model.py")
    with torchscript.small_calls():
        files, entries, weights = _compile(model, verify(graph), options, progress)
    document = manifest(model, _shown(options), {"torch": torch.__version__}, weights, files, entries)
    files["manifest.json"] = (json.dumps(document, indent=2) + "\n").encode()
    _write(out, files)
    return document


def _shown(options: Options) -> dict[str, Any]:
    return {
        "level": options.level,
        "seed": options.seed,
        "without": list(options.without),
        "logits": options.logits,
        "precision": "float32",
    }


def _compile(
    model: Model, graph: Graph, options: Options, progress: Progress
) -> tuple[dict[str, bytes], dict[str, Any], dict[str, Any]]:
    slices = {surface: verify(slice_surface(graph, surface)) for surface in graph.surfaces}
    source = render_model(graph, slices, model.path)
    file, beside = vocabularies.locate(options.weights) if options.weights else (None, None)
    options = replace(options, weights=file)
    unified = _unified(graph, source, options)
    known = vocabularies.read_vocabularies(model, beside) if beside else {}
    weights: dict[str, Tensor] = {**dict(unified.named_parameters()), **dict(unified.named_buffers())}
    # The reference computes in float64: widened once, and not again for each call of each surface.
    wide = {name: x.double() if x.is_floating_point() else x for name, x in weights.items()}
    cases: dict[str, list[Case]] = {}
    files: dict[str, bytes] = {"model.py": source.encode()}
    if known:
        files[vocabularies.FILE] = (json.dumps(known, ensure_ascii=False) + "\n").encode()
    entries: dict[str, Any] = {}
    for surface in options.surfaces or graph.surfaces:
        progress(f"surface {surface}")
        cases[surface] = make_cases(slices[surface], surface_inputs(model, slices[surface]), wide, options.seed)
        optimised = optimise(graph, surface, options.level, options.without, options.logits)
        entry, made = _surface(model, slices[surface], optimised, options, wide, cases[surface], known)
        files.update(made)
        entries[surface] = entry
    progress("unified.pt")
    scripted = torchscript.script(unified)
    verify_unified(graph, {s: slices[s] for s in cases}, unified, scripted, cases, wide)
    files["unified.pt"] = torchscript.to_bytes(scripted)
    return files, entries, _weights_entry(options, weights)


def _unified(graph: Graph, source: str, options: Options) -> nn.Module:
    module = torchscript.load_source(source, "model")
    unified: nn.Module = getattr(module, class_name(graph.model))(seed=options.seed)
    if options.weights is not None:
        torchscript.fill(unified, match(graph, read_safetensors(options.weights)))
    return unified.eval().requires_grad_(False)


def _weights_entry(options: Options, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    source = f"sha256:{digest(options.weights.read_bytes())}" if options.weights else f"seed:{options.seed}"
    return {"source": source, "parameters": {name: list(tensor.shape) for name, tensor in sorted(weights.items())}}


def _surface(
    model: Model,
    sliced: Graph,
    optimised: Graph,
    options: Options,
    weights: Mapping[str, Tensor],
    cases: list[Case],
    known: Collection[str],
) -> tuple[dict[str, Any], dict[str, bytes]]:
    surface = sliced.surface or ""
    folded, mine = constants.fold(optimised, weights)
    rendered = render_surface(folded, model.path, options.logits)
    module = torchscript.load_source(rendered.source, surface)
    eager = torchscript.fill(getattr(module, rendered.cls)(), mine).eval().requires_grad_(False)
    content = torchscript.to_bytes(torchscript.freeze(eager))
    served = torchscript.from_bytes(content)  # what is verified is what the file holds
    error = verify_surface(sliced, folded, rendered, eager, served, cases, mine)
    file, source = f"surfaces/{surface}.pt", rendered.source.encode()
    entry = surface_entry(model, optimised, file, content, source, options.logits, known)
    entry["verified"] = {"calls": len(cases), "largest_difference": float(f"{error:.3g}")}
    return entry, {file: content, f"surfaces/{surface}.py": source}


# ---- writing -----------------------------------------------------------------------------------


def check_target(out: Path) -> None:
    """Raises `SpecError` (T608) where `out` can't be written: only a build or an empty folder is replaced."""
    if out.is_symlink() or out.exists():
        if not out.is_dir():
            raise _unwritable(out, "it is not a folder")
        if any(out.iterdir()) and not (out / "manifest.json").is_file():
            raise _unwritable(out, "it holds other files and no build")
    parent = out.resolve().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise _unwritable(out, f"`{parent}` can't be written to")


def _unwritable(out: Path, why: str) -> SpecError:
    return SpecError(
        Diagnostic("T608", f"the build can't be written to `{out}`: {why}", help="give another folder with `-o`")
    )


def _write(out: Path, files: Mapping[str, bytes]) -> None:
    """Writes all files beside the target, then puts the folder in its place at once."""
    out = out.resolve()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise _unwritable(out, error.strerror or str(error)) from error
    try:
        for name, content in files.items():
            path = fresh / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        fresh.chmod(0o755)
        _swap(fresh, out)
    except OSError as error:
        raise _unwritable(out, error.strerror or str(error)) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _swap(fresh: Path, out: Path) -> None:
    """Moves the new folder to its place; where an old one stands there, the two change places in one step."""
    if not out.exists():
        fresh.rename(out)
    elif not _exchange(fresh, out):
        old = fresh.with_name(f"{fresh.name}.old")
        out.rename(old)
        fresh.rename(out)
        shutil.rmtree(old)


def _exchange(a: Path, b: Path) -> bool:
    """Linux's renameat2 with RENAME_EXCHANGE; false where the system has none."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if renameat2(here, os.fsencode(a), here, os.fsencode(b), exchange) == 0:
        return True
    if ctypes.get_errno() in (errno.ENOSYS, errno.EINVAL):
        return False
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
