"""Slice: one surface's part of the graph, the ancestors of its heads and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from towerspec.ir.graph import Graph, Op
from towerspec.ir.primitives import Present


def slice_surface(graph: Graph, surface: str, logits: bool = True) -> Graph:
    """The part of the graph that a surface's heads need, their raw logits only if wanted.

    A feature that the surface has keeps its value and loses its stand-in; one that it doesn't have keeps the
    stand-in alone, so that the feature is no input of the slice. What the surface doesn't need is not looked at.
    """
    mine = graph.heads[surface]
    if not logits:
        mine = tuple(replace(o, logit=o.prediction) for o in mine)
    needed = _ancestors(graph, surface, (i for o in mine for i in (o.logit, o.prediction)))
    ops = tuple(needed[id_] for id_ in sorted(needed, key=graph.order.__getitem__))
    return replace(graph, ops=ops, outputs=mine, surface=surface).inferred()


def _ancestors(graph: Graph, surface: str, ids: Iterable[str]) -> dict[str, Op]:
    """What some values are computed from on one surface, in no order."""
    found: dict[str, Op] = {}
    wanted = list(ids)
    while wanted:
        id_ = wanted.pop()
        if id_ not in found:
            op = found[id_] = _on(graph.by_id[id_], surface)
            wanted += op.inputs
    return found


def _on(op: Op, surface: str) -> Op:
    """The op as one surface has it."""
    if not isinstance(op.prim, Present) or len(op.inputs) < 2:
        return op
    value, default = op.inputs
    return replace(op, inputs=(value if surface in op.prim.surfaces else default,))
