"""What the rows and columns of each parameter stand for, by name: a table's ids, a first layer's features.

Two specs that differ in a feature have weights of other shapes, or of the same shape and other columns. By these names
one can tell which number of the one is which number of the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from towerspec.ir.graph import Graph, Op
from towerspec.ir.primitives import (
    Affine,
    BatchNorm,
    Binary,
    Clamp,
    Concat,
    Detach,
    Dropout,
    Embed,
    EmbedBag,
    Expand,
    Fill,
    Hash,
    Ids,
    LayerNorm,
    Linear,
    MaskFill,
    Matmul,
    Merge,
    MulAdd,
    Pool,
    Reduce,
    Softmax,
    Stack,
    Unary,
    ZeroRow,
)

Axis = tuple[str, int]  # an op and one of its axes, counted from the end


@dataclass(frozen=True)
class Label:
    """One place of an axis: the first value that has it, with its width, and its number there.

    `within` is the part of a concat that it comes by: one value may stand in several.
    """

    of: str
    width: int
    place: int
    within: str = ""


@dataclass(frozen=True)
class Rows:
    """The rows of a table, which are ids as they are or hashed: the known ones, the unknown id's, the missing one's."""

    known: int
    hashed: bool


Names = tuple[Label, ...] | Rows

# What computes each number of a vector from the numbers at its own place.
POINTWISE = (Affine, BatchNorm, Binary, Clamp, Detach, Dropout, Expand, Fill, LayerNorm, MulAdd, Unary, ZeroRow)


def axes(graph: Graph) -> dict[str, tuple[Names, ...]]:
    """For each parameter by path, what each place of each of its axes stands for.

    A label that is equal in two graphs stands for the same thing in both, as far as names tell.

    >>> from towerspec.check import check_text
    >>> text = "model m candidate { a : number  b : number } trunk { z = linear(candidate, width: 1) } "
    >>> _, graph = check_text(f"{text} surface s {{ tower {{ head y : binary }} }}").sound()
    >>> [label.of for label in axes(graph)["trunk.z.weight"][1]]
    ['features.a.reshape', 'features.b.reshape']
    """
    named = _Axes(graph)
    return {
        param.path: tuple(named.names((op.id, axis - len(param.shape))) for axis in range(len(param.shape)))
        for op, param in graph.params
    }


class _Axes:
    """The axes of a graph's values, those that run along each other in one class."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.parent: dict[Axis, Axis] = {}
        self.rows: dict[str, Rows] = {}  # of tables, by their op
        for op in graph.ops:
            for one, other in self._along(op):
                self._join(one, other)
            self._look_up(op)
        self.members: dict[Axis, list[Axis]] = {}
        for op in graph.ops:
            for axis in range(-len(op.type.shape), 0):
                self.members.setdefault(self._root((op.id, axis)), []).append((op.id, axis))
        self._found: dict[Axis, tuple[Label, ...]] = {}
        for op in graph.ops:  # the parts of what is joined before it
            if isinstance(op.prim, Concat):
                self._labels_of((op.id, op.prim.axis))

    def names(self, axis: Axis) -> Names:
        id_, at = axis
        return self.rows[id_] if at == -2 and id_ in self.rows else self._labels_of(axis)

    def _labels_of(self, axis: Axis) -> tuple[Label, ...]:
        root = self._root(axis)
        if root not in self._found:
            self._found[root] = self._labels(self.members[root])
        return self._found[root]

    def _labels(self, members: list[Axis]) -> tuple[Label, ...]:
        """The parts of what is joined; otherwise the first value's name and each place's number."""
        for id_, axis in members:
            op = self.graph.by_id[id_]
            if isinstance(op.prim, Concat) and op.prim.axis == axis:
                parts = {part: self._labels_of((part, axis)) for part in op.inputs}
                return tuple(replace(label, within=part) for part in op.inputs for label in parts[part])
        id_, axis = members[0]
        size = self.graph.by_id[id_].type.shape[axis]
        return tuple(Label(id_, size, place) for place in range(size))

    # ---- which run along each other ------------------------------------------------------------

    def _along(self, op: Op) -> Iterator[tuple[Axis, Axis]]:
        prim, inputs = op.prim, op.inputs
        if isinstance(prim, POINTWISE):
            for operand in inputs:
                yield from self._aligned(operand, op)
        elif isinstance(prim, (MaskFill, Softmax)):
            yield from self._aligned(inputs[0], op)
        elif isinstance(prim, Linear):
            yield (inputs[1], -1), (inputs[0], -1)
            yield (inputs[1], -2), (op.id, -1)
            yield from (((bias, -1), (op.id, -1)) for bias in inputs[2:])
        elif isinstance(prim, Matmul):
            inner, outer = (-1, -2) if prim.transposed else (-2, -1)
            yield (inputs[0], -1), (inputs[1], inner)
            yield (inputs[1], outer), (op.id, -1)
        elif isinstance(prim, (Embed, EmbedBag)):
            yield (inputs[1], -1), (op.id, -1)
        elif isinstance(prim, Merge):
            for operand in inputs[1:]:
                yield from self._aligned(operand, op)
        elif isinstance(prim, (Stack, Pool)) or (isinstance(prim, Reduce) and prim.axis != -1):
            for operand in inputs if isinstance(prim, Stack) else inputs[:1]:
                if self.graph.by_id[operand].type.shape[-1:] == op.type.shape[-1:]:
                    yield (operand, -1), (op.id, -1)

    def _aligned(self, operand: str, op: Op) -> Iterator[tuple[Axis, Axis]]:
        """The axes of an operand and of what it becomes, from the last one on, as far as they are as long."""
        mine, other = op.type.shape, self.graph.by_id[operand].type.shape
        for axis in range(-min(len(mine), len(other)), 0):
            if mine[axis] == other[axis]:
                yield (operand, axis), (op.id, axis)

    def _look_up(self, op: Op) -> None:
        """What the rows of a table are, by the ids that are looked up in it."""
        if not isinstance(op.prim, (Embed, EmbedBag)):
            return
        ids = self.graph.by_id[op.inputs[0]]
        while not isinstance(ids.prim, Ids):
            if not ids.inputs:
                return
            ids = self.graph.by_id[ids.inputs[0]]
        hashed = isinstance(self.graph.by_id[ids.inputs[0]].prim, Hash)
        self.rows[op.inputs[1]] = Rows(ids.prim.rows, hashed)

    # ---- classes -------------------------------------------------------------------------------

    def _root(self, axis: Axis) -> Axis:
        while (above := self.parent.get(axis, axis)) != axis:
            self.parent[axis] = self.parent.get(above, above)
            axis = above
        return axis

    def _join(self, one: Axis, other: Axis) -> None:
        a, b = self._root(one), self._root(other)
        if a != b:
            self.parent[b] = a
