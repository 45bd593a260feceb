"""Reuse: arithmetic writes over an operand that nothing reads again, instead of into new memory."""

from __future__ import annotations

from dataclasses import replace

from towerspec.ir.graph import Graph, Op
from towerspec.ir.primitives import Binary, EmbedBag, LayerNorm, Linear, LinearPacked, Matmul, MulAdd, Unary
from towerspec.ir.primitives.base import NEW
from towerspec.ir.types import Level

WRITERS = (Binary, MulAdd, Unary)
# What always puts its result into memory of its own: others may give a view of an operand, of a weight or of an input.
FRESH = (Binary, EmbedBag, LayerNorm, Linear, LinearPacked, Matmul, MulAdd, Unary)


def reuse(graph: Graph) -> Graph:
    """Lets each sum, product and activation take the memory of the first operand that it may.

    It may where the operand was made by the graph for this op alone, on the same rows and of the same width. Fresh
    memory costs more than its size: a large result that is freed at once is fetched from the system each time.
    """
    outputs = {i for o in graph.outputs for i in (o.logit, o.prediction)}
    free = {id_ for id_, users in graph.users.items() if len(users) == 1 and id_ not in outputs}
    return replace(graph, ops=tuple(_over(graph, op, free) for op in graph.ops))


def undo(graph: Graph) -> Graph:
    """The graph with each result in memory of its own again."""
    ops = [replace(op, prim=replace(op.prim, over=NEW)) if isinstance(op.prim, WRITERS) else op for op in graph.ops]
    return replace(graph, ops=tuple(ops))


def _over(graph: Graph, op: Op, free: set[str]) -> Op:
    if not isinstance(op.prim, WRITERS) or op.type.level == Level.CONSTANT:
        return op
    for place, id_ in enumerate(op.inputs):
        made = graph.by_id[id_]
        own = id_ in free and isinstance(made.prim, FRESH) and made.region == op.region
        if own and made.type == op.type and op.inputs.count(id_) == 1 and op.prim.can_take(place):
            return replace(op, prim=replace(op.prim, over=place))
    return op
