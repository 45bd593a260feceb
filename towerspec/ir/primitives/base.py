"""The base of all primitives, and their registry."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from towerspec.frozen import dataclass
from towerspec.ir.types import Level, ShapeError, Type

PRIMITIVES: dict[str, type[Primitive]] = {}
NEW = -1  # in place of an operand: the result takes memory of its own


@dataclass(frozen=True)
class Primitive:
    """One kind of operation; its dataclass fields are the operation's attributes.

    A primitive says which operands it takes and what comes out (`infer`), what a row costs (`flops`,
    `traffic`), and how it is written in PyTorch (`code`). Nothing else in the compiler knows it.
    """

    name: ClassVar[str]
    pure: ClassVar[bool] = True  # the same operands always give the same result, in training too
    over = NEW  # the operand whose memory the result takes; an attribute where a primitive can do so

    def __init_subclass__(cls) -> None:
        if "name" in cls.__dict__:
            PRIMITIVES[cls.name] = cls

    def infer(self, *args: Any, **kwargs: Any) -> Type:
        """The result's type; raises `ShapeError` where the operands don't fit."""
        raise NotImplementedError(f"{type(self).__name__} has no type rule")

    def flops(self, args: tuple[Type, ...], out: Type) -> int:
        """Floating-point operations a row, counted as torch.utils.flop_counter does: matrix products only."""
        return 0

    def traffic(self, args: tuple[Type, ...], out: Type) -> int:
        """Bytes read and written a row, constants excluded."""
        return out.bytes + sum(a.bytes for a in args if a.level > Level.CONSTANT)

    def code(self, args: tuple[str, ...], types: tuple[Type, ...], out: Type) -> str:
        """The operation as a PyTorch expression over the operands' expressions."""
        raise NotImplementedError(f"{type(self).__name__} has no code")

    def attributes(self) -> dict[str, Any]:
        """The attributes that differ from their defaults, for the printed form."""
        return {f.name: value for f in dataclasses.fields(self) if (value := getattr(self, f.name)) != f.default}


def join(*args: Type) -> Level:
    """The level of a result is the highest of its operands'.

    >>> join(Type(Level.CONSTANT, (4,)), Type(Level.REQUEST, (4,))).word
    'request'
    """
    return max((a.level for a in args), default=Level.CONSTANT)


def same_rows(*args: Type) -> Level:
    """Like `join`, for operands that must already have equally many rows."""
    levels = {a.level for a in args if a.level > Level.CONSTANT}
    if len(levels) > 1:
        raise ShapeError("operands have different numbers of rows; one needs an expand")
    return join(*args)


def need(condition: bool, message: str) -> None:
    if not condition:
        raise ShapeError(message)


def broadcast(*args: Type) -> tuple[int, ...]:
    """The common per-row shape, right aligned; only constants may have fewer axes."""
    rank = max(len(a.shape) for a in args)
    for a in args:
        need(
            a.level == Level.CONSTANT or len(a.shape) == rank,
            f"shapes {' and '.join(str(list(t.shape)) for t in args)} don't align",
        )
    shape = []
    for axis in range(-rank, 0):
        sizes = {a.shape[axis] for a in args if len(a.shape) >= -axis} - {1}
        need(len(sizes) <= 1, f"widths {' and '.join(map(str, sorted(sizes)))} differ")
        shape.append(sizes.pop() if sizes else 1)
    return tuple(shape)
