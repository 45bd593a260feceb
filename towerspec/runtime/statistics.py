"""How many of the ids that a surface is called with its tables know."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from towerspec.ids import MISSING
from towerspec.runtime.entries import Input

FIRST, EVERY = 100, 16  # all of the first calls are counted, and then every so many


@dataclass(frozen=True)
class Seen:
    """How many ids of an input were known, and how many not; `missing` counts rows without any."""

    known: int = 0
    unknown: int = 0
    missing: int = 0

    @property
    def mostly_unknown(self) -> bool:
        """Whether more ids were unknown than known: those of another log's, of another kind, or of another day's."""
        return self.unknown > self.known

    def __add__(self, other: Seen) -> Seen:
        return Seen(self.known + other.known, self.unknown + other.unknown, self.missing + other.missing)


class Statistics:
    """Counts the ids of a surface's calls: of the first `FIRST`, then of one in `EVERY`; several threads may add."""

    def __init__(self, inputs: Iterable[Input]) -> None:
        self._inputs = {input.name: input for input in inputs if input.whole and input.kind != "counts"}
        self._calls, self._lock = itertools.count(), threading.Lock()
        self._seen = dict.fromkeys(self._inputs, Seen())

    def add(self, names: Iterable[str], tensors: Sequence[Tensor]) -> None:
        """A call's inputs, as the graph takes them."""
        call = next(self._calls)
        if call >= FIRST and call % EVERY:
            return
        found = {n: _seen(self._inputs[n], x) for n, x in zip(names, tensors, strict=False) if n in self._inputs}
        with self._lock:
            for name, seen in found.items():
                self._seen[name] += seen

    def seen(self) -> Mapping[str, Seen]:
        """What was counted so far, by input."""
        with self._lock:
            return dict(self._seen)


def _seen(input: Input, x: Tensor) -> Seen:
    there = x != MISSING if input.hashed else x >= 0
    unknown = 0 if input.range is None else int(torch.count_nonzero(x > input.range[1]))
    known = int(torch.count_nonzero(there)) - unknown
    rows = there.any(1) if input.listed else there
    return Seen(known, unknown, len(x) - int(torch.count_nonzero(rows)))
