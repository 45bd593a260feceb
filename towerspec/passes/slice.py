"""Slice: one surface's part of the graph, the ancestors of its heads and nothing else."""

from __future__ import annotations

from dataclasses import replace

from towerspec.ir.graph import Graph, Op, Rewriter
from towerspec.ir.primitives import Present


def slice_surface(graph: Graph, surface: str, logits: bool = True) -> Graph:
    """The part of the graph that a surface's heads need, their raw logits only if wanted.

    A feature that the surface has keeps its value and loses its stand-in; one that it doesn't have keeps the
    stand-in alone, so that the feature is no input of the slice.
    """

    def rule(op: Op, rewriter: Rewriter) -> str | None:
        if not isinstance(op.prim, Present) or len(op.inputs) < 2:
            return None
        value, default = op.inputs
        return rewriter.keep(replace(op, inputs=(value if surface in op.prim.surfaces else default,)))

    mine = [o for o in graph.outputs if o.surface == surface]
    if not logits:
        mine = [replace(o, logit=o.prediction) for o in mine]
    return replace(graph.rewrite(rule).restrict(mine), surface=surface)
