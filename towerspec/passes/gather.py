"""Gather: ids of several features are made safe in one step, and tables of one width are read as one."""

from __future__ import annotations

from dataclasses import dataclass, field

from towerspec.ir.graph import Graph, Op, Rewriter
from towerspec.ir.primitives import Concat, Embed, IdColumns, Ids, Input, Param, Reshape, Slice, Stack, Whole
from towerspec.ir.types import Level
from towerspec.passes.columns import joined, rejoin

# Bytes that tables read as one may have together. Surfaces of one process share the tables that are alike in them; one
# that is joined to others is shared where the others are the same too.
LARGEST = 2**22


@dataclass
class Lookup:
    """A feature's ids, and its look-up where its table can be one of several."""

    ids: Op
    embed: Op | None = None


@dataclass
class Group:
    """Look-ups of one level: those of one table first, in `tables`, then those that read their table alone."""

    tables: list[list[Lookup]]
    alone: list[Lookup]
    safe: str = ""
    rows: dict[int, str] = field(default_factory=dict)  # what is read of each of `tables`

    @property
    def members(self) -> list[Lookup]:
        return [*(m for table in self.tables for m in table), *self.alone]


def gather(graph: Graph) -> Graph:
    """Makes ids of single features columns of one value, and look-ups of one width one look-up."""
    graph = graph.constants_first()
    groups = _groups(graph)
    ids = {m.ids.id: (group, place) for group in groups for place, m in enumerate(group.members)}
    tables = [(group, t, table) for group in groups for t, table in enumerate(group.tables)]
    embeds = {m.embed.id: (group, t, k) for group, t, table in tables for k, m in enumerate(table) if m.embed}

    def rule(op: Op, rewriter: Rewriter) -> str | None:
        if op.id in ids:
            group, place = ids[op.id]
            group.safe = group.safe or _safe(graph, rewriter, group, joined(op))
            column = rewriter.make(op, "column", Slice(place, place + 1), group.safe)
            return rewriter.make(op, "id", Reshape(()), column)
        if op.id in embeds:
            group, t, k = embeds[op.id]
            group.rows[t] = group.rows.get(t) or _read(rewriter, group, t, joined(op))
            width = op.type.shape[-1]
            return rewriter.make(op, "columns", Slice(k * width, (k + 1) * width), group.rows[t])
        return rejoin(op, rewriter)

    return graph.rewrite(rule).without_dead() if groups else graph


def _groups(graph: Graph) -> list[Group]:
    found = []
    for level in (Level.REQUEST, Level.CANDIDATE):
        lookups = [_lookup(graph, op) for op in graph.ops if op.type.level == level and _single(graph, op)]
        if len(lookups) > 1:
            by_width: dict[int, list[Lookup]] = {}
            for lookup in lookups:
                if lookup.embed:
                    by_width.setdefault(lookup.embed.type.shape[-1], []).append(lookup)
            tables = [table for same in by_width.values() if len(table := _within(graph, same)) > 1]
            together = {m.ids.id for table in tables for m in table}
            found.append(Group(tables, [m for m in lookups if m.ids.id not in together]))
    return found


def _single(graph: Graph, op: Op) -> bool:
    """Whether an op makes one input's single id safe."""
    return isinstance(op.prim, Ids) and not op.type.shape and not op.region and _is(graph, op.inputs[0], Input)


def _lookup(graph: Graph, ids: Op) -> Lookup:
    """With the look-up, where it is all that reads the ids, and all that reads its table."""
    embed = graph.users[ids.id][0]
    alone = isinstance(embed.prim, Embed) and len(graph.users[ids.id]) == 1 and not embed.region
    if not alone or not _is(graph, embed.inputs[1], Param) or graph.users[embed.inputs[1]] != (embed,):
        return Lookup(ids)
    return Lookup(ids, embed)


def _is(graph: Graph, id_: str, kind: type) -> bool:
    return isinstance(graph.by_id[id_].prim, kind)


def _within(graph: Graph, lookups: list[Lookup]) -> list[Lookup]:
    """As many of some look-ups as are small enough together, the smallest tables first; in their own order."""
    sizes = {m.ids.id: graph.by_id[m.embed.inputs[1]].type.bytes for m in lookups if m.embed}
    kept, total = set(), 0
    for id_ in sorted(sizes, key=lambda i: sizes[i]):
        total += sizes[id_]
        if total <= LARGEST:
            kept.add(id_)
    return [m for m in lookups if m.ids.id in kept]


def _safe(graph: Graph, rewriter: Rewriter, group: Group, like: Op) -> str:
    """All ids of a group as columns, each safe to look up in its own table, or in those that it is read with."""
    starts: dict[str, int] = {}
    for table in group.tables:
        start = 0
        for m in table:
            starts[m.ids.id] = start
            start += graph.by_id[m.embed.inputs[1]].type.shape[0] if m.embed else 0
    known: list[tuple[int, int, int, int]] = []
    for m in group.members:
        assert isinstance(m.ids.prim, Ids)
        start = starts.get(m.ids.id, 0)
        known.append((m.ids.prim.rows, start, start + m.ids.prim.unknown, start + m.ids.prim.missing))
    stack = rewriter.make(like, "ids", Stack(), *(rewriter.place[m.ids.inputs[0]] for m in group.members))
    names = ("rows", "start", "unknown", "missing")
    columns = zip(names, zip(*known, strict=True), strict=True)
    return rewriter.make(
        like, "safe", IdColumns(), stack, *(rewriter.make(like, name, Whole(values)) for name, values in columns)
    )


def _read(rewriter: Rewriter, group: Group, t: int, like: Op) -> str:
    """The rows of several tables of one width, beside each other."""
    table = group.tables[t]
    first = sum(len(before) for before in group.tables[:t])
    embeds = [m.embed for m in table if m.embed]
    whole = rewriter.make(like, "table", Concat(-2), *(rewriter.place[e.inputs[1]] for e in embeds))
    ids = rewriter.make(like, "rows", Slice(first, first + len(table)), group.safe)
    rows = rewriter.make(like, "lookup", Embed(), ids, whole)
    return rewriter.make(like, "flat", Reshape((len(table) * embeds[0].type.shape[-1],)), rows)
