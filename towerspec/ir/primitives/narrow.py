"""Numbers in fewer bits, made by the precision pass alone: bfloat16, float16, and 8-bit codes with a scale a row."""

from __future__ import annotations

from towerspec.frozen import dataclass
from towerspec.ir.primitives.base import Primitive, need, same_rows
from towerspec.ir.types import Level, Type

FLOATS = {"float": "torch.float32", "bf16": "torch.bfloat16", "fp16": "torch.float16"}
CODES = 127  # codes go from -127 to 127, so that a number and its negative round alike


@dataclass(frozen=True)
class Cast(Primitive):
    """The same numbers, rounded to another type's."""

    name = "cast"
    dtype: str

    def infer(self, x: Type) -> Type:
        need(x.dtype in FLOATS and self.dtype in FLOATS, "a cast is from one kind of number to another")
        return Type(x.level, x.shape, self.dtype)

    def code(self, args: tuple[str, ...], types: tuple[Type, ...], out: Type) -> str:
        return f"{args[0]}.to({FLOATS[self.dtype]})"


@dataclass(frozen=True)
class RowScale(Primitive):
    """What one step of a row's codes is worth: the row's largest magnitude over 127, along the last axis."""

    name = "row_scale"

    def infer(self, x: Type) -> Type:
        need(x.dtype == "float" and len(x.shape) > 0, "a row's scale is of numbers along an axis")
        return Type(x.level, (*x.shape[:-1], 1))

    def code(self, args: tuple[str, ...], types: tuple[Type, ...], out: Type) -> str:
        return f"row_scale({args[0]})"


@dataclass(frozen=True)
class Codes(Primitive):
    """Each number as the nearest of the 255 multiples of its row's scale, in 8 bits."""

    name = "codes"

    def infer(self, x: Type, scale: Type) -> Type:
        need(x.dtype == scale.dtype == "float", "codes are of numbers")
        need(scale.shape == (*x.shape[:-1], 1), "a scale is one number a row")
        return Type(same_rows(x, scale), x.shape, "int8")

    def code(self, args: tuple[str, ...], types: tuple[Type, ...], out: Type) -> str:
        return f"codes({args[0]}, {args[1]})"


@dataclass(frozen=True)
class LinearInt8(Primitive):
    """`x W^T + b` of 8-bit codes, summed in whole numbers: x and W with a scale a row, b `[O]` or a row's own."""

    name = "linear_int8"

    def infer(self, x: Type, scale: Type, weight: Type, scales: Type, *bias: Type) -> Type:
        need(x.dtype == weight.dtype == "int8" and len(x.shape) == 1, "an 8-bit linear takes codes of vectors")
        need(scale.shape == (1,) and scales.shape == weight.shape[:1], "there is one scale a row")
        need(weight.level == scales.level == Level.CONSTANT, "an 8-bit linear's weight is a constant")
        need(x.shape == weight.shape[1:], "the widths of input and weight differ")
        need(all(b.shape == weight.shape[:1] for b in bias), "a linear's bias has the weight's output width")
        return Type(same_rows(x, scale, *bias), weight.shape[:1])

    def flops(self, args: tuple[Type, ...], out: Type) -> int:
        return 2 * out.numel * args[2].shape[1]

    def code(self, args: tuple[str, ...], types: tuple[Type, ...], out: Type) -> str:
        return f"linear_int8({', '.join(args)})"
