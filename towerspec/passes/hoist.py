"""Hoist: what depends only on the request is computed on its R rows, what depends on nothing once."""

from __future__ import annotations

from dataclasses import replace

from towerspec.ir.graph import Graph, Op, Rewriter
from towerspec.ir.primitives import Expand, Input, Merge, Param
from towerspec.ir.types import Level


def hoist(graph: Graph, training: bool = False) -> Graph:
    """Moves every expand behind the operations whose operands are all expanded or constant.

    Rows are independent in every primitive, so that `f(expand(x))` equals `expand(f(x))`; in training those are left
    alone that draw numbers or look at the whole batch.
    """

    def rule(op: Op, rewriter: Rewriter) -> str | None:
        if op.region or isinstance(op.prim, (Input, Param, Merge, Expand)) or (training and not op.prim.pure):
            return None
        operands = [rewriter.ops[i] for i in op.inputs]
        expanded = [isinstance(o.prim, Expand) for o in operands]
        if not any(expanded) or any(
            o.type.level > Level.CONSTANT and not e for o, e in zip(operands, expanded, strict=True)
        ):
            return None
        sources = [o.inputs[0] if e else o.id for o, e in zip(operands, expanded, strict=True)]
        level = max(rewriter.ops[s].type.level for s in sources)
        if level > Level.CONSTANT:
            sources = [_raise(rewriter, op, s, level) if e else s for s, e in zip(sources, expanded, strict=True)]
        lowered = rewriter.keep(replace(op, inputs=tuple(sources)))
        return rewriter.make(op, "expand", Expand(Level.CANDIDATE), lowered)

    return graph.rewrite(rule)


def _raise(rewriter: Rewriter, op: Op, source: str, level: Level) -> str:
    if rewriter.ops[source].type.level == level:
        return source
    return rewriter.make(op, "repeat", Expand(level), source)
