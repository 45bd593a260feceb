"""What one call of a serving graph takes: each way to write and compile it, beside the floor, in one run."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.jit._fuser import optimized_execution

import towerspec
from benchmarks import rechub
from benchmarks.expert import expert
from benchmarks.expert_packed import packed_expert
from benchmarks.floor import RATED_ROWS, Floor, copying
from benchmarks.process import ROOT, apart
from benchmarks.results import Result, Row, Table
from benchmarks.timing import Call, interleave
from benchmarks.weights import load_model, varied
from towerspec.check import check
from towerspec.emit.build import Options, compile_spec
from towerspec.passes import optimise
from towerspec.train.module import build_module

SPEC = ROOT / "specs" / "ads_engagement.tower"
SURFACE = "search"
CASES = ((1, 1), (1, 16), (1, 64), (1, 256), (1, 1024), (8, 64))  # requests, and candidates of each
AGREES = 1e-4
REFERENCE = "slice -O2"
AHEAD = "AOTInductor -O2"
EXPERT, PACKED = "expert", "expert, packed"
RECHUB, PRODUCTS = "torch-rechub MMoE", "its products alone"


@dataclass(frozen=True)
class Plan:
    """What to measure, and for how long."""

    spec: str = str(SPEC)
    surface: str = SURFACE
    cases: tuple[tuple[int, int], ...] = CASES
    levels: tuple[int, ...] = (0, 1, 2, 3)
    ahead: bool = True  # AOTInductor too, which takes a C++ compiler some minutes
    threads: tuple[int, ...] = (1, 2)
    rounds: int = 60
    seconds: float = 45.0  # at most, for each case


QUICK = Plan(cases=((1, 2),), levels=(0, 2), ahead=False, threads=(1,), rounds=3, seconds=1.0)


# ---- builds ------------------------------------------------------------------------------------


def build_all(plan: Plan, folder: Path) -> dict[str, float]:
    """Compiles the spec at every level, with one set of weights; what each graph's error against float64 is."""
    checked = check(Path(plan.spec))
    weights = folder / "weights.safetensors"
    save_file(varied(build_module(checked)), weights)
    errors = {}
    for level in plan.levels:
        options = Options(level=level, weights=weights, surfaces=() if level == 2 else (plan.surface,))
        document = compile_spec(checked, folder / f"O{level}", options)
        if level == 2 and plan.ahead:
            options = replace(options, surfaces=(plan.surface,), targets=("aoti",))
            compile_spec(checked, folder / "aoti", options)
        errors[f"slice -O{level}"] = document["surfaces"][plan.surface]["verified"]["largest_difference"]
    return errors


# ---- one process, one number of threads -----------------------------------------------------------


class Worker:
    """The variants of one surface, loaded."""

    def __init__(self, plan: Plan, folder: Path, slices: list[str]) -> None:
        self.plan, self.folder = plan, folder
        state = load_file(folder / "weights.safetensors")
        bundles = {name: towerspec.load(folder / name.split("-")[1]) for name in slices}
        self.served = bundles[REFERENCE].surfaces[plan.surface]
        eager = load_model(folder / "O2")
        eager.load_state_dict(state)
        self.variants: dict[str, Callable[..., Any]] = {
            "unified eager": getattr(eager, plan.surface),
            "unified TorchScript": getattr(bundles[REFERENCE].unified(), plan.surface),
        }
        self.variants |= {name: bundle.surfaces[plan.surface].module for name, bundle in bundles.items()}
        if plan.ahead:
            self.variants[AHEAD] = towerspec.load(folder / "aoti", target="aoti").surfaces[plan.surface].module
        if plan.surface == SURFACE and Path(plan.spec) == SPEC:
            self.variants[EXPERT], self.variants[PACKED] = expert(state), packed_expert(state)
        self.floor = Floor(optimise(check(Path(plan.spec)).sound()[1], plan.surface))

    def calls(self, requests: int, candidates: int) -> dict[str, Call]:
        """A call of each variant on the same inputs, after a check that they agree."""
        inputs = self.served.sample_inputs(candidates, requests)
        values = list(inputs.values())
        reference = self.variants[REFERENCE](*values)
        calls: dict[str, Call] = {}
        for name, variant in self.variants.items():
            if name != "slice -O3":
                agree(name, variant(*values), reference)
            calls[name] = lambda variant=variant: variant(*values)
        calls["slice -O2, inputs checked"] = lambda: self.served(inputs)
        if rechub.available():
            entries = self.served.inputs
            with optimized_execution(True):
                script, tiled = rechub.traced(entries, inputs), rechub.rows(entries, inputs)
            calls[RECHUB] = lambda: optimised(script, tiled)
        return calls

    def case(self, requests: int, candidates: int) -> Row:
        """All that is measured for one size of request."""
        total = requests * candidates
        calls = self.calls(requests, candidates)
        calls[PRODUCTS], own_flops = self.floor.chain(requests, total)
        calls["rate"], flops = self.floor.chain(1, RATED_ROWS, packed=False)
        calls["packed rate"], _ = self.floor.chain(1, RATED_ROWS, packed=True)
        calls["copy"], copied = copying()
        times = interleave(calls, torch.get_num_threads(), self.plan.rounds, self.plan.seconds)
        found = {name: t.summary() for name, t in times.items()}
        gflops = flops / min(found.pop(name)["median"] for name in ("rate", "packed rate")) / 1e6
        gigabytes = copied / found.pop("copy")["median"] / 1e6
        return {
            "requests": requests,
            "candidates": candidates,
            "threads": torch.get_num_threads(),
            "GFLOP/s": gflops,
            "GB/s": gigabytes,
            "MFLOP": self.floor.flops(requests, total) / 1e6,
            "MFLOP of products": own_flops / 1e6,
            "MB": self.floor.bytes(requests, total) / 1e6,
            "floor": self.floor.milliseconds(requests, total, gflops, gigabytes),
            "times": found,
        }


def optimised(script: torch.jit.ScriptModule, values: dict[str, Tensor]) -> Tensor:
    """A call with TorchScript's run-time optimiser."""
    with optimized_execution(True):
        result: Tensor = script(values)
    return result


def agree(name: str, found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    """Raises `AssertionError` where two variants' scores differ; both may have none for a head that isn't theirs."""
    for x, y in zip(found, expected, strict=True):
        gap = float((x.double() - y.double()).nan_to_num(0.0).abs().max()) if x.numel() else 0.0
        assert torch.equal(x.isnan(), y.isnan()), f"{name} has scores where another has none"
        assert gap <= AGREES, f"{name} differs by {gap:.3g}"


def work(plan: Plan, folder: Path, slices: list[str]) -> list[Row]:
    """Measures all cases in this process, as the loader would run them."""
    with torch.inference_mode(), optimized_execution(False):
        worker = Worker(plan, folder, slices)
        found = []
        for case in plan.cases:
            found.append(worker.case(*case))
            print(f"  {case_name(found[-1])}, threads {torch.get_num_threads()}: measured", file=sys.stderr, flush=True)
        return found


# ---- all of it -----------------------------------------------------------------------------------


def run(quick: bool = False, surface: str = SURFACE) -> Result:
    """Builds, then measures with each number of threads in a process of its own."""
    plan = replace(QUICK if quick else Plan(), surface=surface)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        errors = build_all(plan, folder)
        rows = [row for threads in plan.threads for row in in_process(plan, folder, list(errors), threads)]
    name = "serving" if surface == SURFACE else f"serving_{surface}"
    return Result(name, [ratios(rows), absolute(rows), rates(rows)], {"errors": errors, "cases": rows})


def in_process(plan: Plan, folder: Path, slices: list[str], threads: int) -> list[Row]:
    """The rows of one number of threads."""
    found: list[Row] = apart("serving", folder, json.dumps(asdict(plan)), threads, *slices)
    return found


def case_name(row: Row) -> str:
    return f"R={row['requests']} N={row['candidates']}"


def variants(rows: list[Row]) -> list[str]:
    return [name for name in rows[0]["times"] if name not in (PRODUCTS, "slice -O2, inputs checked")]


def ratios(rows: list[Row]) -> Table:
    """How many times as long as -O2 each variant takes, and -O2 against the floor."""
    made = []
    for row in rows:
        base = row["times"][REFERENCE]["median"]
        others = [name for name in variants(rows) if name != REFERENCE]
        made.append(
            {"case": case_name(row), "threads": row["threads"]}
            | {f"{name} / -O2": row["times"][name]["median"] / base for name in others}
            | {"-O2 / its products": base / row["times"][PRODUCTS]["median"], "-O2 / floor": base / row["floor"]}
            | {"sound": "yes" if all(t["sound"] for t in row["times"].values()) else "no"}
        )
    note = (
        "Medians over medians of one run. Above 1, -O2 is the faster; the last say how far off the best is. Sound: "
        "each variant had at least five calls that nothing else on the machine interrupted."
    )
    return Table("Ratios", made, note)


def absolute(rows: list[Row]) -> Table:
    """Milliseconds on this machine."""
    made = []
    for row in rows:
        times = row["times"]
        shown = {name: f"{t['median']:.3g} ({t['p99']:.3g})" for name, t in times.items()}
        made.append({"case": case_name(row), "threads": row["threads"], **shown, "floor": row["floor"]})
    return Table("Milliseconds: median (p99)", made, "On this machine, in this run.")


def rates(rows: list[Row]) -> Table:
    """What the floor is made of, and how busy the machine was."""
    keys = ("MFLOP", "MB", "GFLOP/s", "GB/s")
    made = []
    for row in rows:
        disturbed = sum(t["disturbed"] for t in row["times"].values()) / len(row["times"])
        fewest = min(int(t["calls"]) for t in row["times"].values())
        made.append(
            {"case": case_name(row), "threads": row["threads"]}
            | {key: row[key] for key in keys}
            | {"calls lost to other load": f"{disturbed:.0%}", "fewest calls": fewest}
        )
    return Table("The floor's parts, and the load", made)


if __name__ == "__main__":
    path, given, threads, *names = sys.argv[1:]
    torch.set_num_threads(int(threads))
    print(json.dumps(work(Plan(**json.loads(given)), Path(path), names)))
