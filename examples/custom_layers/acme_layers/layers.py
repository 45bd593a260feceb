"""Two layer kinds: one written in towerspec's primitives, one around a PyTorch module."""

from __future__ import annotations

from pydantic import Field

from towerspec.ir.builder import Scope, Value
from towerspec.ir.primitives import Init
from towerspec.layers.base import Depth, Layer, Width


class GatedCross(Layer):
    """Feature crosses, each with a gate that keeps the ones that help: `x <- x0 * (W x + b) * sigmoid(V x) + x`.

    GDCN: Wang et al. 2023, arXiv:2311.04635, equation 2.
    """

    kind = "gated_cross"
    example = "y = gated_cross(x, layers: 2)"

    layers: Depth = Field(2, description="how many crosses, one after another")

    def lower(self, b: Scope, x: Value) -> Value:
        start = x
        for i in range(self.layers):
            gate = b.linear(x, start.width, f"{i}.gate", bias=False).sigmoid()
            x = start * b.linear(x, start.width, f"{i}.cross") * gate + x
        return x


class Periodic(Layer):
    """Sines and cosines of each number at learned frequencies, so that a tower sees fine differences.

    Gorishniy et al. 2022, arXiv:2203.05556, equation 2. There is no primitive for a sine: the module is PyTorch's.
    """

    kind = "periodic"
    example = "y = periodic(x, frequencies: 4)"

    frequencies: Width = Field(8, description="how many frequencies a number gets")
    sigma: float = Field(1.0, gt=0, description="the standard deviation that frequencies begin with")

    def lower(self, b: Scope, x: Value) -> Value:
        shape = (x.width, self.frequencies)
        return b.module(
            "acme_layers.modules:Periodic",
            x,
            width=2 * x.width * self.frequencies,
            params={"frequency": (shape, Init("normal", (self.sigma,)))},
            numbers=x.width,
            frequencies=self.frequencies,
        )
