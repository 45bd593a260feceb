"""The kinds of head: what a tower's last value predicts, as a raw logit and the link that makes a prediction of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Union

from pydantic import Field, field_validator, model_validator

from towerspec.ids import typed
from towerspec.ir.builder import Scope, Value, glorot
from towerspec.ir.primitives import Clamp, Linear
from towerspec.layers.base import Kind, fail


class Head(Kind):
    """The base of the head kinds. `weight` is the task's share in the training loss."""

    category = "head"
    loss: ClassVar[str]
    takes_heads: ClassVar[bool] = False

    weight: Annotated[float, Field(ge=0.0)] = Field(1.0, description="the task's weight in the training loss")

    def width(self) -> int:
        """How many numbers a row's logit has."""
        return 1

    def lower(self, b: Scope, h: Value) -> Value:
        """The raw logit, `[width]` a row, from the tower's last value."""
        raise NotImplementedError(f"head kind {self.kind!r} has no lower")

    def link(self, z: Value) -> Value:
        """The prediction from the logit."""
        return z


class Line(Head):
    """The base of the kinds whose logit is a linear map of the tower's last value.

    With `shared` its weights are `W + W_surface`, where `W` is that of all surfaces and `W_surface` begins at 0: what a
    surface's few rows say is drawn to what all rows say, the more under `weight_decay`. Evgeniou & Pontil 2004,
    doi:10.1145/1014052.1014067; as features, Daume 2007, arXiv:0907.1815. A compile adds them up.
    """

    shared: bool = Field(False, description="whether surfaces whose heads have this name and this share their weights")

    def lower(self, b: Scope, h: Value) -> Value:
        """The raw logit, `[width]` a row."""
        if not self.shared:
            return b.linear(h, self.width())
        name = b.path.rsplit(".", 1)[-1]
        everyone = replace(b, path=f"heads.{name}", owner=None)
        shape = (self.width(), h.width)
        weight = b.use(everyone.param("weight", shape, glorot(h.width, self.width()))) + b.param("weight", shape)
        bias = b.use(everyone.param("bias", shape[:1])) + b.param("bias", shape[:1])
        return b.op(Linear(), h, weight, bias, hint="linear")


Share = Annotated[float, Field(gt=0.0, le=1.0)]
_KEPT = "the share of the negative rows that the log still holds; logits are learned as of all rows"


class Binary(Line):
    """Whether something happens: a logit, and its sigmoid as the probability.

    Where a log was thinned out by dropping negative rows, `negatives_kept` corrects for it: the loss adds
    `-log(negatives_kept)` to the logit, by which the rows that are left are likelier than all of them were. So the
    logit, and the prediction that is made of it, is that of the traffic as it was. He et al. 2014,
    doi:10.1145/2648584.2648589, section 6.3.
    """

    kind = "binary"
    also = ("classification", "logistic", "sigmoid", "bce")
    loss = "binary_cross_entropy"
    example = "head click : binary"

    negatives_kept: Share = Field(1.0, description=_KEPT)

    def link(self, z: Value) -> Value:
        return z.sigmoid()


class Regression(Line):
    """A number, as it is."""

    kind = "regression"
    also = ("mse", "real", "float", "number")
    loss = "squared_error"
    example = "head rating : regression"


class Count(Line):
    """How often something happens: the log of a Poisson rate, and the rate. Cameron & Trivedi 2013, chapter 3."""

    kind = "count"
    also = ("poisson",)
    loss = "poisson"
    example = "head views : count"

    def link(self, z: Value) -> Value:
        return z.scope.op(Clamp(high=30.0), z).apply("exp")


class Multiclass(Line):
    """One of several classes: a logit each, and their softmax as the probabilities."""

    kind = "multiclass"
    also = ("softmax", "categorical", "classes")
    loss = "cross_entropy"
    example = "head reaction : multiclass { classes: 5 }"

    classes: Annotated[int, Field(ge=2, le=100_000)] | None = Field(None, description="how many classes")
    values: tuple[Union[str, int], ...] | None = Field(None, description="the classes' names, instead of `classes`")

    @field_validator("values")
    @classmethod
    def _typed(cls, values: tuple[Union[str, int], ...] | None) -> tuple[Union[str, int], ...] | None:
        return None if values is None else typed(values)

    @model_validator(mode="after")
    def _one_source(self) -> Multiclass:
        if (self.classes is None) == (self.values is None):
            raise ValueError("it needs `classes` or `values`, and not both")
        if self.values is not None and not 2 <= len(set(self.values)) == len(self.values):
            raise ValueError("`values` needs two or more different classes")
        return self

    def width(self) -> int:
        return self.classes or len(self.values or ())

    def link(self, z: Value) -> Value:
        return z.softmax()


class Product(Head):
    """The probability that all of several binary heads happen: the product of their uncalibrated probabilities.

    The entire-space multi-task model: Ma et al. 2018, arXiv:1804.07931, equation 1. The logit is
    log p - log(1 - p), so that it calibrates like a binary head's.
    """

    kind = "product"
    also = ("esmm",)
    loss = "binary_cross_entropy"
    takes_heads = True
    example = "head purchase : product(click, conversion)"

    negatives_kept: Share = Field(1.0, description=_KEPT)

    def combine(self, b: Scope, logits: list[Value]) -> Value:
        """The product's logit from the heads' logits."""
        if len(logits) < 2:
            fail("a product takes two heads or more")
        total = b.use(logits[0]).apply("logsigmoid")
        for z in logits[1:]:
            total = total + b.use(z).apply("logsigmoid")
        complement = b.op(Clamp(low=1e-7), -total.apply("expm1"))
        return total - complement.apply("log")

    def link(self, z: Value) -> Value:
        return z.sigmoid()
