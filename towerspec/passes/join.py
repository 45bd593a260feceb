"""Join: linears that read the same value become one product, and a function of all of its parts one call."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from towerspec.ir.graph import Graph, Op, Rewriter
from towerspec.ir.primitives import Concat, Linear, Slice, Unary
from towerspec.ir.types import Level

# How wide a joined product may be, by the level of its rows. One call instead of several pays where calls are small; a
# wide product of many rows leaves the caches before its parts are read, and takes longer than its parts do.
WIDEST = {Level.REQUEST: 1024, Level.CANDIDATE: 256}


@dataclass
class Group:
    """Linears of one input; `fn` is the function that all of their results go through and nothing else reads."""

    members: list[Op]
    fn: str | None = None
    joined: str | None = None

    @property
    def parts(self) -> list[Slice]:
        """Each member's columns of the joined result."""
        stops = list(accumulate(op.type.shape[-1] for op in self.members))
        return [Slice(start, stop) for start, stop in zip([0, *stops], stops, strict=False)]


def join_linears(graph: Graph) -> Graph:
    """Stacks the weights of linears with one input into one weight, and gives each its columns of the result."""
    graph = graph.constants_first()
    groups = _groups(graph)
    part_of = {op.id: (group, part) for group in groups for op, part in zip(group.members, group.parts, strict=True)}
    absorbed = {user.id for group in groups if group.fn for op in group.members for user in graph.users[op.id]}

    def rule(op: Op, rewriter: Rewriter) -> str | None:
        if op.id in absorbed:
            return op.inputs[0]
        if op.id not in part_of:
            return None
        group, part = part_of[op.id]
        if group.joined is None:
            group.joined = _join(rewriter, group, op)
        return rewriter.make(op, "part", part, group.joined)

    return graph.rewrite(rule).without_dead()


def _groups(graph: Graph) -> list[Group]:
    found: dict[tuple[object, ...], list[Op]] = {}
    outputs = {i for o in graph.outputs for i in (o.logit, o.prediction)}
    for op in graph.ops:
        constants = all(graph.by_id[i].type.level == Level.CONSTANT for i in op.inputs[1:])
        if isinstance(op.prim, Linear) and op.type.level > Level.CONSTANT and constants:
            found.setdefault((op.inputs[0], op.region, len(op.inputs)), []).append(op)
    groups = [Group(members) for members in found.values() if len(members) > 1 and _small(members)]
    for group in groups:
        users = [graph.users[op.id] for op in group.members]
        fns = {u[0].prim.fn if len(u) == 1 and isinstance(u[0].prim, Unary) else None for u in users}
        if len(fns) == 1 and not any(op.id in outputs for op in group.members):
            group.fn = fns.pop()
    return groups


def _small(members: list[Op]) -> bool:
    return sum(op.type.shape[-1] for op in members) <= WIDEST[members[0].type.level]


def _join(rewriter: Rewriter, group: Group, op: Op) -> str:
    x = op.inputs[0]
    columns = list(zip(*(m.inputs[1:] for m in group.members), strict=True))
    places = [[rewriter.place[i] for i in ids] for ids in columns]
    weight = rewriter.make(op, "joined_weight", Concat(-2), *places[0])
    bias = [rewriter.make(op, "joined_bias", Concat(), *places[1])] if len(places) > 1 else []
    joined = rewriter.make(op, "joined", Linear(), x, weight, *bias)
    return rewriter.make(op, f"joined_{group.fn}", Unary(group.fn), joined) if group.fn else joined
