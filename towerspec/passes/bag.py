"""Bag: a list's rows are added up as they are read from their table, and are nowhere beside each other.

PyTorch adds rows up fast where it needn't leave any out, so that the row for missing ids becomes zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

from towerspec.ir.graph import Graph, Op, Rewriter
from towerspec.ir.primitives import Embed, EmbedBag, Ids, Mask, Pool, ZeroRow


@dataclass(frozen=True)
class Bag:
    """A look-up that is pooled and nothing else, and its ids."""

    pool: Op
    embed: Op
    ids: Ids


def pool_lookups(graph: Graph) -> Graph:
    """Makes one op of a look-up and the sum or mean of those of its rows whose ids are there."""
    found = {bag.embed.id: bag for op in graph.ops if (bag := _bag(graph, op))}
    bags = {bag.pool.id: bag for bag in found.values() if _alone(graph, bag, found)}
    zeroed: dict[str, str] = {}

    def rule(op: Op, rewriter: Rewriter) -> str | None:
        if op.id not in bags:
            return None
        ids, table = (rewriter.place[i] for i in bags[op.id].embed.inputs)
        missing = bags[op.id].ids.missing
        if table not in zeroed:
            zeroed[table] = rewriter.make(rewriter.ops[table], "zeroed", ZeroRow(missing), table)
        assert isinstance(op.prim, Pool)
        return rewriter.make(op, "bag", EmbedBag(op.prim.fn, missing), ids, zeroed[table])

    return graph.constants_first().rewrite(rule).without_dead() if bags else graph


def _bag(graph: Graph, op: Op) -> Bag | None:
    if not isinstance(op.prim, Pool) or op.prim.fn not in ("sum", "mean"):
        return None
    embed, mask = (graph.by_id[i] for i in op.inputs)
    if not isinstance(embed.prim, Embed) or graph.users[embed.id] != (op,):
        return None
    ids, table = (graph.by_id[i] for i in embed.inputs)
    same_positions = isinstance(mask.prim, Mask) and mask.inputs == ids.inputs
    if not isinstance(ids.prim, Ids) or not same_positions or table.type.dtype != "float":
        return None
    own_row = ids.prim.missing >= ids.prim.rows and ids.prim.missing != ids.prim.unknown
    return Bag(op, embed, ids.prim) if own_row else None


def _alone(graph: Graph, bag: Bag, bags: dict[str, Bag]) -> bool:
    """Whether nothing reads the table but bags: a copy of it with a row of zeros then takes its place."""
    users = graph.users[bag.embed.inputs[1]]
    return all(user.id in bags and bags[user.id].ids.missing == bag.ids.missing for user in users)
