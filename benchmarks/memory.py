"""What a process holds that serves every surface: a file for each, sharing their weights or not, or one for all."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import torch
from torch.jit._fuser import optimized_execution

import towerspec
from benchmarks.generated import spec_text
from benchmarks.machine import resident_mib
from benchmarks.process import apart
from benchmarks.results import Result, Table
from towerspec.check import check_text
from towerspec.emit.build import compile_spec

SURFACES = 32
WAYS = {
    "shared": "towerspec.load: a file for each surface, equal weights once",
    "separate": "torch.jit.load of each surface's file",
    "unified": "unified.pt",
}
CANDIDATES = 64


def run(quick: bool = False) -> Result:
    """Compiles the spec, and loads all of its surfaces in both ways, each in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        build = Path(name) / "build"
        document = compile_spec(check_text(spec_text(2 if quick else SURFACES)), build)
        surfaces = document["surfaces"].values()
        whole = sum(s["file_bytes"] for s in surfaces)
        sizes = {"shared": whole, "separate": whole, "unified": (build / "unified.pt").stat().st_size}
        held = {way: min(apart("memory", build, way) for _ in range(1 if quick else 3)) for way in WAYS}
    rows = [
        {"loaded": WAYS[way], "files, MiB": sizes[way] / 2**20, "memory, MiB": held[way]}
        | {"against torch.jit.load": held[way] / held["separate"]}
        for way in WAYS
    ]
    note = f"{len(surfaces)} surfaces, each called once with {CANDIDATES} candidates; torch's own memory is taken off."
    return Result("memory", [Table("One process, all surfaces", rows, note)])


def held(build: Path, way: str) -> float:
    """Resident memory that loading and calling all surfaces adds, in MiB."""
    torch.set_num_threads(1)
    torch.randn(64, 64) @ torch.randn(64, 64)
    before = resident_mib()
    bundle = towerspec.load(build)
    if way == "shared":
        for surface in bundle.surfaces.values():
            surface(inputs_of(bundle, surface.name))
        return resident_mib() - before
    unified = bundle.unified() if way == "unified" else None
    modules = []  # all of them stay loaded
    with torch.inference_mode(), optimized_execution(False):
        for name, entry in bundle.manifest["surfaces"].items():
            modules.append(getattr(unified, name) if unified else torch.jit.load(str(build / entry["file"])))
            modules[-1](*inputs_of(bundle, name).values())
    return resident_mib() - before


def inputs_of(bundle: towerspec.Bundle, surface: str) -> dict[str, torch.Tensor]:
    """A surface's inputs, from the manifest alone."""
    from towerspec.runtime.samples import sample

    return sample(bundle.manifest["surfaces"][surface]["inputs"], [CANDIDATES], 0)


if __name__ == "__main__":
    print(json.dumps(held(Path(sys.argv[1]), sys.argv[2])))
