"""The plainest layers: dense ones, and those that join values."""

from __future__ import annotations

from pydantic import Field

from towerspec.ir.builder import ONES, ZEROS, Scope, Value
from towerspec.ir.primitives import BatchNorm
from towerspec.layers.base import Activation, Layer, Norm, Rate, Width, fail


def batchnorm(b: Scope, x: Value, name: str, *, own: bool = False) -> Value:
    """Batch normalisation with parameters `<name>.scale`, `.shift`, `.mean` and `.var`."""
    at = f"{name}." if name else ""
    scale = b.param(f"{at}scale", (x.width,), ONES, own=own)
    shift = b.param(f"{at}shift", (x.width,), own=own)
    mean = b.param(f"{at}mean", (x.width,), ZEROS, own=own, trainable=False)
    var = b.param(f"{at}var", (x.width,), ONES, own=own, trainable=False)
    return b.op(BatchNorm(), x, scale, shift, mean, var)


def dense(
    b: Scope,
    x: Value,
    width: int,
    name: str,
    activation: str = "relu",
    norm: str = "none",
    dropout: float = 0.0,
    own: bool = False,
) -> Value:
    """One layer of an MLP: linear, then norm, activation and dropout."""
    x = b.linear(x, width, name, own=own)
    at = f"{name}.norm" if name else "norm"
    if norm == "layer":
        x = b.layernorm(x, at, own=own)
    elif norm == "batch":
        x = batchnorm(b, x, at, own=own)
    return x.apply(activation).dropout(dropout)


def mlp(
    b: Scope,
    x: Value,
    hidden: tuple[int, ...],
    name: str = "",
    activation: str = "relu",
    norm: str = "none",
    dropout: float = 0.0,
    own: bool = False,
) -> Value:
    """A stack of dense layers named `<name>.0`, `<name>.1`, …"""
    for i, width in enumerate(hidden):
        x = dense(b, x, width, f"{name}.{i}" if name else str(i), activation, norm, dropout, own)
    return x


class Mlp(Layer):
    """Dense layers one after another, each a linear map, a norm, an activation and dropout."""

    kind = "mlp"
    also = ("dnn", "dense", "mlps", "fully_connected")
    example = "y = mlp(x, hidden: [64, 32], activation: gelu)"

    hidden: tuple[Width, ...] = Field(description="the layers' widths", min_length=1, max_length=256)
    activation: Activation = Field("relu", description="after each layer, the last one too")
    norm: Norm = Field("none", description="between the linear map and the activation")
    dropout: Rate = Field(0.0, description="the share of numbers zeroed in training")

    def lower(self, b: Scope, x: Value) -> Value:
        return mlp(b, x, self.hidden, "", self.activation, self.norm, self.dropout)


class Linear(Layer):
    """One linear map `x W^T + b`."""

    kind = "linear"
    also = ("fc", "projection", "proj")
    example = "y = linear(x, width: 32)"

    width: Width = Field(description="the output's width")
    bias: bool = Field(True, description="whether a bias is added")
    activation: Activation = Field("identity", description="applied to the result")

    def lower(self, b: Scope, x: Value) -> Value:
        return b.linear(x, self.width, bias=self.bias).apply(self.activation)


class Concat(Layer):
    """The inputs side by side, in the order given."""

    kind = "concat"
    also = ("cat", "concatenate", "join")
    example = "y = concat(x, z)"

    def lower(self, b: Scope, *xs: Value) -> Value:
        return b.concat(xs)


def _same_width(kind: str, xs: tuple[Value, ...]) -> None:
    for i, x in enumerate(xs):
        if x.shape != xs[0].shape:
            fail(f"`{kind}` needs inputs of one width, and this has {x.width} where the first has {xs[0].width}", at=i)


class Sum(Layer):
    """The sum of inputs of one width."""

    kind = "sum"
    also = ("add",)
    example = "y = sum(x, z)"

    def lower(self, b: Scope, *xs: Value) -> Value:
        _same_width("sum", xs)
        total = xs[0]
        for x in xs[1:]:
            total = total + x
        return total


class Product(Layer):
    """The elementwise product of inputs of one width."""

    kind = "product"
    also = ("mul", "multiply", "hadamard")
    example = "y = product(x, z)"

    def lower(self, b: Scope, *xs: Value) -> Value:
        _same_width("product", xs)
        total = xs[0]
        for x in xs[1:]:
            total = total * x
        return total
