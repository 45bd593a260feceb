"""Ahead of time: torch.export's program of a surface, and the AOTInductor package that a C++ compiler makes of it."""

from __future__ import annotations

import io
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config as symbolic

from towerspec.diagnostics import Diagnostic, SpecError
from towerspec.emit import torchscript
from towerspec.emit.contents import Content, digest
from towerspec.emit.python import render_surface
from towerspec.emit.reuse import Earlier
from towerspec.emit.verify import Served
from towerspec.ir.graph import Graph
from towerspec.runtime.packages import Package
from towerspec.runtime.samples import sample

ROWS = (32, 0, 32)  # candidates of the example's requests: what the compiler takes for an ordinary call
CONFIG = {"cpp.dynamic_threads": True}  # as many threads as the server sets, and not as many as compile


Verify = Callable[[nn.Module, Served], float]  # from the module of the code, and what the file holds


@dataclass(frozen=True)
class Ahead:
    """A surface's exported program and its package, both as a file's content, and the largest difference found."""

    program: Content
    package: Content
    error: float

    def files(self, surface: str) -> dict[str, Content]:
        """The files of a build by name."""
        return {f"surfaces/{surface}.pt2": self.package, f"surfaces/{surface}.export.pt2": self.program}

    def entry(self, surface: str) -> dict[str, Any]:
        """What the manifest says of them."""
        package, program = ({"file": file, "sha256": digest(x)} for file, x in self.files(surface).items())
        return {**package, "cpu": _cpu(), "largest_difference": float(f"{self.error:.3g}"), "program": program}


def kept(earlier: Earlier, surface: str, key: str) -> Ahead | None:
    """What an earlier build has of the same surface, compiled for this CPU."""
    package = earlier.find(surface, key, "targets", "aoti")
    program = earlier.find(surface, key, "targets", "aoti", "program")
    entry = package.entry if package else {}
    if package is None or program is None or entry.get("cpu") != _cpu():
        return None
    return Ahead(program.content, package.content, entry["largest_difference"])


def _cpu() -> str:
    return torch.backends.cpu.get_cpu_capability()


def check_compiler() -> None:
    """Raises `SpecError` (T611) where there is no C++ compiler."""
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except RuntimeError as error:
        raise SpecError(
            Diagnostic(
                "T611",
                "`--target aoti` needs a C++ compiler, and there is none",
                notes=(str(error),),
                help="install g++ or clang++, or name one in `CXX`; TorchScript, the default target, needs none",
            )
        ) from error


def compile_ahead(
    folded: Graph,
    spec_path: str,
    logits: bool,
    entries: Sequence[Mapping[str, Any]],
    weights: Mapping[str, Tensor],
    verify: Verify,
) -> Ahead:
    """A surface's program and package, each verified as it will be loaded.

    `folded` is the optimised graph, `entries` are the manifest's inputs, `weights` its parameters by path. Raises
    `SpecError`: what `verify` finds (T606), or one of them can't be made (T612), as with a user's module that
    torch.export doesn't follow.
    """
    surface = folded.surface or ""
    rendered = render_surface(folded, spec_path, logits, traceable=True)
    eager = torchscript.instance(rendered.source, rendered.cls, surface, weights, counted=False)
    program = _export(surface, eager, entries)
    exported = _saved(program)
    error = verify(eager, torch.export.load(io.BytesIO(exported)).module())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{surface}.pt2"
        _package(surface, program, path)
        content = path.read_bytes()
    error = max(error, verify(eager, Package(content, entries)))  # what is verified is what the file holds
    return Ahead(exported, content, error)


def export(model: nn.Module, entries: Sequence[Mapping[str, Any]], inputs: Sequence[Tensor]) -> ExportedProgram:
    """A surface's module as torch.export's program, for any number of requests and candidates, none and one included.

    `entries` are the manifest's inputs, `inputs` an example of several requests and candidates.
    """
    rows = {"R": Dim("requests", min=0), "N": Dim("candidates", min=0)}
    shapes = tuple({0: rows[entry["shape"][0]]} for entry in entries)
    with _any_rows(), torch.no_grad():
        return torch.export.export(model, tuple(inputs), dynamic_shapes=shapes, strict=False)


def _any_rows() -> Any:
    """Otherwise 0 and 1 are taken for special cases, and a program serves one of 0, of 1, or of 2 and more."""
    return symbolic.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]


def _export(surface: str, model: nn.Module, entries: Sequence[Mapping[str, Any]]) -> ExportedProgram:
    levels = {entry["level"] for entry in entries}
    counts = ROWS if levels == {"request", "candidate"} else (1,) * sum(ROWS) if "request" in levels else (sum(ROWS),)
    try:
        return export(model, entries, list(sample(entries, counts, 0).values()))
    except Exception as error:  # whatever a user's module raises
        raise _failed(surface, "torch.export doesn't follow its code", error) from error


def _saved(program: ExportedProgram) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def _package(surface: str, program: ExportedProgram, path: Path) -> None:
    try:
        with _any_rows(), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of torch about itself
            torch._inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=dict(CONFIG))
    except RuntimeError as error:  # torch's own kinds, the C++ compiler's among them
        raise _failed(surface, "AOTInductor doesn't compile it", error) from error


def _failed(surface: str, why: str, error: Exception) -> SpecError:
    lines = (line.strip() for line in getattr(error, "output", str(error)).splitlines())
    said = next((line for line in lines if line), type(error).__name__)
    return SpecError(
        Diagnostic(
            "T612",
            f"surface `{surface}` can't become an AOTInductor package: {why}",
            notes=(said, "nothing was written"),
            help="compile without `--target aoti`, or report this as a bug of towerspec or of the custom layer",
        )
    )
