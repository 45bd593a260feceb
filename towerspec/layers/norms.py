"""Layers that keep a value's width: normalisation, dropout, and a residual block."""

from __future__ import annotations

from pydantic import Field

from towerspec.ir.builder import Scope, Sequence, Value
from towerspec.layers.base import Activation, Layer, Norm, Rate, Tensor, Width, fail
from towerspec.layers.basic import batchnorm, mlp


class LayerNorm(Layer):
    """Zero mean and unit variance over each vector, then a learned scale and shift:
    `(x - mean) / sqrt(var + 1e-5) * scale + shift`.

    Ba et al. 2016, arXiv:1607.06450.
    """

    kind = "layernorm"
    also = ("layer_norm", "ln")
    example = "y = layernorm(x)"

    per_surface: bool = Field(False, description="whether each surface has a scale and a shift of its own")

    def lower(self, b: Scope, x: Tensor) -> Tensor:
        if x.width == 1:
            fail("`layernorm` of a single number is the same for every row", at=0, help="use `batchnorm`")
        if isinstance(x, Sequence):
            return Sequence(b.layernorm(x.value, "", own=self.per_surface), x.mask)
        return b.layernorm(x, "", own=self.per_surface)


class BatchNorm(Layer):
    """Zero mean and unit variance of each number over the batch, then a learned scale and shift.

    Training takes the batch's mean and variance, serving their running means. Ioffe & Szegedy 2015,
    arXiv:1502.03167, algorithms 1 and 2. With `per_surface` it is STAR's partitioned normalisation (Sheng et al.
    2021, arXiv:2101.11427), with the shared and the surface's scale and shift held as one.
    """

    kind = "batchnorm"
    also = ("batch_norm", "bn")
    example = "y = batchnorm(x)"

    per_surface: bool = Field(False, description="whether each surface has statistics, a scale and a shift of its own")

    def lower(self, b: Scope, x: Value) -> Value:
        return batchnorm(b, x, "", own=self.per_surface)


class Dropout(Layer):
    """Zeroes a share of the numbers in training and scales up the others; changes nothing in serving.

    Srivastava et al. 2014, JMLR 15.
    """

    kind = "dropout"
    example = "y = dropout(x, rate: 0.1)"

    rate: Rate = Field(description="the share of numbers zeroed")

    def lower(self, b: Scope, x: Tensor) -> Tensor:
        if isinstance(x, Sequence):
            return Sequence(x.value.dropout(self.rate), x.mask)
        return x.dropout(self.rate)


class Residual(Layer):
    """The input plus what dense layers and a linear map back to its width make of it: `x + W mlp(x) + b`.

    He et al. 2016, arXiv:1603.05027, equation 3.
    """

    kind = "residual"
    also = ("skip",)
    example = "y = residual(x, hidden: [32])"

    hidden: tuple[Width, ...] = Field(description="the widths of the dense layers", min_length=1, max_length=256)
    activation: Activation = Field("relu", description="after each of the dense layers")
    norm: Norm = Field("none", description="between a dense layer's linear map and its activation")
    dropout: Rate = Field(0.0, description="the share of numbers zeroed in training")

    def lower(self, b: Scope, x: Value) -> Value:
        inner = mlp(b, x, self.hidden, "hidden", self.activation, self.norm, self.dropout)
        return x + b.linear(inner, x.width, "out")
