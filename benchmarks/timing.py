"""Times calls side by side on a machine that others use too.

Calls are interleaved in a new order each round, so that whatever slows the machine slows all alike. A call during
which one of this process's threads stood ready without a core measures the neighbours and not the call: Linux counts
that wait for each thread, and such calls are kept apart.
"""

from __future__ import annotations

import glob
import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

Call = Callable[[], object]

DISTURBED = 0.02  # a share of a call's time spent waiting for a core, beyond which a call on more threads doesn't count
SEVERED = 0.5  # the same on one thread, whose wait is known and taken off, so that only its caches have suffered
TRIES = 3
ENOUGH = 5  # undisturbed calls; with fewer, the least disturbed ones count too, and the row is marked


def waited(threads: int) -> int:
    """Nanoseconds for which this thread, or all of this process, stood ready and had no core; 0 where unknown."""
    pattern = "/proc/thread-self/schedstat" if threads == 1 else "/proc/self/task/*/schedstat"
    total = 0
    for path in glob.glob(pattern):
        try:
            with open(path) as file:
                total += int(file.read().split()[1])
        except OSError:  # a thread that has just ended
            continue
    return total


@dataclass
class Times:
    """What one call took, in milliseconds: undisturbed calls, and disturbed ones with the share they waited."""

    clean: list[float] = field(default_factory=list)
    disturbed: list[tuple[float, float]] = field(default_factory=list)

    @property
    def counted(self) -> list[float]:
        """The undisturbed calls; where they are too few, the least disturbed ones too."""
        missing = max(0, ENOUGH - len(self.clean))
        return self.clean + [ms for _, ms in sorted(self.disturbed)[:missing]]

    def add(self, call: Call, threads: int) -> float | None:
        """Times one call; its milliseconds if it was undisturbed. On one thread waits are no part of its time."""
        before = waited(threads)
        start = time.perf_counter()
        call()
        taken = time.perf_counter() - start
        wait = (waited(threads) - before) / 1e9
        share = wait / taken
        taken = 1000 * (taken - wait if threads == 1 else taken)
        if share > (SEVERED if threads == 1 else DISTURBED):
            self.disturbed.append((share, taken))
            return None
        self.clean.append(taken)
        return taken

    def summary(self) -> dict[str, float]:
        """Median, p99 and least of what counts, how many calls that is, and the share that was disturbed."""
        values = sorted(self.counted)
        return {
            "median": statistics.median(values),
            "p99": quantile(values, 0.99),
            "min": values[0],
            "calls": len(values),
            "disturbed": len(self.disturbed) / (len(self.clean) + len(self.disturbed)),
            "sound": float(len(self.clean) >= ENOUGH),
        }


def quantile(values: list[float], q: float) -> float:
    """The value that a share `q` of the sorted values doesn't exceed."""
    return values[min(len(values) - 1, int(q * len(values)))]


def interleave(calls: Mapping[str, Call], threads: int, rounds: int, seconds: float) -> dict[str, Times]:
    """Times calls in rounds, each in random order, until each has its undisturbed ones or time is up.

    Each is called once untimed just before: its weights are then as near as they are in a server of this model alone.
    A disturbed call is tried again. One that takes many times as long as the shortest isn't timed every round.
    """
    times = {name: Times() for name in calls}
    pace = _pace(calls)
    chance, end, done, turn = random.Random(0), time.monotonic() + seconds, False, 0
    calm = Calm()
    while not done:
        if threads > 1:
            calm.wait(end)
        order = [name for name in calls if turn % pace[name] == 0]
        chance.shuffle(order)
        for name in order:
            calls[name]()
            for _ in range(TRIES):
                if times[name].add(calls[name], threads) is not None:
                    break
        turn += 1
        done = time.monotonic() > end or all(len(t.clean) * pace[name] >= rounds for name, t in times.items())
    return times


class Calm:
    """Waits for a moment in which several threads run at once: a small product then takes its least time."""

    def __init__(self) -> None:
        a = torch.randn(256, 512)
        self.probe: Call = lambda: a @ a.T
        self.least = min(self._once() for _ in range(50))

    def _once(self) -> float:
        start = time.perf_counter()
        self.probe()
        return time.perf_counter() - start

    def wait(self, end: float) -> None:
        """Returns when three products in a row are near the fastest one seen, or at the end."""
        while time.monotonic() < end:
            slowest = max(taken := [self._once() for _ in range(3)])
            self.least = min(self.least, *taken)
            if slowest < 1.5 * self.least:
                return
            time.sleep(0.02)


def _pace(calls: Mapping[str, Call]) -> dict[str, int]:
    """Every how many rounds each call is timed; this warms them up as well."""
    taken: dict[str, float] = {}
    for name, call in calls.items():
        call()
        call()
        start = time.perf_counter()
        call()
        taken[name] = time.perf_counter() - start
    usual = 4 * statistics.median(sorted(taken.values())[: len(taken) // 2 + 1])
    return {name: max(1, min(8, round(x / usual))) for name, x in taken.items()}
