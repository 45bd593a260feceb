"""What each input alone can be: ids of every class, and numbers as the graph reads them.

A number is steered after what is done to it alone: where it is normalised, 1 is one standard deviation. That part of
the graph is computed on a grid of raw values, and drawn from backwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from towerspec.emit import reference
from towerspec.ir.graph import Graph, Op
from towerspec.ir.primitives import Affine, Binary, Bucketize, Clamp, Expand, Fill, Input, Param, Reshape, Unary
from towerspec.ir.types import Level

SMALL = 16  # a table of up to so many rows is read in each of them
KEYS = 64  # and of what chooses an arm or a calibrator's cell, one of so many
READING = (Affine, Binary, Bucketize, Clamp, Expand, Fill, Reshape, Unary)
GRID = torch.logspace(-3, 8, 111, dtype=torch.float64)
STEPS = torch.tensor([0.5, 1.0, 2.0, 4.0, 8.0, 30.0, 100.0, 1000.0], dtype=torch.float64)
HUGE = 1e30


def id_classes(entry: Mapping[str, Any], small: int = SMALL) -> Tensor:
    """Ids of every class: the first, the last, some between, unknown ones, missing ones; all of a small table's."""
    odd = [-1, -2, -(2**62)]
    if entry.get("ids") == "hash":  # any 64 bits
        return torch.tensor([*odd, 0, 1, 7, 2**31, 2**40 + 3, 2**63 - 1, -(2**63)], dtype=torch.int64)
    first, last = entry.get("range", (0, 1))
    known = range(first, last + 1) if last < small else (first, first + 1, (first + last) // 2, last - 1, last)
    return torch.tensor([*known, last + 1, last + 8, 2**62, *odd], dtype=torch.int64)


class Numbers:
    """One input of numbers: raw values by what the graph makes of them, `[rows, width]`."""

    def __init__(self, graph: Graph, chain: Sequence[Op], weights: Mapping[str, Tensor]) -> None:
        self.shape = chain[0].type.shape
        self.width = max(1, chain[0].type.numel)
        constants = [_constant(graph, id_, weights) for op in chain for id_ in op.inputs]
        grid = _grid(chain, [c for c in constants if c is not None], self.width)
        values = _evaluate(graph, chain, grid, weights)
        read = [op.id for op in chain if op.type.dtype == "float" and op.type.numel == self.width][-1]
        order = values[read].reshape(grid.shape).sort(dim=0, stable=True)
        self._read, self._raw = order.values.T.contiguous(), grid.gather(0, order.indices).T.contiguous()
        self.classes = self._classes(chain, values, grid)

    def _classes(self, chain: Sequence[Op], values: Mapping[str, Tensor], grid: Tensor) -> Tensor:
        """Raw values of every class `[K]`: no number, none at all, each bucket, both sides of each bound."""
        found = [float("nan"), float("inf"), -float("inf"), 0.0, -1.0, 1.0]
        for op in chain:
            if isinstance(op.prim, Clamp):
                found += [x for b in (op.prim.low, op.prim.high) if abs(b) < HUGE for x in (b - 1.5, b, b + 1.5)]
            if isinstance(op.prim, Bucketize):
                buckets = values[op.id].reshape(-1)
                for bucket in buckets.unique().tolist():
                    inside = grid[buckets == bucket, 0]
                    found.append(float(inside[len(inside) // 2]))
        return torch.tensor(found, dtype=torch.float32)

    def draw(self, wanted: Tensor) -> Tensor:
        """Raw float32 values which the graph reads as the `wanted` ones `[rows, width]`, as nearly as it can."""
        at = wanted.double().T.contiguous()
        right = torch.searchsorted(self._read, at).clamp(1, self._read.shape[1] - 1)
        low, high = (self._read.gather(1, i) for i in (right - 1, right))
        share = ((at - low) / torch.where(high > low, high - low, 1.0)).clamp(0, 1)
        start, end = (self._raw.gather(1, i) for i in (right - 1, right))
        raw = (start + share * (end - start)).T.float()
        return raw.reshape(len(wanted), *self.shape)


def chains(graph: Graph) -> dict[str, tuple[Op, ...]]:
    """For each input of numbers, the ops that read it alone, as far as they do so number by number."""
    found: dict[str, list[Op]] = {}
    of: dict[str, str] = {}
    for op in graph.ops:
        if isinstance(op.prim, Input):
            name: str | None = op.prim.feature if op.prim.dtype == "float" else None
        else:
            read = {of.get(i) for i in op.inputs if graph.by_id[i].type.level > Level.CONSTANT}
            name = read.pop() if len(read) == 1 and isinstance(op.prim, READING) else None
        if name is not None:
            of[op.id] = name
            found.setdefault(name, []).append(op)
    return {name: tuple(ops) for name, ops in found.items()}


def _constant(graph: Graph, id_: str, weights: Mapping[str, Tensor]) -> Tensor | None:
    prim = graph.by_id[id_].prim
    return weights[prim.path].double() if isinstance(prim, Param) else None


def _grid(chain: Sequence[Op], constants: list[Tensor], width: int) -> Tensor:
    """Raw values `[T, width]`: of every magnitude, and finer around what the graph compares them with."""
    around: list[Tensor] = []
    rows = [c.reshape(1, -1).expand(1, width) for c in constants if c.numel() in (1, width)]
    edges = [c.reshape(-1, 1).expand(-1, width) for c in constants if c.numel() not in (1, width)]
    for centre in rows:
        around.append(centre)
        for spread in rows:
            steps = STEPS.reshape(-1, 1) * spread
            around += [centre + steps, centre - steps]
    for knots in edges:
        around += [knots, (knots[1:] + knots[:-1]) / 2]
    bounds = [b for op in chain if isinstance(op.prim, Clamp) for b in (op.prim.low, op.prim.high) if abs(b) < HUGE]
    if len(bounds) > 1:
        around.append(
            torch.linspace(min(bounds), max(bounds), 33, dtype=torch.float64).reshape(-1, 1).expand(-1, width)
        )
    # What is compared may have been a logarithm or a root before.
    near = torch.cat(around) if around else torch.zeros(1, width, dtype=torch.float64)
    near = torch.cat([near, near.sign() * near.abs().clamp(max=60).expm1(), near * near.abs()])
    plain = torch.cat([GRID, -GRID, torch.zeros(1, dtype=torch.float64)]).reshape(-1, 1).expand(-1, width)
    return torch.cat([plain, near]).clamp(-HUGE, HUGE).float().double()


def _evaluate(graph: Graph, chain: Sequence[Op], grid: Tensor, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    rows = reference.Rows(len(grid), torch.arange(len(grid)), r=len(grid))
    values: dict[str, Tensor] = {chain[0].id: grid.reshape(len(grid), *chain[0].type.shape)}
    for op in chain[1:]:
        for id_ in op.inputs:
            if id_ not in values:
                values[id_] = _folded(graph, id_, rows, weights)
        values[op.id] = reference.evaluate(op.prim, rows, op, tuple(values[i] for i in op.inputs))
    return values


def _folded(graph: Graph, id_: str, rows: reference.Rows, weights: Mapping[str, Tensor]) -> Tensor:
    """A constant's value."""
    op = graph.by_id[id_]
    if isinstance(op.prim, Param):
        return weights[op.prim.path].double()
    return reference.evaluate(op.prim, rows, op, tuple(_folded(graph, i, rows, weights) for i in op.inputs))
