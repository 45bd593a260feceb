"""The op graph: primitives in topological order, each with its type, its place in the spec, and whose it is."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from towerspec.diagnostics import Span
from towerspec.ir.primitives import Embed, Input, Merge, Param, Primitive
from towerspec.ir.types import Level, Type


@dataclass(frozen=True)
class Op:
    """One operation. `inputs` are ids of earlier ops.

    `scope` is the path of the spec's statement it came from, `owner` the surface that it belongs to (none for
    the trunk), and `region` the branch arms that it runs in, outermost first, each as `branch=arm`.
    """

    id: str
    prim: Primitive
    inputs: tuple[str, ...]
    type: Type
    scope: str
    span: Span | None = field(default=None, compare=False)
    owner: str | None = None
    region: tuple[str, ...] = ()


@dataclass(frozen=True)
class Output:
    """What one head gives: its raw logit and its calibrated prediction, as op ids."""

    surface: str
    name: str
    kind: str
    logit: str
    prediction: str


@dataclass(frozen=True)
class Graph:
    """All surfaces' operations, or one surface's slice of them where `surface` is set."""

    model: str
    surfaces: tuple[str, ...]
    ops: tuple[Op, ...]
    outputs: tuple[Output, ...]
    surface: str | None = None

    @functools.cached_property
    def by_id(self) -> dict[str, Op]:
        return {op.id: op for op in self.ops}

    @functools.cached_property
    def order(self) -> dict[str, int]:
        """Each op's place among all."""
        return {op.id: at for at, op in enumerate(self.ops)}

    @functools.cached_property
    def users(self) -> dict[str, tuple[Op, ...]]:
        """For each id, the ops that read it."""
        found: dict[str, list[Op]] = {op.id: [] for op in self.ops}
        for op in self.ops:
            for operand in dict.fromkeys(op.inputs):
                found[operand].append(op)
        return {id_: tuple(ops) for id_, ops in found.items()}

    @functools.cached_property
    def heads(self) -> dict[str, tuple[Output, ...]]:
        """Each surface's outputs."""
        found: dict[str, list[Output]] = {surface: [] for surface in self.surfaces}
        for output in self.outputs:
            found[output.surface].append(output)
        return {surface: tuple(outputs) for surface, outputs in found.items()}

    @functools.cached_property
    def tables(self) -> frozenset[str]:
        """The parameters from which nothing but rows is read, as ids."""
        return frozenset(
            op.id
            for op, _ in self.params
            if all(isinstance(user.prim, Embed) and user.inputs[0] != op.id for user in self.users[op.id])
        )

    @property
    def params(self) -> tuple[tuple[Op, Param], ...]:
        """The parameter ops, by path."""
        found = [(op, op.prim) for op in self.ops if isinstance(op.prim, Param)]
        return tuple(sorted(found, key=lambda pair: pair[1].path))

    @property
    def inputs(self) -> tuple[tuple[Op, Input], ...]:
        """The input ops in call order: the request's, then the candidates', each in the spec's order."""
        found = [(op, op.prim) for op in self.ops if isinstance(op.prim, Input)]
        return tuple(sorted(found, key=lambda pair: pair[1].level))

    def types(self, op: Op) -> tuple[Type, ...]:
        return tuple(self.by_id[i].type for i in op.inputs)

    def ancestors(self, ids: Iterable[str]) -> set[str]:
        """The given ids and everything that they are computed from."""
        keep = set(ids)
        for op in reversed(self.ops):
            if op.id in keep:
                keep.update(op.inputs)
        return keep

    def restrict(self, outputs: Iterable[Output]) -> Graph:
        """Only the given outputs and what they need."""
        outputs = tuple(outputs)
        keep = self.ancestors(i for o in outputs for i in (o.logit, o.prediction))
        return replace(self, ops=tuple(op for op in self.ops if op.id in keep), outputs=outputs)

    def constants_first(self) -> Graph:
        """The same graph with inputs and constants before all else, so that a rewrite finds them ready."""
        early = [op for op in self.ops if op.type.level == Level.CONSTANT or isinstance(op.prim, Input)]
        ids = {op.id for op in early}
        return replace(self, ops=(*early, *(op for op in self.ops if op.id not in ids)))

    def rewrite(self, rule: Callable[[Op, Rewriter], str | None]) -> Graph:
        """A graph in which each op was offered to `rule`, in order, with its operands already rewritten.

        The rule returns the id that takes the op's place (often of an op that it made with the rewriter),
        or none to keep the op.
        """
        rewriter = Rewriter(self)
        for op in self.ops:
            op = replace(op, inputs=tuple(rewriter.place[i] for i in op.inputs))
            instead = rule(op, rewriter)
            rewriter.place[op.id] = rewriter.keep(op) if instead is None else instead
        place = rewriter.place
        outputs = tuple(replace(o, logit=place[o.logit], prediction=place[o.prediction]) for o in self.outputs)
        return replace(self, ops=tuple(rewriter.ops.values()), outputs=outputs)

    def inferred(self) -> Graph:
        """The same ops, their types and whose they are inferred anew."""
        return self.rewrite(lambda op, rewriter: None)

    def without_dead(self) -> Graph:
        """Without the ops that no output needs."""
        return self.restrict(self.outputs)


class Rewriter:
    """Collects the ops of a graph that a rewrite is building."""

    def __init__(self, graph: Graph) -> None:
        self.ops: dict[str, Op] = {}
        self.place: dict[str, str] = {}
        self._taken = {op.id for op in graph.ops}
        self._counts: dict[str, int] = {}  # how often each name was asked for, so that none is tried again

    def keep(self, op: Op) -> str:
        """Adds an op as it is, its type and whose it is inferred anew."""
        operands = [self.ops[i] for i in op.inputs]
        owner = op.owner or next((o.owner for o in operands if o.owner), None)
        self.ops[op.id] = replace(op, type=op.prim.infer(*(o.type for o in operands)), owner=owner)
        return op.id

    def make(self, like: Op, suffix: str, prim: Primitive, *inputs: str) -> str:
        """Adds a new op in the place of `like`, named after it."""
        base = f"{like.id}.{suffix}"
        name, count = base, self._counts.get(base, 1)
        while name in self._taken:
            count += 1
            name = f"{base}{count}"
        self._counts[base] = count
        self._taken.add(name)
        return self.keep(replace(like, id=name, prim=prim, inputs=inputs))


def natural_levels(graph: Graph) -> dict[str, Level]:
    """What each value really depends on, looking through expands: the level it could be computed at."""
    found: dict[str, Level] = {}
    for op in graph.ops:
        if isinstance(op.prim, Input):
            found[op.id] = op.prim.level
        elif isinstance(op.prim, Merge):
            found[op.id] = max((found[i] for i in op.inputs), default=Level.REQUEST)
        else:
            found[op.id] = max((found[i] for i in op.inputs), default=Level.CONSTANT)
    return found
