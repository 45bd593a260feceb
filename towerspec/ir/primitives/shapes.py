"""Operations that move numbers without changing them, and those that reduce an axis."""

from __future__ import annotations

import math

from towerspec.frozen import dataclass
from towerspec.ir.primitives.base import Primitive, need, same_rows
from towerspec.ir.types import Level, Type


@dataclass(frozen=True)
class Concat(Primitive):
    """Joins values along an axis, counted from the end."""

    name = "concat"
    axis: int = -1

    def infer(self, *args: Type) -> Type:
        need(len(args) > 0, "nothing to concatenate")
        need(-len(args[0].shape) <= self.axis < 0, "there is no such axis")
        need(len({self._others(a) for a in args}) == 1, "shapes differ on the other axes")
        need(len({min(a.level, 1) for a in args}) == 1, "a constant needs an expand before a concat")
        shape = list(args[0].shape)
        shape[self.axis] = sum(a.shape[self.axis] for a in args)
        return Type(same_rows(*args), tuple(shape), args[0].dtype)

    def _others(self, x: Type) -> tuple[int, ...]:
        shape = list(x.shape)
        del shape[self.axis]
        return tuple(shape)

    def code(self, args: tuple[str, ...], types: tuple[Type, ...], out: Type) -> str:
        return f"torch.cat([{', '.join(args)}], {self.axis})"


@dataclass(frozen=True)
class Stack(Primitive):
    """Stacks K vectors `[D]` into a matrix `[K, D]`, or K single numbers into a vector `[K]`."""

    name = "stack"

    def infer(self, *args: Type) -> Type:
        need(len(args) > 0 and len({a.shape for a in args}) == 1, "vectors of one width stack")
        need(len({min(a.level, 1) for a in args}) == 1, "a constant needs an expand before a stack")
        need(len(args[0].shape) <= 1, "stack takes vectors or single numbers")
        return Type(same_rows(*args), (len(args), *args[0].shape), args[0].dtype)

    def code(self, args: tuple[str, ...], types: tuple[Type, ...], out: Type) -> str:
        return f"torch.stack([{', '.join(args)}], {-1 - len(types[0].shape)})"


@dataclass(frozen=True)
class Slice(Primitive):
    """Columns `start` to `stop` of the last axis."""

    name = "slice"
    start: int
    stop: int

    def infer(self, x: Type) -> Type:
        need(0 <= self.start < self.stop <= x.shape[-1], "the slice lies within the width")
        return Type(x.level, (*x.shape[:-1], self.stop - self.start), x.dtype)

    def code(self, args: tuple[str, ...], types: tuple[Type, ...], out: Type) -> str:
        return f"{args[0]}[..., {self.start}:{self.stop}]"


@dataclass(frozen=True)
class Reshape(Primitive):
    """The same numbers a row in another shape."""

    name = "reshape"
    shape: tuple[int, ...]

    def infer(self, x: Type) -> Type:
        need(math.prod(self.shape) == x.numel, "a reshape keeps the count of numbers")
        return Type(x.level, self.shape, x.dtype)

    def code(self, args: tuple[str, ...], types: tuple[Type, ...], out: Type) -> str:
        rows = [] if types[0].level == Level.CONSTANT else [-1]
        return f"{args[0]}.reshape({[*rows, *self.shape]})"


@dataclass(frozen=True)
class Transpose(Primitive):
    """Swaps the last two axes."""

    name = "transpose"

    def infer(self, x: Type) -> Type:
        need(len(x.shape) >= 2, "transpose takes a matrix")
        return Type(x.level, (*x.shape[:-2], x.shape[-1], x.shape[-2]), x.dtype)

    def code(self, args: tuple[str, ...], types: tuple[Type, ...], out: Type) -> str:
        return f"{args[0]}.transpose(-1, -2)"


@dataclass(frozen=True)
class Reduce(Primitive):
    """The sum, mean or maximum over one axis, counted from the end."""

    name = "reduce"
    fn: str
    axis: int
    keep: bool = False

    def infer(self, x: Type) -> Type:
        need(self.fn in ("sum", "mean", "max") and -len(x.shape) <= self.axis < 0, "reduce needs an axis of the value")
        shape = list(x.shape)
        shape[self.axis : self.axis + 1 or None] = [1] if self.keep else []
        return Type(x.level, tuple(shape), x.dtype)

    def code(self, args: tuple[str, ...], types: tuple[Type, ...], out: Type) -> str:
        fn = "amax" if self.fn == "max" else self.fn
        return f"{args[0]}.{fn}({self.axis}{', keepdim=True' if self.keep else ''})"


@dataclass(frozen=True)
class Pool(Primitive):
    """The sum, mean, maximum or last of the positions that a mask leaves, else zeros: `[L, D]`, `[L]` to `[D]`."""

    name = "pool"
    fn: str

    def infer(self, x: Type, mask: Type) -> Type:
        need(self.fn in ("sum", "mean", "max", "last"), f"no pooling {self.fn}")
        need(
            len(x.shape) == 2 and mask.shape == x.shape[:1] and mask.dtype == "bool",
            "pool takes a sequence and its mask",
        )
        return Type(same_rows(x, mask), x.shape[1:])

    def code(self, args: tuple[str, ...], types: tuple[Type, ...], out: Type) -> str:
        return f"pool_{self.fn}({args[0]}, {args[1]})"
