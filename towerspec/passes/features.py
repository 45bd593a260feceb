"""Features: what stands for a feature is its value, or the constant of a surface that doesn't have it."""

from __future__ import annotations

from towerspec.ir.graph import Graph, Op, Rewriter
from towerspec.ir.primitives import Expand, Present
from towerspec.ir.types import Level


def fold_features(graph: Graph) -> Graph:
    """Replaces each `present` of a slice by its one operand, a constant by an expand of it."""

    def rule(op: Op, rewriter: Rewriter) -> str | None:
        if not isinstance(op.prim, Present) or len(op.inputs) > 1:
            return None
        (operand,) = op.inputs
        if rewriter.ops[operand].type.level > Level.CONSTANT:
            return operand
        return rewriter.make(op, "absent", Expand(Level.CANDIDATE), operand)

    return graph.rewrite(rule)
