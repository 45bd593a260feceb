"""Whether one surface's graph stays as it is while the spec gains surfaces: latency, file, memory."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.jit._fuser import optimized_execution

import towerspec
from benchmarks.generated import spec_text
from benchmarks.machine import resident_mib
from benchmarks.process import apart
from benchmarks.results import Result, Row, Table
from benchmarks.timing import Call, interleave
from towerspec.check import check_text
from towerspec.emit.build import Options, compile_spec

COUNTS = (1, 8, 64, 256)
CANDIDATES = 256
SURFACE = "s0"
MIXED, SHARED = 289, 128  # the widths of the generated spec's mixed input and of its trunk


class AllTowers(nn.Module):
    """For scale: a model as multi-domain code often is, every domain's tower computed and the row's own picked."""

    def __init__(self, domains: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(MIXED, 1024), nn.ReLU(), nn.Linear(1024, SHARED), nn.ReLU())
        self.towers = nn.ModuleList(
            nn.Sequential(nn.Linear(SHARED, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 2))
            for _ in range(domains)
        )

    def forward(self, x: Tensor, domain: Tensor) -> Tensor:
        x = self.trunk(x)
        found = torch.zeros(x.size(0), 2)
        for i, tower in enumerate(self.towers):
            found = torch.where((domain == i).unsqueeze(1), tower(x), found)
        return found


def run(quick: bool = False) -> Result:
    """Compiles one surface of each spec, measures memory in processes apart and time in one."""
    counts = (1, 2) if quick else COUNTS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for count in counts:
            compile_spec(check_text(spec_text(count)), folder / str(count), Options(surfaces=(SURFACE,)))
        memory = {count: least_memory(folder / str(count), 1 if quick else 5) for count in counts}
        times = apart("flat", folder, "time", 3 if quick else 150, *counts)
        rows = [measured(folder, count, memory, times) for count in counts]
    first = rows[0]
    keys = {"median, ms": "latency", "file, MiB": "file", "memory, MiB": "memory"}
    ratios = [
        {"surfaces": row["surfaces"]}
        | {word: row[key] / first[key] for key, word in keys.items()}
        | {"all towers": row["all towers, ms"] / first["all towers, ms"]}
        for row in rows
    ]
    note = f"{CANDIDATES} candidates, one thread. `all towers` is a plain model that computes every domain's tower."
    return Result("flat", [Table("Against one surface", ratios, note), Table("Measured", rows)], {"times": times})


def measured(folder: Path, count: int, memory: dict[int, float], times: dict[str, Any]) -> Row:
    own, plain = times[str(count)], times[f"all {count}"]
    return {
        "surfaces": count,
        "median, ms": own["median"],
        "min, ms": own["min"],
        "file, MiB": (folder / str(count) / "surfaces" / f"{SURFACE}.pt").stat().st_size / 2**20,
        "memory, MiB": memory[count],
        "unified.pt, MiB": (folder / str(count) / "unified.pt").stat().st_size / 2**20,
        "all towers, ms": plain["median"],
    }


def least_memory(build: Path, times: int) -> float:
    """What loading and calling one graph adds to a process, the least of a few."""
    return min(apart("flat", build, "memory") for _ in range(times))


def memory(build: Path) -> float:
    """Resident memory with the graph loaded and called, less what torch itself takes."""
    torch.set_num_threads(1)
    torch.randn(64, 64) @ torch.randn(64, 64)
    before = resident_mib()
    surface = towerspec.load(build).surfaces[SURFACE]
    for seed in range(3):
        surface(surface.sample_inputs(CANDIDATES, seed=seed))
    return resident_mib() - before


def time(folder: Path, rounds: int, counts: list[str]) -> dict[str, Any]:
    """Summaries by number of surfaces, and `all N` of the plain model."""
    torch.set_num_threads(1)
    calls: dict[str, Call] = {}
    x, domain = torch.randn(CANDIDATES, MIXED), torch.zeros(CANDIDATES, dtype=torch.int64)
    for count in counts:
        surface = towerspec.load(folder / count).surfaces[SURFACE]
        values = list(surface.sample_inputs(CANDIDATES).values())
        calls[count] = lambda module=surface.module, values=values: module(*values)
        plain = AllTowers(int(count)).eval()
        calls[f"all {count}"] = lambda plain=plain: plain(x, domain)
    with torch.inference_mode(), optimized_execution(False):
        return {name: t.summary() for name, t in interleave(calls, 1, rounds, 60.0).items()}


if __name__ == "__main__":
    import json

    path, what, *rest = sys.argv[1:]
    print(json.dumps(memory(Path(path)) if what == "memory" else time(Path(path), int(rest[0]), rest[1:])))
