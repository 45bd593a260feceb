"""Inference: what only training needs is the identity in serving."""

from __future__ import annotations

from towerspec.ir.graph import Graph, Op, Rewriter
from towerspec.ir.primitives import Detach, Dropout


def drop_training(graph: Graph) -> Graph:
    """Replaces each dropout and each stopped gradient by its operand."""

    def rule(op: Op, rewriter: Rewriter) -> str | None:
        return op.inputs[0] if isinstance(op.prim, (Dropout, Detach)) else None

    return graph.rewrite(rule)
