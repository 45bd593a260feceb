"""The main job, end to end: check a spec, compile it, load it, score candidates, and compare what each surface pays.

Then a small spec learns from a log that it made itself, and serves what it learned. Run by `make demo`; needs no data
from outside.
"""

from __future__ import annotations

import functools
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

import towerspec
from towerspec.check import check
from towerspec.emit.build import Options, compile_spec
from towerspec.explain import explain_table

ROOT = Path(__file__).parent.parent
SPEC = ROOT / "specs" / "ads_engagement.tower"
BUILD = ROOT / "build" / "demo"
CANDIDATES = 256
QUICK = ROOT / "specs" / "quickstart.tower"
LEARNED = ROOT / "build" / "learned"


def milliseconds(call: Callable[[], object], times: int = 7) -> float:
    """The median time of a call after a few that warm it up."""
    for _ in range(3):
        call()
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        taken.append(1000 * (time.perf_counter() - start))
    return statistics.median(taken)


def main() -> None:
    checked = check(SPEC)
    model, _ = checked.sound()
    print(f"1. check    {SPEC.name} is sound: surfaces {', '.join(model.surfaces)}")
    document = compile_spec(checked, BUILD, Options())
    worst = max(s["verified"]["largest_difference"] for s in document["surfaces"].values())
    print(f"2. compile  wrote {BUILD.relative_to(ROOT)}; every graph equals the float64 reference within {worst:.1g}")
    bundle = towerspec.load(BUILD)
    unified = bundle.unified()
    total = sum(torch.Size(shape).numel() for shape in document["weights"]["parameters"].values())
    print(f"3. load     {len(bundle.surfaces)} surfaces, {total:,} parameters in the unified model")
    print(f"4. score    one request with {CANDIDATES} candidates on each surface\n")
    costs = explain_table(checked)
    print(f"{'surface':14}{'parameters':>12}{'of unified':>12}{'FLOPs/request':>15}{'FLOPs/candidate':>17}"
          f"{'its file':>11}{'unified.pt':>12}{'faster':>8}")  # fmt: skip
    for name, surface in bundle.surfaces.items():
        inputs = surface.sample_inputs(candidates=CANDIDATES)
        values = list(inputs.values())
        own = milliseconds(functools.partial(surface, inputs))
        with torch.inference_mode():
            whole = milliseconds(functools.partial(getattr(unified, name), *values))
        cost = costs[name]
        print(f"{name:14}{cost['parameters']:>12,}{cost['parameters'] / total:>12.0%}{cost['flops']['request']:>15,}"
              f"{cost['flops']['candidate']:>17,}{own:>8.1f} ms{whole:>9.1f} ms{whole / own:>7.1f}x")  # fmt: skip
    name, surface = next(iter(bundle.surfaces.items()))
    scores = surface(surface.sample_inputs(candidates=3))
    print(f"\nthe first scores of {name}:")
    for head, x in scores.items():
        print(f"  {head:12}{'  '.join(f'{v:.4f}' for v in x.tolist())}")


def learn() -> None:
    """The quickstart from a log to calibrated predictions, by the commands that a user would type."""
    shutil.rmtree(LEARNED, ignore_errors=True)
    log, run, build = (LEARNED.relative_to(ROOT) / name for name in ("log", "run", "build"))
    commands = [
        ["simulate", QUICK.relative_to(ROOT), "-o", log, "--rows", "150000"],
        [
            "train",
            QUICK.relative_to(ROOT),
            "--data",
            log / "train.parquet",
            "--valid",
            log / "calibrate.parquet",
            "-o",
            run,
            "--set",
            "epochs=2",
        ],
        ["calibrate", run, "--data", log / "calibrate.parquet"],
        ["evaluate", run, "--data", log / "test.parquet"],
        ["compile", QUICK.relative_to(ROOT), "--weights", run, "-o", build],
    ]
    for command in commands:
        print(f"\n$ towerspec {' '.join(map(str, command))}", flush=True)
        subprocess.run([sys.executable, "-m", "towerspec", *map(str, command)], check=True, cwd=ROOT)
    search = towerspec.load(ROOT / build).surfaces["search"]
    inputs = search.sample_inputs(candidates=5, data=ROOT / log / "test.parquet")
    print("\nfive candidates of the log, served by what was learned:")
    print(f"  click  {'  '.join(f'{p:.4f}' for p in search(inputs)['click'].tolist())}")


if __name__ == "__main__":
    main()
    learn()
