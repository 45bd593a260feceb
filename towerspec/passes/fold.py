"""Fold: a fixed scale or shift after a linear goes into its weight and bias; in serving, batch normalisation is one.

The scale and shift of an input's normalisation stay where they are: `x / s - m / s` would lose the digits that
`(x - m) / s` keeps where the mean is large.
"""

from __future__ import annotations

from dataclasses import dataclass

from towerspec.ir.graph import Graph, Op, Rewriter
from towerspec.ir.primitives import Affine, BatchNorm, Binary, Linear, MulAdd, Primitive, Reshape, Slice, Unary
from towerspec.ir.types import Level


def fold_constants(graph: Graph) -> Graph:
    """Folds arithmetic with constants, temperatures and batch normalisation into the linear before them."""
    graph = graph.constants_first()
    outputs = {i for o in graph.outputs for i in (o.logit, o.prediction)}
    single = {id_ for id_, users in graph.users.items() if len(users) == 1} - outputs

    def rule(op: Op, rewriter: Rewriter) -> str | None:
        at = _operand(op, rewriter)
        if at is None or len(op.type.shape) != 1:
            return None
        write = _Constants(rewriter, op)
        base = rewriter.ops[op.inputs[at]]
        if graph.by_id[op.id].inputs[at] in single and _is_linear(base, op, rewriter):
            return _folded(write, op, at, base)
        if isinstance(op.prim, BatchNorm):
            return rewriter.make(op, "folded", MulAdd(), base.id, *write.line(op))
        return None

    return graph.rewrite(rule).without_dead()


def _operand(op: Op, rewriter: Rewriter) -> int | None:
    """Which operand of an op is scaled or shifted by constants, if that is what it does."""
    if op.type.level == Level.CONSTANT:
        return None
    if isinstance(op.prim, (Affine, BatchNorm)):
        return 0
    if not isinstance(op.prim, Binary):
        return None
    fixed = [rewriter.ops[i].type.level == Level.CONSTANT for i in op.inputs]
    if fixed == [False, True]:
        return 0
    return 1 if fixed == [True, False] and op.prim.fn != "div" else None


def _is_linear(base: Op, op: Op, rewriter: Rewriter) -> bool:
    fixed = all(rewriter.ops[i].type.level == Level.CONSTANT for i in base.inputs[1:])
    return isinstance(base.prim, Linear) and fixed and base.region == op.region and base.type.shape == op.type.shape


def _folded(write: _Constants, op: Op, at: int, linear: Op) -> str | None:
    """The linear with the op in its weight and bias."""
    x, weight, *bias = linear.inputs
    anchor = bias[0] if bias else write.row_of(weight)
    scale, shift = write.line(op) if isinstance(op.prim, BatchNorm) else write.arithmetic(op, at, anchor)
    moved = bias[0] if bias else None
    if scale is not None:
        column = write.op(Reshape((write.width(scale), 1)), scale)
        weight = write.op(Binary("mul"), weight, column)
        moved = write.op(Binary("mul"), moved, scale) if moved else None
    if shift is not None:
        moved = write.op(Binary("add"), moved or write.like(anchor, 0.0), shift)
    return write.rewriter.make(op, "folded", Linear(), x, weight, *([moved] if moved else []))


@dataclass(frozen=True)
class _Constants:
    """Writes arithmetic of constants, which is carried out once, when the graph is written."""

    rewriter: Rewriter
    at: Op

    def op(self, prim: Primitive, *inputs: str) -> str:
        return self.rewriter.make(self.at, "constant", prim, *inputs)

    def width(self, id_: str) -> int:
        return self.rewriter.ops[id_].type.numel

    def like(self, anchor: str, number: float) -> str:
        """A fixed number in the shape of another constant."""
        return self.op(Affine(0.0, number), anchor)

    def row_of(self, weight: str) -> str:
        """A constant as wide as what a weight `[O, I]` gives."""
        shape = self.rewriter.ops[weight].type.shape
        column = self.op(Slice(0, 1), weight)
        return self.op(Reshape((shape[0],)), column)

    def arithmetic(self, op: Op, at: int, anchor: str) -> tuple[str | None, str | None]:
        """The scale and the shift, where there is one, of arithmetic with fixed numbers or one constant."""
        if isinstance(op.prim, Affine):
            scale, shift = op.prim.scale, op.prim.offset
            return (self.like(anchor, scale) if scale != 1.0 else None, self.like(anchor, shift) if shift else None)
        assert isinstance(op.prim, Binary)
        constant = op.inputs[1 - at]
        if op.prim.fn == "mul":
            return constant, None
        if op.prim.fn == "div":
            return self.op(Unary("reciprocal"), constant), None
        if op.prim.fn == "add":
            return None, constant
        return (None, self.op(Unary("neg"), constant)) if at == 0 else (self.like(anchor, -1.0), constant)

    def line(self, op: Op) -> tuple[str, str]:
        """Batch normalisation with running statistics as a scale and a shift."""
        assert isinstance(op.prim, BatchNorm)
        _, gain, offset, mean, var = op.inputs
        deviation = self.op(Unary("sqrt"), self.op(Affine(1.0, op.prim.eps), var))
        scale = self.op(Binary("div"), gain, deviation)
        return scale, self.op(Binary("sub"), offset, self.op(Binary("mul"), mean, scale))
