"""What every value in the op graph has: a level, a shape per row, and an element type."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass


class Level(enum.IntEnum):
    """How often a value exists: once in all, once a request (R rows), once a candidate (N rows)."""

    CONSTANT = 0
    REQUEST = 1
    CANDIDATE = 2

    @property
    def word(self) -> str:
        return self.name.lower()

    @property
    def rows(self) -> str:
        """The symbol of the leading axis: none, `R` or `N`."""
        return ("", "R", "N")[self]


ITEM_BYTES = {"float": 4, "int": 8, "bool": 1, "bf16": 2, "fp16": 2, "int8": 1, "packed": 4, "packed_bf16": 2}


@dataclass(frozen=True, slots=True)
class Type:
    """`shape` is per row: a candidate-level value of shape `(64,)` is a tensor of `[N, 64]`."""

    level: Level
    shape: tuple[int, ...]
    dtype: str = "float"

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.numel * ITEM_BYTES[self.dtype]

    @property
    def dims(self) -> str:
        """The tensor's shape as engineers write it: `[N, 64]`."""
        rows = [self.level.rows] if self.level.rows else []
        return f"[{', '.join([*rows, *map(str, self.shape)])}]"

    def at(self, level: Level) -> Type:
        return Type(level, self.shape, self.dtype)

    def __str__(self) -> str:
        return f"{self.level.word} {self.dtype}{list(self.shape)}"


class ShapeError(Exception):
    """A primitive can't take these operands; layers turn it into a diagnostic at the call."""
