"""A build, loaded: each surface as a callable on inputs by name."""

from __future__ import annotations

import hashlib
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
from towerspec.runtime.entries import read_entries
from towerspec.runtime.inputs import NO_VOCABULARIES, Boundary
from towerspec.runtime.packages import Package, runs_here
from towerspec.runtime.samples import draw, sample
from towerspec.runtime.sharing import Pool
from towerspec.runtime.vocabulary import Vocabulary

TORCHSCRIPT = "torchscript"  # the target that every build has


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

    @property
    def inputs(self) -> list[dict[str, Any]]:
        """The inputs in call order, as the manifest describes them."""
        return list(self.entry["inputs"])

    @property
    def outputs(self) -> list[str]:
        """The names of the outputs, in order."""
        return [o["name"] for o in self.entry["outputs"]]

    def __call__(self, inputs: Mapping[str, Any], strict: bool = False) -> dict[str, Any]:
        """The predictions by head: `[N]`, or `[N, classes]`, one row a candidate, calibrated.

        `inputs` are tensors, NumPy arrays or lists by name; the results are arrays where no tensor came in (and NumPy
        is installed). A head that the request's branch arm doesn't have is NaN.

        Raises:
            SpecError: an input is missing, unknown or malformed (T702 to T706); with `strict`, also where a value
                has no meaning of its own (T707).
        """
        tensors = self.boundary.prepare(inputs, strict)
        # Passes have optimised the graph already. TorchScript's own executor would do so again, at run time: it takes
        # hundreds of milliseconds for the first calls, and more whenever shapes change. The switch is this thread's.
        with torch.inference_mode(), optimized_execution(False):
            results = self.module(*tensors)
        as_tensors = any(isinstance(x, Tensor) for x in inputs.values()) or not find_spec("numpy")
        return {name: x if as_tensors else x.numpy() for name, x in zip(self.outputs, results, strict=True)}

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
        """Inputs with raw ids where there are rows of a vocabulary."""
        tables = {e["name"]: self.vocabularies.get(e.get("vocabulary", "")) for e in self.entry["inputs"]}
        return {name: x if (table := tables[name]) is None else table.raw(x) for name, x in rows.items()}


class Surfaces(Mapping[str, Surface]):
    """The surfaces of a build by name, each loaded when it is first asked for."""

    def __init__(self, folder: Path, manifest: Mapping[str, Any], device: str, target: str) -> None:
        self._folder, self._manifest, self._device, self._target = folder, manifest, device, target
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
        read_entries(name, entry.get("inputs"))
        module: Callable[..., Sequence[Tensor]]
        if self._target == TORCHSCRIPT:
            module = load_script(self._folder / entry["file"], entry["sha256"], self._device)
            self._pool.share(module)
        else:
            module = load_package(self._folder, entry, self._device)
        return Surface(name, entry, module, self._vocabularies_of(entry), self._device)

    def _vocabularies_of(self, entry: Mapping[str, Any]) -> dict[str, Vocabulary]:
        needed = {e["vocabulary"]: e["range"][1] + 1 for e in entry["inputs"] if "vocabulary" in e}
        fresh = {path for path in needed if path not in self._vocabularies}
        if fresh:
            content = json.loads(read_checked(self._folder / "vocabularies.json", self._manifest["files"]))
            self._vocabularies.update({path: Vocabulary(content[path], needed[path]) for path in fresh})
        return {path: self._vocabularies[path] for path in needed}


class Bundle:
    """A loaded build: its manifest, and its surfaces by name."""

    def __init__(self, folder: Path, manifest: dict[str, Any], device: str = "cpu", target: str = TORCHSCRIPT) -> None:
        self.folder, self.manifest = folder, manifest
        self.surfaces: Mapping[str, Surface] = Surfaces(folder, manifest, device, target)
        self._device = device

    def unified(self) -> torch.jit.ScriptModule:
        """The unified model with one method a surface, for servers that hold several surfaces at once."""
        return load_script(self.folder / "unified.pt", self.manifest["files"]["unified.pt"], self._device)


def load(build: str | Path, device: str = "cpu", target: str = TORCHSCRIPT) -> Bundle:
    """Loads a build folder: its surfaces' TorchScript, or with `target="aoti"` their AOTInductor packages.

    Raises:
        SpecError: the folder holds no build, one that this version can't read, or none for the target (T701).
    """
    folder = Path(build)
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise _no_build(folder, "it has no manifest.json") from error
    except ValueError as error:
        raise _no_build(folder, "its manifest.json is not valid") from error
    if not isinstance(manifest, dict) or manifest.get("format") != 1:
        raise _no_build(folder, "its manifest has a format that this version of towerspec doesn't know")
    targets = {TORCHSCRIPT, *(t for entry in manifest["surfaces"].values() for t in entry.get("targets", {}))}
    if target not in targets:
        why = f"it has no target `{target}`; its targets are {listing(sorted(targets))}"
        raise _no_build(folder, why, "make one with `towerspec compile --target aoti`")
    return Bundle(folder, manifest, device, target)


def load_package(folder: Path, entry: Mapping[str, Any], device: str) -> Package:
    """A surface's package, if it is the one that the manifest names and this machine can run it."""
    made = entry["targets"]["aoti"]
    path = folder / made["file"]
    read_checked(path, {path.name: made["sha256"]})
    if torch.device(device).type != "cpu":
        raise _no_build(folder, f"`{path.name}` was compiled for the CPU, not for `{device}`", "leave `target` out")
    if not runs_here(made["cpu"]):
        here = torch.backends.cpu.get_cpu_capability()
        raise _no_build(folder, f"`{path.name}` was compiled for {made['cpu']}, and this machine's CPU has {here}")
    try:
        return Package(path, entry["inputs"])
    except RuntimeError as error:
        raise _no_build(folder, f"`{path.name}` can't be loaded: {str(error).splitlines()[0]}") from error


def load_script(path: Path, sha256: str, device: str) -> torch.jit.ScriptModule:
    """A TorchScript file of a build, if it is the one that the manifest names."""
    content = read_checked(path, {path.name: sha256})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit.*deprecated.*")
        return torch.jit.load(io.BytesIO(content), map_location=device).eval()


def read_checked(path: Path, digests: Mapping[str, str]) -> bytes:
    """A file of a build, if it is the one that the manifest names."""
    folder = path.parent.parent if path.parent.name == "surfaces" else path.parent
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _no_build(folder, f"`{path.name}` can't be read") from error
    if hashlib.sha256(content).hexdigest() != digests.get(path.name):
        raise _no_build(folder, f"`{path.name}` is not the file that the manifest names")
    return content


def _no_build(folder: Path, why: str, help: str = "make one with `towerspec compile`") -> SpecError:
    return SpecError(Diagnostic("T701", f"`{folder}` holds no usable build: {why}", help=help))
