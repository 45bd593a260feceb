"""The kinds of calibrator: how a head's raw logit becomes a probability that can be believed.

A calibrator's parameters are fitted on held-out rows after training, never by the training loss; until then
each is the identity. With `by`, every value of the key has a cell of parameters of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from towerspec.ir.builder import ONES, ZEROS, Scope, Value
from towerspec.ir.primitives import Clamp, Init, Interpolate
from towerspec.layers.base import Kind
from towerspec.layers.heads import Head

Bins = Annotated[int, Field(ge=2, le=1000)]
PROBABILITIES = frozenset({"binary", "product"})
UNIT = (0.0, 1.0)
LOGITS = (-6.0, 6.0)  # probabilities from 0.25% to 99.75%


@dataclass(frozen=True)
class Cells:
    """Where a calibrator's parameters live: one cell, or one for each value of the key and a last one for any other."""

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
    fits: ClassVar[frozenset[str]] = PROBABILITIES

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


class Temperature(Calibrator):
    """One temperature that all logits are divided by: `link(z / T)`, starting at 1. The classes keep their order.

    Guo et al. 2017, arXiv:1706.04599, section 4.2.
    """

    kind = "temperature"
    fits = frozenset({"binary", "product", "multiclass"})
    example = "calibrate click with temperature"

    def lower(self, b: Scope, z: Value, head: Head, cells: Cells) -> Value:
        return head.link(z / cells.param("temperature", 1, ONES))


class Platt(Calibrator):
    """A line through the logit: `sigmoid(a z + c)`, starting at `a = 1`, `c = 0`.

    Platt 1999, Probabilistic outputs for support vector machines, in Advances in Large Margin Classifiers, MIT Press.
    """

    kind = "platt"
    also = ("sigmoid", "logistic")
    example = "calibrate click with platt"

    def lower(self, b: Scope, z: Value, head: Head, cells: Cells) -> Value:
        return head.link(z * cells.param("a", 1, ONES) + cells.param("c", 1, ZEROS))


class Beta(Calibrator):
    """A map for scores that are beta distributed: `sigmoid(a ln p - b ln(1 - p) + c)`, with `p = sigmoid(z)`.

    It starts at `a = b = 1`, `c = 0`, and is monotone where `a` and `b` are 0 or more. Kull et al. 2017,
    AISTATS, PMLR 54:623-631.
    """

    kind = "beta"
    example = "calibrate click with beta"

    def lower(self, b: Scope, z: Value, head: Head, cells: Cells) -> Value:
        for_, against = z.apply("logsigmoid"), (-z).apply("logsigmoid")  # ln p and ln(1 - p), stable at both ends
        evidence = for_ * cells.param("a", 1, ONES) - against * cells.param("b", 1, ONES)
        return head.link(evidence + cells.param("c", 1, ZEROS))


class Knots(Calibrator):
    """The base of the calibrators that are a line through knots, `knots` ascending and the result there, `values`."""

    fits = frozenset({"binary", "product", "regression", "count"})

    def through(self, x: Value, head: Head, cells: Cells, bins: int, span: tuple[float, float], extend: bool) -> Value:
        """The line at `x`; at first the knots lie evenly on `span`, and the values on the diagonal."""
        start = Init("range", span)
        knots, values = cells.param("knots", bins, start), cells.param("values", bins, start)
        y = cells.scope.op(Interpolate(extend), x, knots, values)
        # A line that goes on below the first knot may fall below zero, and a rate can't.
        return cells.scope.op(Clamp(low=0.0), y) if head.kind == "count" else y


class Isotonic(Knots):
    """A monotone line through `bins` knots on the prediction, fitted by isotonic regression; at first `y = x`.

    On a probability the knots begin evenly on [0, 1], and beyond the last knots the end values hold. A regression's
    or a count's prediction has no such bounds, so there the end slopes go on: that too is the identity at first, and
    monotone ever after. Zadrozny & Elkan 2002, KDD, doi:10.1145/775047.775151.
    """

    kind = "isotonic"
    example = "calibrate click with isotonic { bins: 20 }"

    bins: Bins = Field(20, description="how many knots the line goes through")

    def lower(self, b: Scope, z: Value, head: Head, cells: Cells) -> Value:
        return self.through(head.link(z), head, cells, self.bins, UNIT, extend=head.kind not in PROBABILITIES)


class Piecewise(Knots):
    """A line through `bins` knots on the logit of a probability, or on a regression's or a count's prediction itself.

    The end slopes go on beyond the last knots. At first it is `y = x`, with the knots evenly on [-6, 6] for a logit and
    on [0, 1] for a prediction.
    """

    kind = "piecewise"
    example = "calibrate click with piecewise { bins: 10 }"

    bins: Bins = Field(10, description="how many knots the line goes through")

    def lower(self, b: Scope, z: Value, head: Head, cells: Cells) -> Value:
        if head.kind in PROBABILITIES:
            return head.link(self.through(z, head, cells, self.bins, LOGITS, extend=True))
        return self.through(head.link(z), head, cells, self.bins, UNIT, extend=True)
