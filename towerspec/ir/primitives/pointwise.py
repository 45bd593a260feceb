"""Operations that touch each number once or twice: activations, arithmetic, normalisation."""

from __future__ import annotations

from towerspec.frozen import dataclass
from towerspec.ir.primitives.base import NEW, Primitive, broadcast, need, same_rows
from towerspec.ir.types import Level, Type

UNARY = {
    "abs": "torch.abs({})",
    "elu": "F.elu({})",
    "exp": "torch.exp({})",
    "expm1": "torch.expm1({})",
    "gelu": "F.gelu({})",
    "leaky_relu": "F.leaky_relu({}, 0.01)",
    "log": "torch.log({})",
    "log1p": "torch.log1p({})",
    "logsigmoid": "F.logsigmoid({})",
    "neg": "-{}",
    "reciprocal": "torch.reciprocal({})",
    "relu": "F.relu({})",
    "sigmoid": "torch.sigmoid({})",
    "sign": "torch.sign({})",
    "silu": "F.silu({})",
    "softplus": "F.softplus({})",
    "sqrt": "torch.sqrt({})",
    "square": "torch.square({})",
    "tanh": "torch.tanh({})",
}

# Those that can write over what they read.
OVER = {
    "elu": "F.elu({}, inplace=True)",
    "leaky_relu": "F.leaky_relu({}, 0.01, inplace=True)",
    "relu": "torch.relu_({})",
    "sigmoid": "torch.sigmoid_({})",
    "silu": "F.silu({}, inplace=True)",
    "tanh": "torch.tanh_({})",
}


@dataclass(frozen=True)
class Unary(Primitive):
    """A function of each number; `over` is the operand whose memory the result takes, if any."""

    name = "unary"
    fn: str
    over: int = NEW

    def infer(self, x: Type) -> Type:
        need(self.fn in UNARY, f"no function {self.fn}")
        need(x.dtype == "float", "functions take numbers")
        return x

    def can_take(self, place: int) -> bool:
        return self.fn in OVER

    def code(self, args: tuple[str, ...], types: tuple[Type, ...], out: Type) -> str:
        return (UNARY if self.over == NEW else OVER)[self.fn].format(args[0])


_SIGNS = {"add": "+", "sub": "-", "mul": "*", "div": "/"}


@dataclass(frozen=True)
class Binary(Primitive):
    """Arithmetic of two values, broadcast over axes of size 1; `over` as of a unary."""

    name = "binary"
    fn: str
    over: int = NEW

    def infer(self, a: Type, b: Type) -> Type:
        need(self.fn in _SIGNS, f"no arithmetic {self.fn}")
        return Type(same_rows(a, b), broadcast(a, b))

    def can_take(self, place: int) -> bool:
        return place == 0 or self.fn in ("add", "mul")

    def code(self, args: tuple[str, ...], types: tuple[Type, ...], out: Type) -> str:
        if self.over == NEW:
            return f"{args[0]} {_SIGNS[self.fn]} {args[1]}"
        return f"{args[self.over]}.{self.fn}_({args[1 - self.over]})"


@dataclass(frozen=True)
class Affine(Primitive):
    """`scale * x + offset` with fixed numbers."""

    name = "affine"
    scale: float = 1.0
    offset: float = 0.0

    def infer(self, x: Type) -> Type:
        return x

    def code(self, args: tuple[str, ...], types: tuple[Type, ...], out: Type) -> str:
        scaled = args[0] if self.scale == 1.0 else f"{self.scale!r} * {args[0]}"
        return scaled if self.offset == 0.0 else f"{scaled} + {self.offset!r}"


@dataclass(frozen=True)
class MulAdd(Primitive):
    """`a * b + c` in one sweep over memory; `over` as of a unary."""

    name = "mul_add"
    over: int = NEW

    def infer(self, a: Type, b: Type, c: Type) -> Type:
        return Type(same_rows(a, b, c), broadcast(a, b, c))

    def can_take(self, place: int) -> bool:
        return True

    def code(self, args: tuple[str, ...], types: tuple[Type, ...], out: Type) -> str:
        if self.over == 2:
            return f"{args[2]}.addcmul_({args[0]}, {args[1]})"
        into = "" if self.over == NEW else f", out={args[self.over]}"
        return f"torch.addcmul({args[2]}, {args[0]}, {args[1]}{into})"


@dataclass(frozen=True)
class Clamp(Primitive):
    """Cuts each number off at two bounds."""

    name = "clamp"
    low: float = float("-inf")
    high: float = float("inf")

    def infer(self, x: Type) -> Type:
        need(self.low <= self.high, "a clamp's bounds are in order")
        return x

    def code(self, args: tuple[str, ...], types: tuple[Type, ...], out: Type) -> str:
        bounds = [f"{k}={v!r}" for k, v in (("min", self.low), ("max", self.high)) if abs(v) != float("inf")]
        return f"torch.clamp({', '.join([args[0], *bounds])})" if bounds else args[0]


@dataclass(frozen=True)
class Detach(Primitive):
    """The same numbers, with no gradient through them; the identity in serving."""

    name = "detach"

    def infer(self, x: Type) -> Type:
        return x

    def code(self, args: tuple[str, ...], types: tuple[Type, ...], out: Type) -> str:
        return f"{args[0]}.detach()"


@dataclass(frozen=True)
class MaskFill(Primitive):
    """Zeroes the positions that a mask leaves out: x `[L, D]` or `[L]`, mask `[L]`."""

    name = "mask_fill"

    def infer(self, x: Type, mask: Type) -> Type:
        need(mask.dtype == "bool" and x.shape[:1] == mask.shape, "the mask is one flag a position")
        return x.at(same_rows(x, mask))

    def code(self, args: tuple[str, ...], types: tuple[Type, ...], out: Type) -> str:
        mask = f"{args[1]}.unsqueeze(-1)" if len(types[0].shape) == 2 else args[1]
        return f"torch.where({mask}, {args[0]}, torch.zeros_like({args[0]}))"


@dataclass(frozen=True)
class Softmax(Primitive):
    """Softmax over the last axis; with a mask, over what it leaves, and zeros where it leaves nothing."""

    name = "softmax"

    def infer(self, x: Type, *mask: Type) -> Type:
        need(all(m.shape == x.shape[-1:] and m.dtype == "bool" for m in mask), "the mask is one flag a position")
        need(not mask or len(x.shape) == 1, "a masked softmax takes one score a position")
        return x.at(same_rows(x, *mask))

    def code(self, args: tuple[str, ...], types: tuple[Type, ...], out: Type) -> str:
        return f"masked_softmax({args[0]}, {args[1]})" if len(args) == 2 else f"torch.softmax({args[0]}, -1)"


@dataclass(frozen=True)
class LayerNorm(Primitive):
    """Zero mean and unit variance over the last axis, then scale and shift. Ba et al. 2016, arXiv:1607.06450."""

    name = "layernorm"
    eps: float = 1e-5

    def infer(self, x: Type, scale: Type, shift: Type) -> Type:
        need(scale.shape == shift.shape == x.shape[-1:], "scale and shift have the input's width")
        return x

    def code(self, args: tuple[str, ...], types: tuple[Type, ...], out: Type) -> str:
        return f"F.layer_norm({args[0]}, [{types[0].shape[-1]}], {args[1]}, {args[2]}, {self.eps!r})"


@dataclass(frozen=True)
class BatchNorm(Primitive):
    """Normalises a column by the batch in training, by running statistics in serving. arXiv:1502.03167."""

    name = "batchnorm"
    pure = False
    eps: float = 1e-5
    momentum: float = 0.1

    def infer(self, x: Type, scale: Type, shift: Type, mean: Type, var: Type) -> Type:
        need(len(x.shape) == 1, "batchnorm takes a vector")
        need(all(p.shape == x.shape and p.level == Level.CONSTANT for p in (scale, shift, mean, var)), "widths differ")
        return x

    def code(self, args: tuple[str, ...], types: tuple[Type, ...], out: Type) -> str:
        x, scale, shift, mean, var = args
        return f"batch_norm({x}, {mean}, {var}, {scale}, {shift}, self.training, {self.momentum!r}, {self.eps!r})"


@dataclass(frozen=True)
class Dropout(Primitive):
    """Zeroes a share of the numbers in training; the identity in serving. Srivastava et al. 2014, JMLR 15."""

    name = "dropout"
    pure = False
    p: float = 0.5

    def infer(self, x: Type) -> Type:
        return x

    def code(self, args: tuple[str, ...], types: tuple[Type, ...], out: Type) -> str:
        return f"F.dropout({args[0]}, {self.p!r}, self.training)"
