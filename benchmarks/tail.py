"""Whether calls of ever new sizes stay as fast as calls of one: the first after a load, and p99 over p50 at equal N.

With the loader, which switches TorchScript's run-time optimiser off, and with the file as TorchScript loads it, in
Python and in C++. Sizes that are measured alternate with random ones: no two calls in a row are alike.
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

import towerspec
from benchmarks.process import ROOT, apart, cpp_program
from benchmarks.results import Result, Row, Table
from benchmarks.timing import Times, quantile
from towerspec.check import check
from towerspec.emit.build import Options, compile_spec

SPEC = ROOT / "specs" / "ads_engagement.tower"
SMALL = ROOT / "specs" / "quickstart.tower"
SURFACE = "search"
SIZES = (1, 16, 64, 256, 1024)
RANDOM = 40  # sizes drawn for the calls between
FIRST = 5
WAYS = {
    "loader": "towerspec.load",
    "plain": "torch.jit.load",
    "cpp loader": "towerspec::Bundle",
    "cpp plain": "torch::jit::load",
}


def run(quick: bool = False) -> Result:
    """Compiles, then calls in each way, each in a fresh process."""
    sizes, times = (SIZES[:2], 3) if quick else (SIZES, 100)
    program = None if quick else cpp_program("tail")
    with tempfile.TemporaryDirectory() as name:
        build = Path(name)
        compile_spec(check(SMALL if quick else SPEC), build / "build", Options(surfaces=(SURFACE,)))
        plan = Plan.drawn(sizes, times)
        plan.write(build)
        found = {way: plan.summary(apart("tail", build, way)) for way in WAYS if not way.startswith("cpp")}
        if program:
            found |= {way: plan.summary(in_cpp(program, plan, build, way)) for way in WAYS if way.startswith("cpp")}
    first = [first_row(way, plan.sizes[plan.first], f) for way, f in found.items()]
    rows = [size_row(way, size, f["sizes"][size]) for way, f in found.items() for size in sizes]
    note = "One thread, a fresh process for each. `usual` is the median of the same size later."
    tables = [Table("First calls after a load", first, note), Table("Sizes at random, p99 over p50 at equal N", rows)]
    return Result("tail", tables, found)


class Plan:
    """Calls by the index of their size: the first few alike, then sizes that count, each after a random one."""

    def __init__(self, sizes: list[int], counted: int, order: list[int]) -> None:
        self.sizes, self.counted, self.order = sizes, counted, order
        self.first = order[0]

    @classmethod
    def drawn(cls, counted: tuple[int, ...], times: int) -> Plan:
        chance = random.Random(0)
        sizes = [*counted, *(chance.randint(1, max(counted)) for _ in range(RANDOM))]
        turns = list(range(len(counted))) * times
        chance.shuffle(turns)
        first = len(counted) - 1 if len(counted) < 4 else len(counted) - 2
        pairs = [i for turn in turns for i in (chance.randrange(len(counted), len(sizes)), turn)]
        return cls(sizes, len(counted), [first] * FIRST + pairs)

    def write(self, folder: Path) -> None:
        """The plan, and a file of inputs for each size."""
        surface = towerspec.load(folder / "build").surfaces[SURFACE]
        for i, size in enumerate(self.sizes):
            save_file(surface.sample_inputs(size, seed=i), folder / f"{i}.safetensors")
        (folder / "plan.json").write_text(json.dumps([self.sizes, self.counted, self.order]))

    def summary(self, taken: list[float]) -> dict[str, Any]:
        """The first calls, and by size those after a warm-up of a fifth of all."""
        warm = FIRST + (len(self.order) - FIRST) // 5
        by_size: dict[int, dict[str, float]] = {}
        for i in range(self.counted):
            values = sorted(ms for ms, at in list(zip(taken, self.order, strict=True))[warm:] if at == i)
            values = values or [float("nan")]
            by_size[self.sizes[i]] = {
                "median": statistics.median(values),
                "p99": quantile(values, 0.99),
                "max": values[-1],
                "calls": len(values),
            }
        return {"first": taken[:FIRST], "sizes": by_size, "worst": max(taken)}


def first_row(way: str, size: int, found: dict[str, Any]) -> Row:
    usual = found["sizes"][size]["median"]
    columns = {f"call {i + 1}, ms": ms for i, ms in enumerate(found["first"])}
    ratio = {"slowest / usual": max(found["first"]) / usual, "worst of all calls, ms": found["worst"]}
    return {"loaded with": WAYS[way], "N": size, **columns, "usual, ms": usual, **ratio}


def size_row(way: str, size: int, t: dict[str, float]) -> Row:
    ratios = {"p99 / p50": t["p99"] / t["median"], "worst / p50": t["max"] / t["median"]}
    return {"loaded with": WAYS[way], "N": size, "p50, ms": t["median"], "p99, ms": t["p99"], **ratios} | {
        "calls": int(t["calls"])
    }


# ---- in C++ --------------------------------------------------------------------------------------


def in_cpp(program: Path, plan: Plan, folder: Path, way: str) -> list[float]:
    """Milliseconds of every call of the plan."""
    files = [folder / f"{i}.safetensors" for i in range(len(plan.sizes))]
    command = [program, folder / "build", SURFACE, way.removeprefix("cpp "), *files, "--", *plan.order]
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True, check=True)
    return [float(line) for line in done.stdout.split()]


# ---- a fresh process -----------------------------------------------------------------------------


def measure(folder: Path, way: str) -> list[float]:
    """Milliseconds of every call of the plan in the folder."""
    from safetensors.torch import load_file

    torch.set_num_threads(1)
    sizes, _, order = json.loads((folder / "plan.json").read_text())
    inputs = [load_file(folder / f"{i}.safetensors") for i in range(len(sizes))]
    call = scorer(folder / "build", way)
    taken = Times()
    values = []
    for i in order:
        ms = taken.add(lambda i=i: call(inputs[i]), 1)
        values.append(taken.disturbed[-1][1] if ms is None else ms)
    return values


def scorer(build: Path, way: str) -> Callable[[dict[str, torch.Tensor]], object]:
    """A call on inputs by name: through the loader with its checks, or of the plain file with tensors in order."""
    surface = towerspec.load(build).surfaces[SURFACE]
    if way == "loader":
        return surface
    names = [entry["name"] for entry in surface.inputs]
    module = torch.jit.load(build / "surfaces" / f"{SURFACE}.pt")

    def plain(inputs: dict[str, torch.Tensor]) -> object:
        with torch.inference_mode():
            return module(*[inputs[name] for name in names])

    return plain


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), sys.argv[2])))
