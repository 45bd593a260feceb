"""The command `bench`: which target is the faster, for a spec and on the machine at hand."""

from __future__ import annotations

import json
import math
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from towerspec.diagnostics import Diagnostic, SpecError, did_you_mean, listing
from towerspec.terminal import JSON, STRICT, example, read_spec, table

TARGETS = ("torchscript", "aoti")
WARM = 3  # calls of each before any is timed
LEAST = 20  # calls of each that are timed, however long they take


@click.command(
    epilog=example(
        "towerspec bench build/ads", "towerspec bench ads.tower --surface search", "towerspec bench build/ads --json"
    )
)
@click.argument("subject", metavar="SPEC|BUILD", type=click.Path(path_type=Path))
@click.option("--surface", "surfaces", multiple=True, metavar="NAME", help="Only this surface; may be repeated.")
@click.option(
    "-n",
    "--candidates",
    "sizes",
    multiple=True,
    type=click.IntRange(0, 2**20),
    default=(1, 16, 64, 256, 1024),
    show_default=True,
    metavar="N",
    help="Candidates a request; may be repeated.",
)
@click.option("-r", "--requests", type=click.IntRange(1, 2**16), default=1, show_default=True, help="Requests a call.")
@click.option("--threads", type=click.IntRange(1, 1024), default=1, show_default=True, help="Threads a call runs on.")
@click.option("--seconds", type=click.FloatRange(0.0), default=2.0, show_default=True, help="For each row.")
@STRICT
@JSON
def bench(
    subject: Path,
    surfaces: tuple[str, ...],
    sizes: tuple[int, ...],
    requests: int,
    threads: int,
    seconds: float,
    strict: bool,
    as_json: bool,
) -> None:
    """Time calls of each target, in turns, and say which is the faster on this machine.

    A SPEC is compiled for both targets first, with parameters of a seed. A BUILD must have both:
    `towerspec compile --target aoti`. Times are in milliseconds and include the checks of a call's inputs.
    """
    with ExitStack() as stack:
        build = subject
        if subject.is_file():
            build = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "build"
            _compile(subject, build, surfaces, strict)
        rows = measure(build, surfaces, sizes, requests, threads, seconds)
    overall = math.exp(statistics.fmean(math.log(row.ratio) for row in rows))
    if as_json:
        found = {"threads": threads, "rows": [row.as_json() for row in rows], **_compared(overall)}
        click.echo(json.dumps(found, indent=2))
        return
    header = ["surface", "requests", "candidates", *(f"{t} {what}" for t in TARGETS for what in ("median", "p99")), ""]
    click.echo(table(header, [row.cells() for row in rows]))
    click.echo(f"\non {threads} thread{'s' * (threads > 1)} of this machine: {verdict(overall)}")


def _compile(spec: Path, build: Path, surfaces: tuple[str, ...], strict: bool) -> None:
    from towerspec.emit.build import Options, compile_spec

    compile_spec(read_spec(spec, strict), build, Options(surfaces=surfaces, targets=("aoti",)))


@dataclass(frozen=True)
class Row:
    """The milliseconds of each target's calls for one surface and size, in order."""

    surface: str
    requests: int
    candidates: int
    times: Mapping[str, list[float]]

    @property
    def ratio(self) -> float:
        """TorchScript's median over AOTInductor's: above 1, AOTInductor is the faster."""
        return statistics.median(self.times["torchscript"]) / statistics.median(self.times["aoti"])

    def _numbers(self, target: str) -> dict[str, float]:
        times = self.times[target]
        return {"median": statistics.median(times), "p99": times[math.ceil(0.99 * len(times)) - 1]}

    def cells(self) -> list[str]:
        times = [f"{x:.3f}" for target in TARGETS for x in self._numbers(target).values()]
        return [self.surface, str(self.requests), str(self.candidates), *times, verdict(self.ratio)]

    def as_json(self) -> dict[str, Any]:
        targets = {t: {**self._numbers(t), "calls": len(self.times[t])} for t in TARGETS}
        about = {"surface": self.surface, "requests": self.requests, "candidates": self.candidates}
        return {**about, **targets, **_compared(self.ratio)}


def _compared(ratio: float) -> dict[str, Any]:
    return {"faster": faster(ratio), "times_as_fast": max(ratio, 1 / ratio)}


def faster(ratio: float) -> str:
    return "aoti" if ratio >= 1 else "torchscript"


def verdict(ratio: float) -> str:
    """The faster target, and how many times as fast it is.

    >>> verdict(1.25), verdict(0.5)
    ('aoti is 1.25 times as fast', 'torchscript is 2.00 times as fast')
    """
    return f"{faster(ratio)} is {max(ratio, 1 / ratio):.2f} times as fast"


def measure(
    build: Path, surfaces: tuple[str, ...], sizes: tuple[int, ...], requests: int, threads: int, seconds: float
) -> list[Row]:
    """Times both targets of a build, the same inputs for each. Raises `SpecError` where it lacks one (T701)."""
    import torch

    from towerspec.runtime import load

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        bundles = {target: load(build, target=target) for target in TARGETS}
        known = tuple(bundles["torchscript"].surfaces)
        rows = []
        for name in surfaces or known:
            if name not in known:
                notes = (f"its surfaces are {listing(known)}",)
                help = did_you_mean(name, known)
                raise SpecError(Diagnostic("T607", f"the build has no surface `{name}`", notes=notes, help=help))
            served = {target: bundle.surfaces[name] for target, bundle in bundles.items()}
            for size in sizes:
                inputs = served["torchscript"].sample_inputs(size, requests)
                calls = {target: lambda s=surface, x=inputs: s(x) for target, surface in served.items()}
                rows.append(Row(name, requests, size, in_turns(calls, seconds, _clock(threads))))
        return rows
    finally:
        torch.set_num_threads(before)


def _clock(threads: int) -> Callable[[], float]:
    """On one thread, what it has computed: a call's waits for a busy machine are not its own."""
    return time.thread_time if threads == 1 else time.perf_counter


def in_turns(
    calls: Mapping[str, Callable[[], object]], seconds: float, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Each call's milliseconds, sorted; they take turns in a new order each round, so that all see the same machine."""
    chance, order = random.Random(0), list(calls)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        for _ in range(WARM):
            call()
    end = time.monotonic() + seconds
    while len(times[order[0]]) < LEAST or time.monotonic() < end:
        chance.shuffle(order)
        for name in order:
            start = clock()
            calls[name]()
            times[name].append(1000 * (clock() - start))
    return {name: sorted(found) for name, found in times.items()}
