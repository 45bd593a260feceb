"""The main job, end to end: check a spec, compile it, load it, score candidates, and compare what each surface pays.

Run by `make demo`; takes no data from outside.
"""

from __future__ import annotations

import functools
import statistics
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


if __name__ == "__main__":
    main()
