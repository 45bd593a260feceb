"""AOTInductor packages: a surface compiled by a C++ compiler, called as its TorchScript is."""

from __future__ import annotations

import io
import json
import os
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from towerspec.runtime.samples import COUNTS

# What torch says of a CPU, least first; code compiled for one of them stops the process on a lesser one.
CAPABILITIES = ("DEFAULT", "AVX2", "AVX512")


_INSIDE = "/data/aotinductor/model/"  # of a package's archive: where torch puts the compiled code


class Package:
    """A package as a callable on tensors in the manifest's order; several threads may call it at once."""

    def __init__(self, content: bytes, entries: Sequence[Mapping[str, Any]]) -> None:
        """Loads a `.pt2` whose inputs are the manifest's `entries`. Raises what torch does where it can't.

        By torch's own loader, the folder that it unpacks into would stay where loading fails, and while it serves.
        """
        runners = os.cpu_count() or 1  # calls at once; more of them wait
        with tempfile.TemporaryDirectory(prefix="towerspec-") as folder:
            library = _unpack(content, Path(folder))
            self._runner = torch._C._aoti.AOTIModelContainerRunnerCpu(str(library), runners)
        self._counted = any(entry["name"] == COUNTS for entry in entries)
        self._request = next((i for i, e in enumerate(entries) if e["shape"][0] == "R"), 0)
        self._candidate = next((i for i, e in enumerate(entries) if e["shape"][0] == "N"), 0)
        self._inputs = len(entries)

    @property
    def signature(self) -> tuple[int, int]:
        """How many tensors it takes, and how many it gives."""
        takes, gives = (json.loads(spec)[1] for spec in self._runner.get_call_spec())
        return _leaves(takes), _leaves(gives)

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """The outputs in the manifest's order; `candidates_per_request` may be left out as for TorchScript."""
        tensors = list(inputs)
        if self._counted:
            r, n = tensors[self._request].size(0), tensors[self._candidate].size(0)
            if r == 1 or len(tensors) < self._inputs:  # one request has all, or each has one
                like = tensors[self._request]
                counts = torch.full([r], n if r == 1 else 1, dtype=torch.int64, device=like.device)
                tensors[self._inputs - 1 :] = [counts]
        return self._runner.run(tensors)


def _unpack(content: bytes, folder: Path) -> Path:
    """Puts a package's compiled code into a folder; the path of its library. Raises `ValueError` if it has none."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            if _INSIDE in name and not name.endswith((".cpp", "/")):
                (folder / Path(name).name).write_bytes(archive.read(name))
    library = next(folder.glob("*.so"), None)
    if library is None:
        raise ValueError("it holds no compiled model")
    return library


def _leaves(spec: Mapping[str, Any]) -> int:
    """How many tensors a tree of torch.utils._pytree, as JSON, has."""
    return 1 if spec["type"] is None else sum(map(_leaves, spec["children_spec"]))


def runs_here(capability: str) -> bool:
    """Whether this machine's CPU has what a package was compiled for."""
    here = torch.backends.cpu.get_cpu_capability()
    if capability in CAPABILITIES and here in CAPABILITIES:
        return CAPABILITIES.index(capability) <= CAPABILITIES.index(here)
    return capability == here
