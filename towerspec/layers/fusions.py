"""The kinds of fusion: how the value of a surface's own module joins the tower, late, at a named depth.

`h` is the tower so far and `x` the module's value. All but `concat` keep the tower's width, so that the layers
above are the same whether a module is fused in or not.
"""

from __future__ import annotations

from pydantic import Field

from towerspec.ir.builder import ZEROS, Scope, Sequence, Value, attention
from towerspec.ir.primitives import Linear
from towerspec.layers.base import Activation, Depth, Fusion, Tensor, Width, fail
from towerspec.layers.sequences import Heads


def _aligned(h: Value, x: Value) -> tuple[Value, Value]:
    """Both at the higher of their levels."""
    level = max(h.type.level, x.type.level)
    return h.expand(level), x.expand(level)


def _as_wide(b: Scope, x: Value, h: Value) -> Value:
    """`x` at the tower's width: itself, or mapped by `project` where the widths differ."""
    return x if x.width == h.width else b.linear(x, h.width, "project")


class Concat(Fusion):
    """The tower and the module's value side by side: `[h, x]`. The only fusion that makes the tower wider."""

    kind = "concat"
    also = ("cat", "concatenate")
    example = "fuse x after 1 with concat"

    def lower(self, b: Scope, h: Value, x: Value) -> Value:
        return b.concat([h, x])


class Sum(Fusion):
    """The tower plus the module's value: `h + x`, or `h + W x + b` where their widths differ."""

    kind = "sum"
    also = ("add",)
    example = "fuse x after 1 with sum"

    def lower(self, b: Scope, h: Value, x: Value) -> Value:
        h, x = _aligned(h, _as_wide(b, x, h))
        return h + x


class Gate(Fusion):
    """Adds as much of the module's value as a gate that sees both lets through: `h + z * (V x + c)`, with
    `z = sigmoid(W [h, x] + b)`.

    The gate is that of the gated multimodal unit, Arevalo et al. 2017, arXiv:1702.01992. It gates what is added, so
    that the tower's own value passes whole, as in Rahman et al. 2020, arXiv:1908.05787. With `mix` it is the gated
    multimodal unit itself, `z * tanh(U h) + (1 - z) * tanh(V x)`.
    """

    kind = "gate"
    example = "fuse x after 1 with gate"

    mix: bool = Field(False, description="whether the gate chooses between the two, instead of adding the second")

    def lower(self, b: Scope, h: Value, x: Value) -> Value:
        z = b.linear(b.concat([h, x]), h.width, "gate").sigmoid()
        level = z.type.level
        if not self.mix:
            return h.expand(level) + z * b.linear(x, h.width, "value").expand(level)
        ours = b.linear(h, h.width, "tower", bias=False).apply("tanh").expand(level)
        theirs = b.linear(x, h.width, "value", bias=False).apply("tanh").expand(level)
        return z * ours + (1.0 - z) * theirs


class Film(Fusion):
    """Scales and shifts each number of the tower by what the module says: `(1 + G x + g) * h + (B x + c)`.

    Feature-wise linear modulation: Perez et al. 2017, arXiv:1709.07871, equations 1 and 2, the scale predicted as a
    difference from 1, as there. All its parameters begin at zero, which leaves the tower as it is.
    """

    kind = "film"
    example = "fuse x after 1 with film"

    def lower(self, b: Scope, h: Value, x: Value) -> Value:
        level = max(h.type.level, x.type.level)
        scale, shift = (self._map(b, x, h.width, name).expand(level) for name in ("scale", "shift"))
        return (scale + 1.0) * h.expand(level) + shift

    def _map(self, b: Scope, x: Value, width: int, name: str) -> Value:
        weight, bias = b.param(f"{name}.weight", (width, x.width), ZEROS), b.param(f"{name}.bias", (width,))
        return b.op(Linear(), x, weight, bias, hint=name)


class Attention(Fusion):
    """The tower asks, the module answers: `h + W_o attention(W_q h, W_k s, W_v s)`.

    `s` are a sequence's positions; an empty sequence leaves the tower as it is. Where the module's value is a vector,
    `s` are two: the tower, and the vector mapped to the tower's width. Vaswani et al. 2017, arXiv:1706.03762,
    section 3.2.
    """

    kind = "attention"
    also = ("cross_attention",)
    example = "fuse x after 1 with attention { heads: 2 }"

    heads: Heads = Field(1, description="how many parts the attention splits its width into")
    width: Width | None = Field(
        None, description="the width of queries, keys and values, all heads together; the tower's by default"
    )

    def lower(self, b: Scope, h: Value, x: Tensor) -> Value:
        width = self.width or h.width
        if width % self.heads:
            fail(
                f"`attention` can't split a width of {width} into {self.heads} heads",
                at="heads",
                help=f"choose a number of heads that divides {width}, or another `width`",
            )
        source: Value
        mask: Value | None
        if isinstance(x, Sequence):
            source, mask = x.value, x.mask
        else:
            source, mask = b.stack([h, b.linear(x, h.width, "project")]), None
        level = max(h.type.level, source.type.level)
        q = b.linear(h, width, "query", bias=False).reshape(1, width)
        k, v = (b.linear(source, width, name, bias=False) for name in ("key", "value"))
        q, k, v = (t.expand(level) for t in (q, k, v))
        found = attention(q, k, v, mask and mask.expand(level), self.heads).reshape(width)
        return h.expand(level) + b.linear(found, h.width, "out", bias=False)


class Bilinear(Fusion):
    """Adds the products of pairs, one number from each side, at a low rank: `h + P (f(U h + u) * f(V x + v)) + b`.

    Low-rank bilinear pooling: Kim et al. 2016, arXiv:1610.04325, its full model with the nonlinearity `f` before
    the product, and with the tower itself as the shortcut.
    """

    kind = "bilinear"
    example = "fuse x after 1 with bilinear { rank: 16 }"

    rank: Width = Field(32, description="how many products there are")
    activation: Activation = Field("tanh", description="applied to both sides before they meet")

    def lower(self, b: Scope, h: Value, x: Value) -> Value:
        ours = b.linear(h, self.rank, "tower").apply(self.activation)
        theirs = b.linear(x, self.rank, "value").apply(self.activation)
        ours, theirs = _aligned(ours, theirs)
        return h.expand(ours.type.level) + b.linear(ours * theirs, h.width, "out")


class Cross(Fusion):
    """Crosses the module's value into the tower, once a layer: `h <- x * (W h + b) + h`.

    `x` is mapped to the tower's width first where the widths differ. It is the cross of DCN V2 with the module's value
    as the input that every layer multiplies by: Wang et al. 2021, arXiv:2008.13535, equations 1 and 2. With `rank`,
    `W = U V`: `V` maps down to the rank (`down`), `U` back up (`up`).
    """

    kind = "cross"
    example = "fuse x after 1 with cross { rank: 8 }"

    layers: Depth = Field(1, description="how many crosses, one after another")
    rank: Width | None = Field(None, description="the width in the middle of each matrix; full matrices by default")

    def lower(self, b: Scope, h: Value, x: Value) -> Value:
        if self.rank is not None and self.rank > h.width:
            fail(
                f"`cross` has a rank of {self.rank} over a width of {h.width}",
                at="rank",
                help="leave `rank` out for full matrices, or choose one below half the width, where it saves work",
            )
        h, x = _aligned(h, _as_wide(b, x, h))
        for i in range(self.layers):
            if self.rank is None:
                inner = b.linear(h, h.width, str(i))
            else:
                inner = b.linear(b.linear(h, self.rank, f"{i}.down", bias=False), h.width, f"{i}.up")
            h = x * inner + h
        return h
