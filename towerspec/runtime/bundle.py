"""A build, loaded: each surface as a callable on inputs by name."""

from __future__ import annotations

import io
import json
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.jit._fuser import optimized_execution

from towerspec.diagnostics import Diagnostic, SpecError, did_you_mean, listing
from towerspec.runtime import manifest as manifests
from towerspec.runtime.entries import read_entries
from towerspec.runtime.inputs import NO_VOCABULARIES, Boundary
from towerspec.runtime.manifest import TORCHSCRIPT, UNIFIED, VOCABULARIES
from towerspec.runtime.packages import Package, runs_here
from towerspec.runtime.pinned import Pinned, no_build, pin
from towerspec.runtime.samples import draw, sample
from towerspec.runtime.sharing import Pool
from towerspec.runtime.statistics import Seen, Statistics
from towerspec.runtime.vocabulary import Vocabulary


class Surface:
    """One surface of a build: call it with inputs by name.

    Safe to call from several threads at once.
    """

    def __init__(
        self,
        name: str,
        entry: Mapping[str, Any],
        module: Callable[..., Sequence[Tensor]],
        vocabularies: Mapping[str, Vocabulary] = NO_VOCABULARIES,
        device: str = "cpu",
    ) -> None:
        self.name, self.entry, self.module, self.vocabularies = name, entry, module, vocabularies
        self.boundary = Boundary(name, entry.get("inputs"), vocabularies, device)
        self._statistics = Statistics(self.boundary.inputs.values())

    @property
    def inputs(self) -> list[dict[str, Any]]:
        """The inputs in call order, as the manifest describes them."""
        return list(self.entry["inputs"])

    @property
    def outputs(self) -> list[str]:
        """The names of the outputs, in order."""
        return [o["name"] for o in self.entry["outputs"]]

    def __call__(self, inputs: Mapping[str, Any], strict: bool = False) -> dict[str, Any]:
        """The predictions by head: `[N]`, or `[N, classes]`, one row a candidate, calibrated; contiguous, and yours.

        `inputs` are tensors, NumPy arrays or lists by name; the results are arrays where no tensor came in (and NumPy
        is installed). A head that the request's branch arm doesn't have is NaN.

        Raises:
            SpecError: an input is missing, unknown or malformed (T702 to T706); with `strict`, also where a value
                has no meaning of its own (T707); or the graph itself fails, as where memory runs out (T708).
        """
        tensors = self.boundary.prepare(inputs, strict)
        self._statistics.add(self.boundary.inputs, tensors)
        # Passes have optimised the graph already. TorchScript's own executor would do so again, at run time: it takes
        # hundreds of milliseconds for the first calls, and more whenever shapes change. The switch is this thread's.
        with torch.inference_mode(), optimized_execution(False):
            try:
                results = self.module(*tensors)
            except Exception as error:  # whatever torch or a custom layer raises
                raise SpecError(
                    Diagnostic("T708", f"surface `{self.name}`: its graph failed", notes=(_said(error),))
                ) from error
        as_tensors = any(isinstance(x, Tensor) for x in inputs.values()) or not find_spec("numpy")
        return {name: x if as_tensors else x.numpy() for name, x in zip(self.outputs, results, strict=True)}

    def statistics(self) -> Mapping[str, Seen]:
        """How many ids were known, unknown and missing, by input: of the first 100 calls, then of one in 16."""
        return self._statistics.seen()

    def sample_inputs(
        self, candidates: int = 256, requests: int = 1, seed: int = 0, data: Any = None
    ) -> dict[str, Tensor]:
        """Valid inputs for `requests` requests with `candidates` candidates each: generated, or drawn from `data`.

        `data` is a mapping of columns by feature name (arrays, lists, a data frame), or the path of a Parquet file.
        """
        if data is None:
            return self._raw(sample(self.entry["inputs"], [candidates] * requests, seed))
        drawn = draw(self.entry["inputs"], data, candidates, requests, seed)
        return self.boundary.tensors(drawn)

    def _raw(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """Inputs with raw ids where there are rows of a vocabulary, or places among values."""
        tables = self.boundary.tables
        return {name: tables[name].raw(x) if name in tables else x for name, x in rows.items()}


class Surfaces(Mapping[str, Surface]):
    """The surfaces of a build by name, each loaded when it is first asked for."""

    def __init__(self, files: Pinned, manifest: Mapping[str, Any], device: str, target: str) -> None:
        self._files, self._manifest, self._device, self._target = files, manifest, device, target
        self._loaded: dict[str, Surface] = {}
        self._vocabularies: dict[str, Vocabulary] = {}  # surfaces share them
        self._pool = Pool()
        self._lock = threading.Lock()

    def __getitem__(self, name: str) -> Surface:
        with self._lock:
            if name not in self._loaded:
                self._loaded[name] = self._load(name)
            return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._manifest["surfaces"])

    def __len__(self) -> int:
        return len(self._manifest["surfaces"])

    def _load(self, name: str) -> Surface:
        entry = self._manifest["surfaces"].get(name)
        if entry is None:
            known = list(self)
            raise KeyError(
                f"no surface {name!r} in this build; it has {listing(known)}. {did_you_mean(name, known) or ''}".strip()
            )
        read_entries(name, entry["inputs"])
        load = self._script if self._target == TORCHSCRIPT else self._package
        return Surface(name, entry, load(entry), self._vocabularies_of(entry), self._device)

    def _script(self, entry: Mapping[str, Any]) -> Callable[..., Sequence[Tensor]]:
        content = self._files.read(entry["file"], entry["sha256"])
        try:
            module = load_script(content, self._device)
            _check_script(module, entry)
            self._pool.share(module)
        except Exception as error:  # torch has many kinds for what is no TorchScript
            raise self._no_build(f"`{entry['file']}` can't be loaded: {_said(error)}") from error
        return module

    def _package(self, entry: Mapping[str, Any]) -> Callable[..., Sequence[Tensor]]:
        """A surface's package, if this machine can run it."""
        made = entry.get("targets", {}).get(self._target)
        if made is None:
            raise self._no_build(f"a surface of it has no target `{self._target}`")
        file, cpu = made["file"], made["cpu"]
        content = self._files.read(file, made["sha256"])
        if str(self._device).split(":")[0] != "cpu":
            raise self._no_build(f"`{file}` was compiled for the CPU, not for `{self._device}`", "leave `target` out")
        if not runs_here(cpu):
            here = torch.backends.cpu.get_cpu_capability()
            raise self._no_build(f"`{file}` was compiled for {cpu}, and this machine's CPU has {here}")
        try:
            package = Package(content, entry["inputs"])
            _check_signature(package.signature, entry)
        except Exception as error:  # torch has many kinds for what it can't load
            raise self._no_build(f"`{file}` can't be loaded: {_said(error)}") from error
        return package

    def _vocabularies_of(self, entry: Mapping[str, Any]) -> dict[str, Vocabulary]:
        needed = {e["vocabulary"]: e["range"][1] + 1 for e in entry["inputs"] if "vocabulary" in e}
        fresh = {path for path in needed if path not in self._vocabularies}
        if fresh:
            content = self._files.read(VOCABULARIES, self._manifest["files"].get(VOCABULARIES))
            try:
                known = json.loads(content)
                self._vocabularies.update({path: Vocabulary(known[path], needed[path]) for path in fresh})
            except (ValueError, TypeError, KeyError, OverflowError, RecursionError, RuntimeError) as error:
                raise self._no_build(f"`{VOCABULARIES}` lacks what the manifest names, or isn't JSON") from error
        return {path: self._vocabularies[path] for path in needed}

    def _no_build(self, why: str, *help: str) -> SpecError:
        return no_build(self._files.folder, why, *help)


class Bundle:
    """A loaded build: its manifest, and its surfaces by name.

    It is one build for as long as it lives: its files were opened together, and what becomes of the folder, which a
    compile may replace or anyone delete, changes none of them.
    """

    def __init__(self, files: Pinned, manifest: dict[str, Any], device: str = "cpu", target: str = TORCHSCRIPT) -> None:
        self.folder, self.manifest = files.folder, manifest
        self.surfaces: Mapping[str, Surface] = Surfaces(files, manifest, device, target)
        self._files, self._device = files, device

    def unified(self) -> torch.jit.ScriptModule:
        """The unified model with one method a surface, for servers that hold several surfaces at once.

        Raises:
            SpecError: the build lacks it, or its file is not the one that the manifest names (T701).
        """
        content = self._files.read(UNIFIED, self.manifest["files"].get(UNIFIED))
        try:
            return load_script(content, self._device)
        except Exception as error:  # torch has many kinds for what is no TorchScript
            raise no_build(self.folder, f"`{UNIFIED}` can't be loaded: {_said(error)}") from error


def load(build: str | Path, device: str = "cpu", target: str = TORCHSCRIPT) -> Bundle:
    """Loads a build folder: its surfaces' TorchScript, or with `target="aoti"` their AOTInductor packages.

    A build's files are code and run as such: load what you, or those you trust, have compiled.

    Raises:
        SpecError: the folder holds no build, one that this version can't read, or none for the target (T701).
    """
    folder = Path(build)
    try:
        manifest, files = pin(folder, manifests.parse, lambda found: manifests.files(found, target))
    except manifests.Malformed as error:
        raise no_build(folder, str(error)) from error
    known = manifests.targets(manifest)
    if target not in known:
        why = f"it has no target `{target}`; its targets are {listing(known)}"
        raise no_build(folder, why, "make one with `towerspec compile --target aoti`")
    return Bundle(files, manifest, device, target)


def load_script(content: bytes, device: str) -> torch.jit.ScriptModule:
    """TorchScript from a file's content. Raises what torch does where it is none."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit.*deprecated.*")
        return torch.jit.load(io.BytesIO(content), map_location=device).eval()


def _check_script(module: torch.jit.ScriptModule, entry: Mapping[str, Any]) -> None:
    """Raises `ValueError` where a module has no `forward` from the entry's inputs to its outputs."""
    if not module._c._has_method("forward"):
        raise ValueError("it has no `forward`")
    schema = module._c._get_method("forward").schema
    (gives,) = (result.type for result in schema.returns)
    if gives.kind() != "TupleType" or any(x.kind() != "TensorType" for x in gives.elements()):
        raise ValueError("its `forward` returns no tuple of tensors")
    _check_signature((len(schema.arguments) - 1, len(gives.elements())), entry)  # but for `self`


def _check_signature(signature: tuple[int, int], entry: Mapping[str, Any]) -> None:
    """Raises `ValueError` where a graph takes or gives another number of tensors than the entry says."""
    named = (len(entry["inputs"]), len(entry["outputs"]))
    if signature != named:
        takes, gives = signature
        raise ValueError(
            f"it takes {takes} inputs and gives {gives} outputs, and the manifest names {named[0]} and {named[1]}"
        )


def _said(error: Exception) -> str:
    """What torch says is wrong, without the stacks around it."""
    lines = str(error).split("\nException raised from")[0].strip().splitlines() or [type(error).__name__]
    return lines[-1 if "TorchScript interpreter" in lines[0] else 0].strip()
