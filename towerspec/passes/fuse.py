"""Fuse: a product and a sum become one sweep over memory, a gated sum of experts no stack of them."""

from __future__ import annotations

from towerspec.ir.graph import Graph, Op, Rewriter
from towerspec.ir.primitives import Binary, Matmul, MulAdd, Reshape, Slice, Stack
from towerspec.ir.types import Level

MOST = 16


def fuse(graph: Graph) -> Graph:
    """`a * b + c` as one op, and `[g1 … gK] · stack(e1 … eK)` as `g1 * e1 + … + gK * eK`."""
    single = {id_ for id_, users in graph.users.items() if len(users) == 1}

    def rule(op: Op, rewriter: Rewriter) -> str | None:
        if op.type.level == Level.CONSTANT:
            return None
        return _mixture(op, rewriter) or _mul_add(op, rewriter, single)

    return graph.rewrite(rule).without_dead()


def _mul_add(op: Op, rewriter: Rewriter, single: set[str]) -> str | None:
    if not (isinstance(op.prim, Binary) and op.prim.fn == "add"):
        return None
    for product, other in (op.inputs, op.inputs[::-1]):
        made = rewriter.ops[product]
        if (
            isinstance(made.prim, Binary)
            and made.prim.fn == "mul"
            and made.type.level > Level.CONSTANT
            and product in single
            and made.region == op.region
        ):
            return rewriter.make(op, "mul_add", MulAdd(), *made.inputs, other)
    return None


def _mixture(op: Op, rewriter: Rewriter) -> str | None:
    """The weighted sum, where an op is `reshape(matmul(reshape(g, [1, K]), stack(e…)), [D])`."""
    product = rewriter.ops[op.inputs[0]] if isinstance(op.prim, Reshape) else None
    if product is None or not isinstance(product.prim, Matmul) or product.prim.transposed:
        return None
    gate, stack = (rewriter.ops[i] for i in product.inputs)
    if not (isinstance(gate.prim, Reshape) and isinstance(stack.prim, Stack) and gate.type.shape[0] == 1):
        return None
    weights, experts = gate.inputs[0], stack.inputs
    if op.type.shape != stack.type.shape[1:] or rewriter.ops[weights].type.shape != (len(experts),):
        return None
    if len(experts) > MOST:
        return None
    total = ""
    for k, expert in enumerate(experts):
        weight = rewriter.make(op, f"weight_{k}", Slice(k, k + 1), weights)
        if k == 0:
            total = rewriter.make(op, "mixed_0", Binary("mul"), weight, expert)
        else:
            total = rewriter.make(op, f"mixed_{k}", MulAdd(), weight, expert, total)
    return total
