"""Precision: weights and tables in fewer bits, as the CPU that is to serve them rewards it.

Tables are read a few rows at a time, so that fewer bytes always pay; a linear pays where it is large enough to earn
back what converting its input costs. Everything between large linears stays in float32. `docs/optimiser.md` has the
measurements behind each number.
"""

from __future__ import annotations

import math

from towerspec.ir.graph import Graph, Op, Rewriter
from towerspec.ir.primitives import (
    Binary,
    Cast,
    Codes,
    Embed,
    Linear,
    LinearInt8,
    LinearPacked,
    MulAdd,
    Pack,
    Param,
    Primitive,
    Reshape,
    RowScale,
    Slice,
)
from towerspec.ir.types import Level
from towerspec.passes.pack import rectifier

# What a linear becomes, by what the CPU has: bfloat16 on matrix units, 8-bit codes on dot products of bytes.
LINEARS = {"amx": "bf16", "avx512_bf16": "bf16", "avx512_vnni": "int8", "any": "float"}
WORTH = {"bf16": 2**16, "int8": 2**17}  # numbers in a weight from which a linear of many rows gains
WORTH_OF_ONE = 2**18  # the same for a linear of a single row, which saves bytes alone
MANY = 16  # rows

HALF = 2**16  # bytes of a table from which float16 pays; a smaller one lies in the cache
EIGHTH = 2**23  # bytes from which 8-bit codes pay: in float16 the table is still larger than a core's cache
WIDE = 16  # columns from which a row has room for a scale of its own

# Ops that take a bfloat16 operand as it is: one that passes columns on, and those in which a float32 one widens it.
MOVES = (Slice,)
WIDENS = (Binary, MulAdd)


def narrow(graph: Graph, cpu: str) -> Graph:
    """Large tables in float16 or 8 bits; on a CPU that has the units for it, large linears in bfloat16 or 8 bits."""
    graph = graph.constants_first()
    return graph.rewrite(_Narrowing(graph, LINEARS[cpu]).rule).without_dead()


class _Narrowing:
    """One rewrite: which linears change, and what has been converted so far."""

    def __init__(self, graph: Graph, form: str) -> None:
        self.graph, self.form = graph, form
        self.outputs = {i for o in graph.outputs for i in (o.logit, o.prediction)}
        self.linears = {op.id for op in graph.ops if self._pays(op)}
        self.absorbed = {relu.id: id_ for id_ in self.linears if form == "bf16" and (relu := self._relu(id_))}
        self.made: dict[tuple[str, Primitive], str] = {}

    def rule(self, op: Op, rewriter: Rewriter) -> str | None:
        """The op in fewer bits, or with operands that it can take."""
        if op.type.level == Level.CONSTANT:
            return None
        if isinstance(op.prim, Embed):
            return self._table(op, rewriter)
        if op.id in self.linears:
            made = (self._bf16 if self.form == "bf16" else self._int8)(op, rewriter)
            return self._wide(rewriter, made) if op.id in self.outputs else made
        if op.id in self.absorbed:
            return op.inputs[0]
        return self._others(op, rewriter)

    # ---- what pays -----------------------------------------------------------------------------

    def _pays(self, op: Op) -> bool:
        if not isinstance(op.prim, Linear) or self.form == "float" or op.type.level == Level.CONSTANT:
            return False
        weight = self.graph.by_id[op.inputs[1]].type
        if self.form == "int8" and (len(op.type.shape) > 1 or weight.shape[1] == 1):  # PyTorch sums width 1 wrongly
            return False
        rows = math.prod(op.type.shape[:-1]) * (MANY if op.type.level == Level.CANDIDATE else 1)
        return weight.numel >= (WORTH[self.form] if rows >= MANY else WORTH_OF_ONE)

    def _relu(self, id_: str) -> Op | None:
        op = self.graph.by_id[id_]
        return None if self._row_bias(op) else rectifier(self.graph, op)

    def _row_bias(self, op: Op) -> bool:
        return len(op.inputs) == 3 and self.graph.by_id[op.inputs[2]].type.level > Level.CONSTANT

    # ---- tables --------------------------------------------------------------------------------

    def _table(self, op: Op, rewriter: Rewriter) -> str | None:
        ids, table = op.inputs
        prim, type_ = rewriter.ops[table].prim, rewriter.ops[table].type
        if not isinstance(prim, Param) or not prim.trainable or type_.bytes < HALF:  # calibrations are not trained
            return None
        if type_.bytes < EIGHTH or type_.shape[1] < WIDE:
            half = self._once(rewriter, Cast("fp16"), table)
            return rewriter.make(op, "float", Cast("float"), rewriter.make(op, "half", Embed(), ids, half))
        scales = self._once(rewriter, RowScale(), table)
        codes = rewriter.make(op, "codes", Embed(), ids, self._once(rewriter, Codes(), table, scales))
        return rewriter.make(op, "float", Binary("mul"), codes, rewriter.make(op, "scale", Embed(), ids, scales))

    # ---- linears -------------------------------------------------------------------------------

    def _bf16(self, op: Op, rewriter: Rewriter) -> str:
        x, *constants = op.inputs
        bias = constants.pop() if self._row_bias(op) else None
        x, weight, *rest = [self._bfloat(rewriter, i) for i in (x, *constants)]
        packed = self._once(rewriter, Pack(), weight)
        made = rewriter.make(op, "bf16", LinearPacked(op.id in self.absorbed.values()), x, packed, *rest)
        return rewriter.make(op, "sum", Binary("add"), made, self._wide(rewriter, bias)) if bias else made

    def _int8(self, op: Op, rewriter: Rewriter) -> str:
        x, weight, *bias = op.inputs
        scale, scales = (self._once(rewriter, RowScale(), i) for i in (x, weight))
        codes, weights = self._once(rewriter, Codes(), x, scale), self._once(rewriter, Codes(), weight, scales)
        scales = self._once(rewriter, Reshape(op.type.shape), scales)
        return rewriter.make(op, "int8", LinearInt8(), codes, scale, weights, scales, *bias)

    def _others(self, op: Op, rewriter: Rewriter) -> str | None:
        """The same op, with bfloat16 operands widened unless it takes them."""
        types = [rewriter.ops[i].type for i in op.inputs]
        if all(t.dtype != "bf16" for t in types):
            return None
        widens = isinstance(op.prim, WIDENS) and any(t.dtype == "float" and t.shape for t in types)
        if (widens or isinstance(op.prim, MOVES)) and op.id not in self.outputs:
            return None
        wide = [self._wide(rewriter, i) for i in op.inputs]
        return rewriter.keep(Op(op.id, op.prim, tuple(wide), op.type, op.scope, op.span, op.owner, op.region))

    # ---- conversions, each made once -------------------------------------------------------------

    def _bfloat(self, rewriter: Rewriter, id_: str) -> str:
        op = rewriter.ops[id_]
        if op.type.dtype == "bf16":
            return id_
        widened = op.prim == Cast("float") and rewriter.ops[op.inputs[0]].type.dtype == "bf16"
        return op.inputs[0] if widened else self._once(rewriter, Cast("bf16"), id_)

    def _wide(self, rewriter: Rewriter, id_: str) -> str:
        return self._once(rewriter, Cast("float"), id_) if rewriter.ops[id_].type.dtype == "bf16" else id_

    def _once(self, rewriter: Rewriter, prim: Primitive, *ids: str) -> str:
        key = (ids[0], prim)
        if key not in self.made:
            self.made[key] = rewriter.make(rewriter.ops[ids[0]], getattr(prim, "dtype", prim.name), prim, *ids)
        return self.made[key]
