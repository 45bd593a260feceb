"""Feature crosses of a bounded degree."""

from __future__ import annotations

from pydantic import Field

from towerspec.ir.builder import Scope, Value
from towerspec.layers.base import Depth, Layer, Width, fail


class Cross(Layer):
    """Explicit feature crosses, a degree more with each layer: `x <- x0 * (W x + b) + x`.

    With `rank`, `W = U V`: `V` maps down to the rank (`down`), `U` back up (`up`). DCN V2: Wang et al. 2021,
    arXiv:2008.13535, equations 1 and 2.
    """

    kind = "cross"
    also = ("dcn", "dcnv2", "dcn_v2")
    example = "y = cross(x, layers: 2, rank: 4)"

    layers: Depth = Field(2, description="how many crosses, one after another")
    rank: Width | None = Field(None, description="the width in the middle of each matrix; full matrices by default")

    def lower(self, b: Scope, x: Value) -> Value:
        if self.rank is not None and self.rank > x.width:
            fail(
                f"`cross` has a rank of {self.rank} over a width of {x.width}",
                at="rank",
                help="leave `rank` out for full matrices, or choose one below half the width, where it saves work",
            )
        start = x
        for i in range(self.layers):
            if self.rank is None:
                inner = b.linear(x, start.width, str(i))
            else:
                inner = b.linear(b.linear(x, self.rank, f"{i}.down", bias=False), start.width, f"{i}.up")
            x = start * inner + x
        return x
