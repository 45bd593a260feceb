"""What a process holds that serves every surface: a file for each, or one file with the trunk's weights once."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import torch
from torch.jit._fuser import optimized_execution

import towerspec
from benchmarks.machine import resident_mib
from benchmarks.process import ROOT, apart
from benchmarks.results import Result, Table
from towerspec.check import check
from towerspec.emit.build import Options, compile_spec

SPEC = ROOT / "specs" / "thirty_two.tower"
SMALL = ROOT / "specs" / "quickstart.tower"
WAYS = {"separate": "a file for each surface", "unified": "unified.pt"}
CANDIDATES = 64


def run(quick: bool = False) -> Result:
    """Compiles the spec, and loads all of its surfaces in both ways, each in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        build = Path(name) / "build"
        document = compile_spec(check(SMALL if quick else SPEC), build, Options())
        surfaces = document["surfaces"].values()
        sizes = {"separate": sum(s["file_bytes"] for s in surfaces), "unified": (build / "unified.pt").stat().st_size}
        held = {way: min(apart("memory", build, way) for _ in range(1 if quick else 3)) for way in WAYS}
    rows = [
        {"loaded": WAYS[way], "files, MiB": sizes[way] / 2**20, "memory, MiB": held[way]}
        | {"against unified.pt": held[way] / held["unified"]}
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
    if way == "separate":
        for surface in bundle.surfaces.values():
            surface(inputs_of(bundle, surface.name))
        return resident_mib() - before
    unified = bundle.unified()
    with torch.inference_mode(), optimized_execution(False):
        for name in bundle.surfaces:
            getattr(unified, name)(*inputs_of(bundle, name).values())
    return resident_mib() - before


def inputs_of(bundle: towerspec.Bundle, surface: str) -> dict[str, torch.Tensor]:
    """A surface's inputs, from the manifest alone."""
    from towerspec.runtime.samples import sample

    return sample(bundle.manifest["surfaces"][surface]["inputs"], [CANDIDATES], 0)


if __name__ == "__main__":
    print(json.dumps(held(Path(sys.argv[1]), sys.argv[2])))
