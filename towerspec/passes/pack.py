"""Pack: a large weight is laid out for the CPU's matrix products once, when its file is loaded.

A product otherwise lays its weight out anew at each call, or reads it as it lies. `docs/optimiser.md` has the
measurements; what a CPU gains by it is decided where the file is loaded, so that one file serves all of them.
"""

from __future__ import annotations

import math

from towerspec.ir.graph import Graph, Op, Rewriter
from towerspec.ir.primitives import Linear, LinearPacked, Pack, Unary
from towerspec.ir.types import Level

WORTH = 2**16  # numbers in a weight from which a product of many rows gains more than a call through oneDNN costs
MANY = 16  # rows


def pack(graph: Graph) -> Graph:
    """Packs the weights of large linears of many rows, and makes a rectifier behind one a part of it."""
    linears = {op.id for op in graph.ops if _pays(graph, op)}
    if not linears:
        return graph
    graph = graph.constants_first()
    absorbed = {relu.id: id_ for id_ in linears if (relu := rectifier(graph, graph.by_id[id_]))}
    packed: dict[str, str] = {}

    def rule(op: Op, rewriter: Rewriter) -> str | None:
        if op.id in absorbed:
            return op.inputs[0]
        if op.id not in linears:
            return None
        x, weight, *bias = op.inputs
        if weight not in packed:
            packed[weight] = rewriter.make(rewriter.ops[weight], "packed", Pack(), weight)
        return rewriter.make(op, "fast", LinearPacked(op.id in absorbed.values()), x, packed[weight], *bias)

    return graph.rewrite(rule).without_dead()


def rectifier(graph: Graph, linear: Op) -> Op | None:
    """The rectifier that is all that reads a linear, and can be part of it."""
    outputs = {i for o in graph.outputs for i in (o.logit, o.prediction)}
    users = graph.users[linear.id]
    if len(users) != 1 or linear.id in outputs or users[0].id in outputs:
        return None
    return users[0] if users[0].prim == Unary("relu") and users[0].region == linear.region else None


def _pays(graph: Graph, op: Op) -> bool:
    if not isinstance(op.prim, Linear) or op.type.level == Level.CONSTANT:
        return False
    rows = math.prod(op.type.shape[:-1]) * (MANY if op.type.level == Level.CANDIDATE else 1)
    return rows >= MANY and graph.by_id[op.inputs[1]].type.numel >= WORTH
