"""Where values come from: inputs, parameters, and the change from a lower level to a higher one."""

from __future__ import annotations

import math

from towerspec.frozen import dataclass
from towerspec.ir.primitives.base import Primitive, need
from towerspec.ir.types import Level, Type


@dataclass(frozen=True)
class Input(Primitive):
    """A named tensor of the request or the candidates."""

    name = "input"
    feature: str
    level: Level
    shape: tuple[int, ...]
    dtype: str

    def infer(self) -> Type:
        return Type(self.level, self.shape, self.dtype)

    def traffic(self, args: tuple[Type, ...], out: Type) -> int:
        return 0


@dataclass(frozen=True)
class Init:
    """How a parameter begins: `zeros`, `ones`, `constant`, `normal` (std), `uniform` (±bound), `range` (from, to)."""

    kind: str
    values: tuple[float, ...] = ()


@dataclass(frozen=True)
class Param(Primitive):
    """A tensor that belongs to the model; its path in the spec is its name."""

    name = "param"
    path: str
    shape: tuple[int, ...]
    init: Init
    trainable: bool = True
    dtype: str = "float"

    def infer(self) -> Type:
        return Type(Level.CONSTANT, self.shape, self.dtype)

    @property
    def numel(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Whole(Primitive):
    """Whole numbers that a pass worked out, as a vector."""

    name = "whole"
    values: tuple[int, ...]

    def infer(self) -> Type:
        return Type(Level.CONSTANT, (len(self.values),), "int")


@dataclass(frozen=True)
class Expand(Primitive):
    """Repeats each row of a lower level for the rows of a higher one that belong to it."""

    name = "expand"
    level: Level = Level.CANDIDATE

    def infer(self, x: Type) -> Type:
        need(x.level <= self.level, "can't expand to a lower level")
        return x.at(self.level)

    def code(self, args: tuple[str, ...], types: tuple[Type, ...], out: Type) -> str:
        if types[0].level == Level.CONSTANT:
            return f"repeat({args[0]}, {'n' if self.level == Level.CANDIDATE else 'r'})"
        return f"expand({args[0]}, n, request)"
