"""Bag: a list's rows are added up as they are read from their table, and are nowhere beside each other."""

from __future__ import annotations

from towerspec.ir.graph import Graph, Op, Rewriter
from towerspec.ir.primitives import Embed, EmbedBag, Ids, Mask, Pool


def pool_lookups(graph: Graph) -> Graph:
    """Makes one op of a look-up and the sum or mean of those of its rows whose ids are there."""

    def rule(op: Op, rewriter: Rewriter) -> str | None:
        if not isinstance(op.prim, Pool) or op.prim.fn not in ("sum", "mean"):
            return None
        embed, mask = (rewriter.ops[i] for i in op.inputs)
        ids = rewriter.ops[embed.inputs[0]] if isinstance(embed.prim, Embed) else None
        if ids is None or not isinstance(ids.prim, Ids) or graph.users[embed.id] != (graph.by_id[op.id],):
            return None
        if rewriter.ops[embed.inputs[1]].type.dtype != "float" or not _same_positions(ids, mask):
            return None
        return rewriter.make(op, "bag", EmbedBag(op.prim.fn, ids.prim.missing), *embed.inputs)

    return graph.rewrite(rule).without_dead()


def _same_positions(ids: Op, mask: Op) -> bool:
    """Whether the mask leaves just those positions whose row isn't the missing ids' own."""
    assert isinstance(ids.prim, Ids)
    alone = ids.prim.missing >= ids.prim.rows and ids.prim.missing != ids.prim.unknown
    return alone and isinstance(mask.prim, Mask) and mask.inputs == ids.inputs
