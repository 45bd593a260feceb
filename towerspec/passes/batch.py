"""Batch: numbers that go through the same steps go through them side by side, a column each."""

from __future__ import annotations

from dataclasses import dataclass, field

from towerspec.ir.graph import Graph, Op, Rewriter
from towerspec.ir.primitives import (
    Affine,
    Binary,
    Clamp,
    Concat,
    Fill,
    Input,
    MulAdd,
    Primitive,
    Reshape,
    Slice,
    Stack,
    Unary,
)
from towerspec.ir.types import Level
from towerspec.passes.columns import joined, rejoin

STEPS = (Affine, Binary, Clamp, Fill, MulAdd, Unary)


@dataclass(frozen=True)
class Chain:
    """What a number has gone through: which input it is, and the steps apart from whose constants they read."""

    source: str
    steps: tuple[object, ...]


def batch_numbers(graph: Graph) -> Graph:
    """Makes one chain of several that are alike, and gives each its column of the result."""
    graph = graph.constants_first()
    batches = _Batches(graph, _chains(graph))
    column = {id_: (group, k) for group in batches.groups() for k, id_ in enumerate(group)}
    whole: dict[str, str] = {}  # by a group's first member

    def rule(op: Op, rewriter: Rewriter) -> str | None:
        if op.id not in column:
            return rejoin(op, rewriter)
        group, k = column[op.id]
        if group[0] not in whole:
            whole[group[0]] = batches.side_by_side(rewriter, group, joined(op))
        return rewriter.make(op, "column", Slice(k, k + 1), whole[group[0]])

    return graph.rewrite(rule).without_dead() if column else graph


def _chains(graph: Graph) -> dict[str, Chain]:
    """The chain of each number that is one."""
    found: dict[str, Chain] = {}
    for op in graph.ops:
        if op.region or op.type.level == Level.CONSTANT or op.type.shape != (1,):
            continue
        if isinstance(op.prim, Reshape) and isinstance(graph.by_id[op.inputs[0]].prim, Input):
            found[op.id] = Chain(op.inputs[0], (op.type,))
        elif isinstance(op.prim, STEPS) and all(i in found or _constant(graph, i) for i in op.inputs):
            of = [found.get(i) for i in op.inputs]
            sources = {chain.source for chain in of if chain}
            if len(sources) == 1:
                found[op.id] = Chain(sources.pop(), (op.prim, *(chain and chain.steps for chain in of)))
    return found


def _constant(graph: Graph, id_: str) -> bool:
    type_ = graph.by_id[id_].type
    return type_.level == Level.CONSTANT and type_.shape == (1,)


@dataclass
class _Batches:
    """Which chains are alike, and what has been made of them so far."""

    graph: Graph
    chains: dict[str, Chain]
    made: dict[tuple[str, ...], str] = field(default_factory=dict)

    def groups(self) -> list[tuple[str, ...]]:
        """Ends of chains that are alike, several at a time: what something other than a chain reads."""
        outputs = {i for o in self.graph.outputs for i in (o.logit, o.prediction)}
        alike: dict[tuple[object, ...], list[str]] = {}
        for id_, chain in self.chains.items():
            ends = id_ in outputs or any(user.id not in self.chains for user in self.graph.users[id_])
            if ends and isinstance(chain.steps[0], Primitive):
                alike.setdefault(chain.steps, []).append(id_)
        return [tuple(ids) for ids in alike.values() if len(ids) > 1]

    def side_by_side(self, rewriter: Rewriter, ids: tuple[str, ...], like: Op) -> str:
        """One value with a column for each of some ids, which are alike: the inputs stacked, then each step."""
        if ids not in self.made:
            ops = [self.graph.by_id[i] for i in ids]
            prim: Primitive
            if ids[0] not in self.chains:
                name, prim, of = "constants", Concat(), [rewriter.place[i] for i in ids]
            elif isinstance(ops[0].prim, Reshape):
                name, prim, of = "stack", Stack(), [rewriter.place[op.inputs[0]] for op in ops]
            else:
                name, prim = str(getattr(ops[0].prim, "fn", ops[0].prim.name)), ops[0].prim
                operands = zip(*(op.inputs for op in ops), strict=True)
                of = [self.side_by_side(rewriter, same, like) for same in operands]
            self.made[ids] = rewriter.make(like, name, prim, *of)
        return self.made[ids]
