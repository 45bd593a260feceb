"""The calls that a surface is verified by, and what the float64 reference gives for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from towerspec.emit import reference
from towerspec.emit.verify.coverage import Coverage
from towerspec.emit.verify.rounding import AMPLIFIED, Precision, differences, jittered
from towerspec.emit.verify.steer import Batch, Steering
from towerspec.ir.cost import op_flops
from towerspec.ir.graph import Graph, Op
from towerspec.ir.primitives import (
    Affine,
    BatchNorm,
    Binary,
    LayerNorm,
    Linear,
    Matmul,
    MulAdd,
    Opaque,
    Pool,
    Reduce,
)
from towerspec.ir.types import Level
from towerspec.runtime.samples import COUNTS, sample

# Requests by their numbers of candidates: none, one, several; and several requests, some of them without any.
SHAPES: tuple[tuple[int, ...], ...] = ((0,), (1,), (7,), (3, 0, 4), (1, 1, 1))
ALONE = 2  # rows of each leaf that are scored alone as well
TOGETHER = 16  # of one surface at most, and a row of each leaf
WORK = 5e8  # operations of the reference on rows of every length, and on rows whose numbers grow
WIDE = 192  # of the latter at most
JITTERS = 4  # changes at random, of which the one that moves a row most counts
ROUNDING_OPS = (Affine, BatchNorm, Binary, LayerNorm, Linear, Matmul, MulAdd, Opaque, Pool, Reduce)


Moved = Callable[[float], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Case:
    """One call: its inputs by name, and what the reference gives.

    `wanted` has each head's prediction and logit by op id. `sizes` is each row's largest number that is rounded, `[N]`:
    how far float arithmetic may be from the reference. `moved` says how far each of `wanted` moves, `[N]`, where all
    that goes in changes by a share. `alone` are the rows that are scored by themselves too, and `requests` the inputs
    that have a row a request.
    """

    inputs: dict[str, Tensor]
    counts: tuple[int, ...]
    wanted: dict[str, Tensor]
    sizes: Tensor
    requests: frozenset[str]
    moved: Moved
    alone: tuple[int, ...] = ()

    def beyond(self, gap: Tensor, id_: str, precision: Precision) -> Tensor:
        """Which rows of an output are further off than rounding explains, `[N]`."""
        far = gap > precision.allowed(self.sizes)
        if bool(far.any()):
            far &= gap > AMPLIFIED * self.moved(precision.backward)[id_]
        return far

    @property
    def request(self) -> Tensor:
        """The request that each row belongs to."""
        return torch.repeat_interleave(torch.arange(len(self.counts)), torch.tensor(self.counts))

    def part(self, each: int) -> Case:
        """Some of the requests: spread evenly, and of each row that is scored alone its own."""
        keep = {int(self.request[row]) for row in self.alone} | set(range(0, len(self.counts), each))
        chosen = torch.tensor([i in keep for i in range(len(self.counts))])
        rows = chosen[self.request]
        inputs = {
            name: x[chosen if name in self.requests or name == COUNTS else rows] for name, x in self.inputs.items()
        }
        counts = tuple(n for i, n in enumerate(self.counts) if i in keep)
        wanted = {id_: x[rows] for id_, x in self.wanted.items()}
        return Case(inputs, counts, wanted, self.sizes[rows], self.requests, self._moved_of(rows))

    def _moved_of(self, rows: Tensor) -> Moved:
        return lambda by: {id_: x[rows] for id_, x in self.moved(by).items()}

    def only(self, row: int) -> dict[str, Tensor]:
        """The inputs of one row by itself: one request with one candidate."""
        request = int(self.request[row])
        made = {
            name: x[request : request + 1] if name in self.requests else x[row : row + 1]
            for name, x in self.inputs.items()
        }
        return {name: torch.ones(1, dtype=torch.int64) if name == COUNTS else x for name, x in made.items()}


@dataclass(frozen=True)
class Cases:
    """A surface's calls, and what was not reached by any, in words.

    `small` ones are of every shape, `classes` reach every leaf and class, `lengths` every length of a list, if there
    are any, and `wide` has numbers from ordinary to huge.
    """

    small: tuple[Case, ...]
    classes: Case
    lengths: Case | None
    wide: Case
    unreached: tuple[str, ...]

    @property
    def ordinary(self) -> tuple[Case, ...]:
        """All but those whose numbers grow."""
        return (*self.small, self.classes, *([self.lengths] if self.lengths else []))

    @property
    def all(self) -> tuple[Case, ...]:
        return (*self.ordinary, self.wide)

    @property
    def rows(self) -> int:
        return sum(sum(case.counts) for case in self.all)


def make_cases(
    sliced: Graph,
    entries: Sequence[Mapping[str, Any]],
    weights: Mapping[str, Tensor],
    seed: int,
    steering: Steering | None = None,
) -> Cases:
    """Calls of every shape, and calls that lead into every leaf and class; with the reference's values."""
    steering = steering or Steering(sliced, entries, weights)
    coverage = Coverage(sliced, steering)
    levels = {entry["level"] for entry in entries}
    batches = []
    for i, counts in enumerate(SHAPES):
        if "candidate" not in levels:
            counts = (1,) * max(1, len(counts))
        elif "request" not in levels:
            counts = (sum(counts),)
        batches.append(Batch(sample(entries, counts, seed + i), counts))
    small = tuple(_case(sliced, batch, weights, coverage) for batch in batches)
    rows = int(max(18, WORK // max(1, sum(op_flops(sliced).values()))))  # a compile's time is mostly not for this
    classes = _case(sliced, steering.classes(seed + 11), weights, coverage, alone=True)
    lists = steering.every_length(rows, seed + 12)
    lengths = _case(sliced, lists, weights, coverage) if lists else None
    wide = _case(sliced, steering.wide(min(rows, WIDE), seed + 13), weights, coverage)
    return Cases(small, classes, lengths, wide, coverage.unreached())


def _case(sliced: Graph, batch: Batch, weights: Mapping[str, Tensor], coverage: Coverage, alone: bool = False) -> Case:
    n, counts = sum(batch.counts), counts_of(sliced, batch.counts)
    outputs = {i for o in sliced.outputs for i in (o.prediction, o.logit)}
    wanted: dict[str, Tensor] = {}
    seen: dict[str, Tensor] = {}
    sizes = torch.zeros(n, dtype=torch.float64)
    with torch.no_grad():
        for op, value in reference.steps(sliced, batch.inputs, weights, n, counts):
            if op.id in outputs:
                wanted[op.id] = value
            if op.id in coverage.watched:
                seen[op.id] = value
            if isinstance(op.prim, ROUNDING_OPS) and n and op.type.level == Level.CANDIDATE and len(value) == n:
                sizes = torch.maximum(sizes, _largest(value))
    rows = coverage.add(batch, seen, sizes)
    requests = frozenset(i.feature for _, i in sliced.inputs if i.level == Level.REQUEST)
    moved = movement(wanted, lambda x, w: reference.run(sliced, x, w, n, counts), batch.inputs, weights)
    return Case(batch.inputs, batch.counts, wanted, sizes, requests, moved, _some(rows) if alone else ())


def movement(
    wanted: Mapping[str, Tensor],
    values: Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Mapping[str, Tensor]],
    inputs: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
) -> Moved:
    """How far each output moves at most, `[N]`, over some changes of all inputs and weights by a share.

    `values` gives the outputs for inputs and weights. It is called once a share, and only if that is asked for.
    """

    @cache
    def moved(by: float) -> Mapping[str, Tensor]:
        generator = torch.Generator().manual_seed(0)
        found = {id_: torch.zeros(len(x), dtype=torch.float64) for id_, x in wanted.items()}
        for _ in range(JITTERS):
            with torch.no_grad():
                changed = values(jittered(inputs, by, generator), jittered(weights, by, generator))
            found = {id_: torch.maximum(x, differences(changed[id_], wanted[id_])) for id_, x in found.items()}
        return found

    return moved


def _largest(x: Tensor) -> Tensor:
    """Each row's largest finite number: what isn't finite counts as missing, or comes out as it is."""
    size = x.abs().flatten(1).amax(-1)
    return size if bool(size.isfinite().all()) else x.abs().flatten(1).nan_to_num(0.0, 0.0).amax(-1)


def _some(rows: Sequence[Tensor]) -> tuple[int, ...]:
    """Rows of each leaf, the last and one from the middle."""
    each = ALONE if ALONE * len(rows) <= TOGETHER else 1
    return tuple(int(mine[len(mine) - 1 - len(mine) // 2 * i]) for mine in rows if len(mine) for i in range(each))


def counts_of(graph: Graph, counts: Sequence[int]) -> Tensor | None:
    """The candidates of each request as the reference takes them; none for a surface without request inputs."""
    return torch.tensor(counts) if any(i.level == Level.REQUEST for _, i in graph.inputs) else None


def on_rows(x: Tensor, op: Op, case: Case) -> Tensor:
    """A value as the candidates see it, whatever level it was computed at."""
    if op.type.level == Level.REQUEST:
        return x[case.request]
    return x.expand(sum(case.counts), *x.shape) if op.type.level == Level.CONSTANT else x
