"""Mixtures of experts: MLPs that surfaces share, weighted by a gate."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from towerspec.ir.builder import Scope, Value
from towerspec.layers.base import Activation, Layer, Rate, Width
from towerspec.layers.basic import mlp

Experts = Annotated[int, Field(ge=1, le=1024)]
Levels = Annotated[int, Field(ge=1, le=16)]


class Mixture(Layer):
    """The base of the mixtures: what their experts look like."""

    hidden: tuple[Width, ...] = Field(description="the widths of each expert's layers", min_length=1, max_length=256)
    activation: Activation = Field("relu", description="after each of an expert's layers, the last one too")
    dropout: Rate = Field(0.0, description="the share of numbers zeroed in training")

    def _experts(self, b: Scope, x: Value, count: int, name: str, *, own: bool = False) -> list[Value]:
        return [mlp(b, x, self.hidden, f"{name}.{i}", self.activation, "none", self.dropout, own) for i in range(count)]


def mix(b: Scope, experts: list[Value], x: Value, gate: str, *, own: bool = False) -> Value:
    """The experts' mean under the weights `softmax(W x)`, with the gate's matrix named `<gate>.weight`."""
    weights = b.linear(x, len(experts), gate, bias=False, own=own).softmax()
    return weights.reshape(1, len(experts)).matmul(b.stack(experts)).reshape(experts[0].width)


class Moe(Mixture):
    """Experts under one gate that all surfaces share: `sum_i softmax(W x)_i e_i(x)`.

    Jacobs et al. 1991, Neural Computation 3(1), with experts and gate as in Shazeer et al. 2017, arXiv:1701.06538,
    equations 1 and 2.
    """

    kind = "moe"
    example = "y = moe(x, experts: 3, hidden: [16, 8])"

    experts: Experts = Field(description="how many experts")

    def lower(self, b: Scope, x: Value) -> Value:
        return mix(b, self._experts(b, x, self.experts, "expert"), x, "gate")


class Mmoe(Mixture):
    """Experts that all surfaces share, under a gate of each surface's own: `sum_i softmax(W_surface x)_i e_i(x)`.

    Multi-gate mixture of experts: Ma et al. 2018, KDD, doi:10.1145/3219819.3220007.
    """

    kind = "mmoe"
    example = "y = mmoe(x, experts: 3, hidden: [16, 8])"

    experts: Experts = Field(description="how many experts")

    def lower(self, b: Scope, x: Value) -> Value:
        return mix(b, self._experts(b, x, self.experts, "expert"), x, "gate", own=True)


class Ple(Mixture):
    """Shared experts beside each surface's own, under the surface's gate, at one level or several on top of each other.

    At each level the surface's gate reads the surface's value and weighs its own experts and the shared ones; the
    shared experts read the shared value, which a gate of its own carries to the next level. Tang et al. 2020, RecSys,
    doi:10.1145/3383313.3412236, sections 4.1 and 4.2. There the shared gate weighs every task's experts; here it
    weighs the shared ones alone, since a surface's value may not depend on what is another's.
    """

    kind = "ple"
    also = ("cgc",)
    example = "y = ple(x, shared_experts: 2, own_experts: 1, hidden: [16, 8])"

    shared_experts: Experts = Field(description="how many experts all surfaces share, at each level")
    own_experts: Experts = Field(description="how many experts each surface has for itself, at each level")
    levels: Levels = Field(1, description="how many levels; with one it is customised gate control (CGC)")

    def lower(self, b: Scope, x: Value) -> Value:
        own = shared = x
        for level in range(self.levels):
            theirs = self._experts(b, shared, self.shared_experts, f"{level}.expert")
            ours = self._experts(b, own, self.own_experts, f"{level}.own", own=True)
            own = mix(b, ours + theirs, own, f"{level}.gate", own=True)
            if level + 1 < self.levels:
                shared = mix(b, theirs, shared, f"{level}.shared_gate")
        return own
