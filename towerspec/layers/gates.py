"""Layers that let a surface scale what all share: gates on values, and factors on weights."""

from __future__ import annotations

from pydantic import Field

from towerspec.ir.builder import ONES, Scope, Value, glorot
from towerspec.ir.primitives import Detach, Linear
from towerspec.layers.base import Activation, Layer, Rate, Width
from towerspec.layers.basic import dense


class Gate(Layer):
    """Scales each number of the first input by a factor from 0 to 2 that all inputs decide:
    `x * 2 sigmoid(MLP([by, x]))`.

    The MLP's first layer has a ReLU, and no gradient flows from it to `x`. PEPNet: Chang et al. 2023,
    arXiv:2302.01115: with a domain's features as `by` it is EPNet, with a user's PPNet.
    """

    kind = "gate"
    also = ("pepnet", "epnet", "ppnet")
    example = "y = gate(x, z)"

    hidden: Width | None = Field(None, description="the width inside the gate; the first input's by default")
    per_surface: bool = Field(True, description="whether each surface has a gate of its own, or all share one")

    def lower(self, b: Scope, x: Value, *by: Value) -> Value:
        own = self.per_surface
        joined = b.concat([*by, b.op(Detach(), x)])
        inner = dense(b, joined, self.hidden or x.width, "hidden", "relu", own=own)
        scale = 2.0 * b.linear(inner, x.width, "scale", own=own).sigmoid()
        return x.expand(scale.type.level) * scale


class Star(Layer):
    """Dense layers whose weights are a shared part times the surface's own: `x (W * W_surface)^T + b + b_surface`.

    The surface's factors begin at ones and its biases at zeros; a compile multiplies them out. The star topology:
    Sheng et al. 2021, arXiv:2101.11427.
    """

    kind = "star"
    example = "y = star(x, hidden: [16, 8])"

    hidden: tuple[Width, ...] = Field(description="the layers' widths", min_length=1, max_length=256)
    activation: Activation = Field("relu", description="after each layer, the last one too")
    dropout: Rate = Field(0.0, description="the share of numbers zeroed in training")

    def lower(self, b: Scope, x: Value) -> Value:
        for i, width in enumerate(self.hidden):
            shape = (width, x.width)
            weight = b.param(f"{i}.weight", shape, glorot(x.width, width))
            factor = b.param(f"{i}.own.weight", shape, ONES, own=True)
            bias = b.param(f"{i}.bias", (width,)) + b.param(f"{i}.own.bias", (width,), own=True)
            x = b.op(Linear(), x, weight * factor, bias, hint=f"linear_{i}")
            x = x.apply(self.activation).dropout(self.dropout)
        return x
