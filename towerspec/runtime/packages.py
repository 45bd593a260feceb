"""AOTInductor packages: a surface compiled by a C++ compiler, called as its TorchScript is."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from towerspec.runtime.samples import COUNTS

# What torch says of a CPU, least first; code compiled for one of them stops the process on a lesser one.
CAPABILITIES = ("DEFAULT", "AVX2", "AVX512")


class Package:
    """A package as a callable on tensors in the manifest's order; several threads may call it at once."""

    def __init__(self, path: Path, entries: Sequence[Mapping[str, Any]]) -> None:
        """Loads a `.pt2` whose inputs are the manifest's `entries`. Raises `RuntimeError` where torch can't."""
        runners = os.cpu_count() or 1  # calls at once; more of them wait
        self._loader = torch._C._aoti.AOTIModelPackageLoader(str(path), "model", False, runners, -1)
        self._counted = any(entry["name"] == COUNTS for entry in entries)
        self._request = next((i for i, e in enumerate(entries) if e["shape"][0] == "R"), 0)
        self._candidate = next((i for i, e in enumerate(entries) if e["shape"][0] == "N"), 0)
        self._inputs = len(entries)

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """The outputs in the manifest's order; `candidates_per_request` may be left out as for TorchScript."""
        tensors = list(inputs)
        if self._counted:
            r, n = tensors[self._request].size(0), tensors[self._candidate].size(0)
            if r == 1 or len(tensors) < self._inputs:  # one request has all, or each has one
                like = tensors[self._request]
                counts = torch.full([r], n if r == 1 else 1, dtype=torch.int64, device=like.device)
                tensors[self._inputs - 1 :] = [counts]
        return self._loader.boxed_run(tensors)


def runs_here(capability: str) -> bool:
    """Whether this machine's CPU has what a package was compiled for."""
    here = torch.backends.cpu.get_cpu_capability()
    if capability in CAPABILITIES and here in CAPABILITIES:
        return CAPABILITIES.index(capability) <= CAPABILITIES.index(here)
    return capability == here
