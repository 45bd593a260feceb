"""The main job, end to end: check a spec, compile it, load it, score candidates, and compare what each surface pays.

Then a small spec learns from a log that it made itself, and serves what it learned; and so does that of KuaiRand, from
the real log, where KUAIRAND_DIR or ../shared/data/kuairand beside the repository holds it. Run by `make demo`.
"""

from __future__ import annotations

import functools
import os
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
KUAIRAND = ROOT / "specs" / "kuairand.tower"
REAL = ROOT / "build" / "kuairand"


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


def run(*words: object) -> None:
    """A command as a user would type it."""
    words = tuple(
        word.relative_to(ROOT) if isinstance(word, Path) and word.is_relative_to(ROOT) else word for word in words
    )
    print(f"\n$ {' '.join(map(str, words))}", flush=True)
    command = [sys.executable, "-m", *words] if words[0] == "towerspec" else [sys.executable, *words[1:]]
    # Steps of a few hundred rows: threads would only wait for each other.
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    subprocess.run(list(map(str, command)), check=True, cwd=ROOT, env=environment)


def learn(spec: Path, log: Path, out: Path, served: str, *words: object) -> None:
    """From a log in three splits to calibrated predictions: train, calibrate, evaluate, compile, serve."""
    learned, build = out / "run", out / "build"
    run("towerspec", "train", spec, "--data", log / "train.parquet", "-o", learned, *words)
    run("towerspec", "calibrate", learned, "--data", log / "calibrate.parquet")
    run("towerspec", "evaluate", learned, "--data", log / "test.parquet")
    run("towerspec", "compile", spec, "--weights", learned, "-o", build)
    surface = towerspec.load(build).surfaces[served]
    scores = surface(surface.sample_inputs(candidates=5, data=log / "test.parquet"))
    print(f"\nfive candidates of the log on {served}, served by what was learned:")
    for head, x in scores.items():
        print(f"  {head:18}{'  '.join(f'{p:.4f}' for p in x.tolist())}")


def simulated() -> None:
    """The quickstart on a log of its own making."""
    print(f"\n5. learn    {QUICK.name}, from a log that a hidden teacher makes")
    shutil.rmtree(LEARNED, ignore_errors=True)
    run("towerspec", "simulate", QUICK, "-o", LEARNED / "log", "--rows", 150_000)
    learn(
        QUICK, LEARNED / "log", LEARNED, "search", "--valid", LEARNED / "log" / "calibrate.parquet", "--set", "epochs=2"
    )


def real() -> None:
    """KuaiRand, where its files are at hand."""
    data = Path(os.environ.get("KUAIRAND_DIR") or ROOT.parent / "shared" / "data" / "kuairand")
    if not data.is_dir():
        print("\n6. real     left out: a folder of KuaiRand in KUAIRAND_DIR, and the demo learns from that as well;\n"
              "            examples/kuairand/README.md says where it is from")  # fmt: skip
        return
    print(
        f"\n6. real     {KUAIRAND.name}, from a short-video app's log: to 2 May, calibrated on 3 May, tested on 4 May"
    )
    shutil.rmtree(REAL, ignore_errors=True)
    run("python", ROOT / "examples" / "kuairand" / "prepare.py", "--data", data, "--out", REAL / "log")
    learn(KUAIRAND, REAL / "log", REAL, "tab_1")


if __name__ == "__main__":
    main()
    simulated()
    real()
