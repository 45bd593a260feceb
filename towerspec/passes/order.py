"""Order: within a statement, what is computed last is read first, while it is still in the caches."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from itertools import groupby
from operator import or_

from towerspec.ir.graph import Graph, Op


def order(graph: Graph) -> Graph:
    """Puts each operand's computation right before its reader: the longest first, the others after it.

    A sum over experts takes each one as soon as it is there, so that few results are held at a time. Statements stay
    in their order, and so do the arms of a branch.
    """
    ops: list[Op] = []
    for _, run in groupby(graph.ops, key=lambda op: (op.scope, op.region)):
        ops += _ordered(list(run))
    return replace(graph, ops=tuple(ops))


def _ordered(run: list[Op]) -> list[Op]:
    own = {op.id: op for op in run}
    needs: dict[str, int] = {}  # a bit for each op of the run
    for place, op in enumerate(run):
        needs[op.id] = reduce(or_, (needs[i] for i in op.inputs if i in own), 1 << place)
    read = {i for op in run for i in op.inputs}
    made: dict[str, Op] = {}
    # An op on the stack twice: first for its operands, then for itself.
    stack = [(op.id, False) for op in reversed(run) if op.id not in read]
    while stack:
        id_, ready = stack.pop()
        if id_ in made:
            continue
        if ready:
            made[id_] = own[id_]
            continue
        stack.append((id_, True))
        operands = [i for i in own[id_].inputs if i in own and i not in made]
        stack += [(i, False) for i in sorted(operands, key=lambda i: needs[i].bit_count())]
    return list(made.values())
