"""CSE: what is computed twice from the same operands is computed once."""

from __future__ import annotations

from towerspec.ir.graph import Graph, Op, Rewriter
from towerspec.ir.primitives import Input, Merge, Param


def share_common(graph: Graph) -> Graph:
    """Replaces each op that repeats an earlier one by it.

    One inside a branch arm may take the place of one in the same arm only: the other arm may not run.
    """
    known: dict[object, str] = {}

    def rule(op: Op, rewriter: Rewriter) -> str | None:
        if isinstance(op.prim, (Input, Param, Merge)) or not op.prim.pure:
            return None
        for depth in range(len(op.region) + 1):  # an arm sees what was computed before the branch
            if (found := known.get((op.prim, op.inputs, op.region[:depth]))) is not None:
                return found
        known[op.prim, op.inputs, op.region] = op.id
        return None

    return graph.rewrite(rule).without_dead()
