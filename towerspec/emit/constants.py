"""Arithmetic of constants, carried out once when a graph is written: what passes made of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from towerspec.emit import reference
from towerspec.emit.names import Names
from towerspec.ir.cost import stored
from towerspec.ir.graph import Graph, Op
from towerspec.ir.primitives import Cast, Codes, Init, Pack, Param, RowScale, ZeroRow
from towerspec.ir.types import Level

FOLDED = "folded"  # where a serving graph keeps them
PIECE = 2**22  # numbers of a large table that are widened at a time
BY_ROW = (Cast, Codes, RowScale)  # what treats each row of a table by itself
_NARROW = {"bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.int8}
_NOWHERE = reference.Rows(0, torch.zeros(0, dtype=torch.int64))


def fold(graph: Graph, weights: Mapping[str, Tensor]) -> tuple[Graph, dict[str, Tensor]]:
    """The graph with each constant that others read as a tensor of its own, and all of its weights by path.

    The arithmetic is in float64, and so are its results: filling a module rounds them once.
    """
    made: dict[str, Tensor] = {}
    names = Names()
    values: dict[str, Tensor] = {}
    wanted = {op.id for op in stored(graph)}
    ops: list[Op] = []
    for op in graph.ops:
        if op.type.level > Level.CONSTANT or isinstance(op.prim, Param):
            if isinstance(op.prim, Param):
                values[op.id] = weights[op.prim.path]
            ops.append(op)
            continue
        values[op.id] = _evaluated(op, tuple(values[i] for i in op.inputs))
        if op.id in wanted:
            path = _packed_path(graph, op) or f"{FOLDED}.{names.fresh(op.id)}"
            made[path] = values[op.id].contiguous()
            prim = Param(path, op.type.shape, Init("zeros"), trainable=False, dtype=op.type.dtype)
            ops.append(replace(op, prim=prim, inputs=(), region=()))
    folded = replace(graph, ops=tuple(ops)).restrict(graph.outputs)
    return folded, {p.path: made[p.path] if p.path in made else weights[p.path] for _, p in folded.params}


def _packed_path(graph: Graph, op: Op) -> str | None:
    """The name of a weight that is packed as it is, and read by nothing else: it keeps it."""
    if not isinstance(op.prim, Pack):
        return None
    weight = graph.by_id[op.inputs[0]]
    return weight.prim.path if isinstance(weight.prim, Param) and graph.users[weight.id] == (op,) else None


def _evaluated(op: Op, args: tuple[Tensor, ...]) -> Tensor:
    """An op's value in float64; a large table's piece by piece, in no more bits than it needs."""
    if isinstance(op.prim, ZeroRow):  # it moves numbers, and rounds none
        return reference.evaluate(op.prim, _NOWHERE, op, args)
    if not isinstance(op.prim, BY_ROW) or args[0].numel() <= PIECE:
        return reference.evaluate(op.prim, _NOWHERE, op, tuple(map(_wide, args)))
    made = torch.empty(op.type.shape, dtype=_NARROW.get(op.type.dtype, torch.float64))
    rows = max(1, PIECE // args[0][0].numel())
    for piece, *of in zip(made.split(rows), *(x.split(rows) for x in args), strict=True):
        piece.copy_(reference.evaluate(op.prim, _NOWHERE, op, tuple(map(_wide, of))))
    return made


def _wide(x: Tensor) -> Tensor:
    return x.double() if x.is_floating_point() else x
