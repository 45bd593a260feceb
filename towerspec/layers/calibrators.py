"""The kinds of calibrator: how a head's raw logit becomes a probability that can be believed.

A calibrator's parameters are fitted on held-out rows after training, never by the training loss; until then
each is the identity. With `by`, every value of the key has a cell of parameters of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from towerspec.ir.builder import Scope, Value
from towerspec.ir.primitives import Init
from towerspec.layers.base import Kind
from towerspec.layers.heads import Head


@dataclass(frozen=True)
class Cells:
    """Where a calibrator's parameters live: one cell, or one for each value of the key and a last one for any other value."""

    scope: Scope
    key: Value | None = None  # row ids in [0, count]
    count: int = 0

    def param(self, name: str, width: int, init: Init) -> Value:
        """A parameter of `[width]`: constant, or the row's own cell of a table `[count + 1, width]`."""
        if self.key is None:
            return self.scope.param(name, (width,), init, trainable=False)
        table = self.scope.param(name, (self.count + 1, width), init, trainable=False)
        return self.scope.embed(self.key, table)


class Calibrator(Kind):
    """The base of the calibrator kinds; `fits` names the head kinds that it makes sense for."""

    category = "calibrator"
    fits: ClassVar[frozenset[str]] = frozenset({"binary", "product"})

    def lower(self, b: Scope, z: Value, head: Head, cells: Cells) -> Value:
        """The calibrated prediction from the raw logit, `[1]` a row."""
        raise NotImplementedError(f"calibrator kind {self.kind!r} has no lower")


class Identity(Calibrator):
    """No calibration: the head's own prediction."""

    kind = "none"
    fits = frozenset({"binary", "product", "regression", "count", "multiclass"})
    example = "calibrate click with none"

    def lower(self, b: Scope, z: Value, head: Head, cells: Cells) -> Value:
        return head.link(z)
