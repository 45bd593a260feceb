"""Matrix products: nearly all of a model's floating-point operations are here."""

from __future__ import annotations

import math

from towerspec.frozen import dataclass
from towerspec.ir.primitives.base import Primitive, need, same_rows
from towerspec.ir.types import Level, Type

PACKED = {"float": "packed", "bf16": "packed_bf16"}  # a packed weight's type, by that of its numbers


@dataclass(frozen=True)
class Linear(Primitive):
    """`x W^T + b` over the last axis: x `S + [I]`, W `[O, I]`, b `[O]`; for a vector x, b may be a row's own."""

    name = "linear"

    def infer(self, x: Type, weight: Type, *bias: Type) -> Type:
        need(weight.level == Level.CONSTANT and len(weight.shape) == 2, "a linear's weight is a constant matrix")
        need(
            x.shape[-1:] == weight.shape[1:],
            f"width {x.shape[-1] if x.shape else 0} meets a weight of {weight.shape[1]}",
        )
        need(all(b.shape == weight.shape[:1] for b in bias), "a linear's bias has the weight's output width")
        rows = [b for b in bias if b.level > Level.CONSTANT]
        need(not rows or len(x.shape) == 1, "a bias of a row's own takes a vector")
        return Type(same_rows(x, *rows), (*x.shape[:-1], weight.shape[0]))

    def flops(self, args: tuple[Type, ...], out: Type) -> int:
        return 2 * out.numel * args[1].shape[1]

    def code(self, args: tuple[str, ...], types: tuple[Type, ...], out: Type) -> str:
        if len(args) == 3 and types[2].level > Level.CONSTANT:
            return f"torch.addmm({args[2]}, {args[0]}, {args[1]}.t())"
        return f"F.linear({', '.join(args)})"


@dataclass(frozen=True)
class Pack(Primitive):
    """A weight `[O, I]` that a CPU may lay out, when a file is loaded, as its matrix products read it best."""

    name = "pack"

    def infer(self, weight: Type) -> Type:
        need(weight.level == Level.CONSTANT and len(weight.shape) == 2, "what is packed is a constant matrix")
        need(weight.dtype in PACKED, "what is packed is of float32 or bfloat16 numbers")
        return Type(Level.CONSTANT, weight.shape, PACKED[weight.dtype])


@dataclass(frozen=True)
class LinearPacked(Primitive):
    """`x W^T + b` with a packed weight, in the numbers of x; with `relu`, zero where below it. b may be a row's own."""

    name = "linear_packed"
    relu: bool = False

    def infer(self, x: Type, weight: Type, *bias: Type) -> Type:
        need(weight.dtype == PACKED.get(x.dtype), "a packed weight is of its input's numbers")
        need(x.shape[-1:] == weight.shape[1:], "the widths of input and weight differ")
        need(all(b.dtype == x.dtype for b in bias), "a linear's bias is of its input's numbers")
        need(all(b.shape == weight.shape[:1] for b in bias), "a linear's bias has the weight's output width")
        rows = [b for b in bias if b.level > Level.CONSTANT]
        need(not rows or len(x.shape) == 1, "a bias of a row's own takes a vector")
        return Type(same_rows(x, *rows), (*x.shape[:-1], weight.shape[0]), x.dtype)

    def flops(self, args: tuple[Type, ...], out: Type) -> int:
        return 2 * out.numel * args[1].shape[1]

    def code(self, args: tuple[str, ...], types: tuple[Type, ...], out: Type) -> str:
        bias = args[2] if len(args) == 3 else "None"
        return f"{args[1]}({args[0]}, {bias}, {self.relu})"  # the weight is a module of its own: `Packed`


@dataclass(frozen=True)
class Matmul(Primitive):
    """A product a row: `[..., I, K] x [..., K, J]`, or `[..., J, K]` transposed."""

    name = "matmul"
    transposed: bool = False

    def infer(self, a: Type, b: Type) -> Type:
        need(len(a.shape) >= 2 and len(b.shape) >= 2, "matmul takes matrices")
        inner, width = (b.shape[-1], b.shape[-2]) if self.transposed else (b.shape[-2], b.shape[-1])
        need(a.shape[-1] == inner, f"inner widths {a.shape[-1]} and {inner} differ")
        need(len(a.shape) == len(b.shape) or (b.level == Level.CONSTANT and len(b.shape) == 2), "matmul ranks differ")
        need(len(b.shape) == 2 or a.shape[:-2] == b.shape[:-2], "leading axes differ")
        return Type(same_rows(a, b), (*a.shape[:-1], width))

    def flops(self, args: tuple[Type, ...], out: Type) -> int:
        return 2 * out.numel * args[0].shape[-1]

    def code(self, args: tuple[str, ...], types: tuple[Type, ...], out: Type) -> str:
        other = f"{args[1]}.transpose(-1, -2)" if self.transposed else args[1]
        return f"torch.matmul({args[0]}, {other})"


@dataclass(frozen=True)
class Attention(Primitive):
    """Scaled dot-product attention in `heads` parts: q `[Q, D]`, k `[L, D]`, v `[L, E]`, mask `[L]`; out `[Q, E]`.

    A query that sees no key gets zeros. Vaswani et al. 2017, arXiv:1706.03762, equation 1.
    """

    name = "attention"
    heads: int = 1

    def infer(self, q: Type, k: Type, v: Type, *mask: Type) -> Type:
        need(all(len(t.shape) == 2 for t in (q, k, v)), "attention takes matrices")
        need(q.shape[1] == k.shape[1] and k.shape[0] == v.shape[0], "queries, keys and values don't fit together")
        need(
            q.shape[1] % self.heads == 0 and v.shape[1] % self.heads == 0, f"widths don't divide by {self.heads} heads"
        )
        need(all(m.shape == k.shape[:1] and m.dtype == "bool" for m in mask), "the mask is one flag a key")
        return Type(same_rows(q, k, v, *mask), (q.shape[0], v.shape[1]))

    def flops(self, args: tuple[Type, ...], out: Type) -> int:
        q, k, v = args[:3]
        return 2 * q.shape[0] * k.shape[0] * (q.shape[1] + v.shape[1])

    def code(self, args: tuple[str, ...], types: tuple[Type, ...], out: Type) -> str:
        scale = 1.0 / math.sqrt(types[0].shape[1] // self.heads)
        mask = args[3] if len(args) == 4 else "None"
        return f"attention({args[0]}, {args[1]}, {args[2]}, {mask}, {self.heads}, {scale!r})"
