"""From ops to the steps of a function: one step an op where the code is flat, or one a statement of the spec.

A step runs at a place: the root, a surface's own part, or an arm of a branch. The merges of one branch are a step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from towerspec.ir.graph import Graph, Op
from towerspec.ir.primitives import Expand, Input, Merge, Param
from towerspec.ir.types import Level
from towerspec.ir.verify import GraphError

Place = tuple[str, ...]


@dataclass
class Step:
    """Ops that are written together; `reads` and `makes` are ids of values, in order."""

    place: Place
    scope: str
    ops: list[Op] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)
    makes: list[str] = field(default_factory=list)

    @property
    def branch(self) -> str | None:
        """The branch whose arms this step brings together, if it does."""
        prim = self.ops[0].prim
        return prim.branch if isinstance(prim, Merge) else None


@dataclass
class Plan:
    """A graph's steps in order, by place, with the values that each place takes from outside and gives back."""

    graph: Graph
    steps: list[Step]

    def at(self, place: Place) -> list[Step]:
        return self._at.get(place, [])

    def captured(self, place: Place) -> list[str]:
        """The values that are made outside a place and read in it or below, in graph order."""
        return self._captured.get(place, [])

    def repeats(self, place: Place) -> bool:
        """Whether a constant is repeated there for each request, so that their number must be known."""
        ops = [op for s in self.at(place) for op in s.ops if isinstance(op.prim, Expand)]
        return any(op.prim.level == Level.REQUEST for op in ops if isinstance(op.prim, Expand))

    @cached_property
    def arms(self) -> dict[Place, list[str]]:
        """The places of all branches' arms, each with the values of it that its branch's merges read, in order."""
        found: dict[Place, list[str]] = {}
        for step in self.steps:
            merge = step.ops[0].prim
            for label, _ in merge.arms if isinstance(merge, Merge) else ():
                found[arm_of(step, label)] = _returned(step, label)
        return found

    @cached_property
    def _at(self) -> dict[Place, list[Step]]:
        found: dict[Place, list[Step]] = {}
        for step in self.steps:
            found.setdefault(step.place, []).append(step)
        return found

    @cached_property
    def _captured(self) -> dict[Place, list[str]]:
        inside: dict[Place, list[Step]] = {}
        for step in self.steps:
            for depth in range(1, len(step.place) + 1):
                inside.setdefault(step.place[:depth], []).append(step)
        return {place: self._read(steps) for place, steps in inside.items()}

    def _read(self, steps: list[Step]) -> list[str]:
        """The values that some steps read and none of them makes."""
        read = {i for s in steps for i in s.reads} - {i for s in steps for i in s.makes}
        values = [i for i in read if not isinstance(self.graph.by_id[i].prim, Param)]
        return sorted(values, key=self.graph.order.__getitem__)


def own(surface: str) -> Place:
    """The place of what belongs to one surface, where surfaces are apart."""
    return (f"surface={surface}",)


def arm_of(step: Step, label: str) -> Place:
    """The place of an arm of the branch whose merges a step holds."""
    return (*step.place, f"{step.branch}={label}")


def _returned(step: Step, label: str) -> list[str]:
    found = [
        op.inputs[1 + op.prim.defined.index(label)]
        for op in step.ops
        if isinstance(op.prim, Merge) and label in op.prim.defined
    ]
    return list(dict.fromkeys(found))


def place_of(op: Op, by_surface: bool) -> Place:
    """Where an op runs: in its surface's own part where those are apart, in its branch arms."""
    return (*own(op.owner), *op.region) if by_surface and op.owner else op.region


def plan(graph: Graph, grouped: bool) -> Plan:
    """The steps of a graph: one for each statement of the spec where `grouped`, else one for each op.

    Where grouped, each surface's own part is a place of its own.
    """
    steps: dict[tuple[object, ...], Step] = {}
    step_of: dict[str, Step] = {}
    for op in graph.ops:
        if isinstance(op.prim, (Input, Param)):
            continue
        place = place_of(op, grouped)
        if isinstance(op.prim, Merge):
            key: tuple[object, ...] = ("merge", op.prim.branch, place)
        else:
            key = (op.scope, op.owner, place) if grouped else (op.id,)
        step = steps.setdefault(key, Step(place, op.scope))
        step.ops.append(op)
        step_of[op.id] = step
    _connect(graph, steps, step_of)
    return Plan(graph, _sorted(list(steps.values()), step_of))


def _connect(graph: Graph, steps: dict[tuple[object, ...], Step], step_of: dict[str, Step]) -> None:
    wanted = {i for o in graph.outputs for i in (o.logit, o.prediction)}
    for step in steps.values():
        own = {op.id for op in step.ops}
        operands = [i for op in step.ops for i in op.inputs if i not in own]
        step.reads = list(dict.fromkeys(operands))
    for step in steps.values():
        for i in step.reads:
            if i in step_of:
                wanted.add(i)
    for step in steps.values():
        step.makes = [op.id for op in step.ops if op.id in wanted]


def _sorted(steps: list[Step], step_of: dict[str, Step]) -> list[Step]:
    done: set[int] = set()
    begun: set[int] = set()
    ordered: list[Step] = []
    stack = [(step, False) for step in reversed(steps)]
    while stack:
        step, ready = stack.pop()
        if id(step) in done:
            continue
        if ready:
            done.add(id(step))
            ordered.append(step)
            continue
        if id(step) in begun:
            raise GraphError(f"the statements around {step.scope} depend on each other in a circle")
        begun.add(id(step))
        stack.append((step, True))
        before = [step_of[i] for i in step.reads if i in step_of]
        stack += [(s, False) for s in reversed(before) if id(s) not in done and s is not step]
    return ordered
