"""Encoders of a sequence: from a padded list of vectors to one vector a row, or to another sequence."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from towerspec.ir.builder import Scope, Sequence, Value, attention, glorot
from towerspec.ir.primitives import Init, Linear
from towerspec.layers.base import Activation, Depth, Layer, Rate, Tensor, Width, fail
from towerspec.layers.basic import dense

Heads = Annotated[int, Field(ge=1, le=1024)]


class Pooling(Layer):
    """A sequence's vectors as one: their mean, sum or maximum, or the last of them; zeros where there are none."""

    kind = "pooling"
    also = ("mean", "pool", "average")
    example = "y = pooling(s, fn: mean)"

    fn: Literal["mean", "sum", "max", "last"] = Field("mean", description="how the vectors become one")

    def lower(self, b: Scope, s: Sequence) -> Value:
        return s.value.pool(s.mask, self.fn)


class Transformer(Layer):
    """Self-attention and a dense part, `layers` times, over the positions that a sequence has; zeros for an empty one.

    Each layer is `x + attention(norm(x))`, then `x + ffn(norm(x))`, and a norm ends the stack. Vaswani et al. 2017,
    arXiv:1706.03762; the norms' places as in Xiong et al. 2020, arXiv:2002.04745.
    """

    kind = "transformer"
    also = ("attention", "self_attention")
    example = "y = transformer(s, layers: 2, heads: 2)"

    layers: Depth = Field(1, description="how many layers")
    heads: Heads = Field(1, description="how many parts the attention splits the width into")
    hidden: Width | None = Field(
        None, description="the width inside the dense part; four times the sequence's by default"
    )
    activation: Activation = Field("relu", description="inside the dense part")
    dropout: Rate = Field(0.0, description="the share of numbers zeroed in training, of what each part adds")
    positions: bool = Field(True, description="whether a learned vector a position is added first")
    pool: Literal["mean", "sum", "max", "last", "none"] = Field(
        "mean", description="how the positions become one vector; `none` keeps the sequence"
    )

    def lower(self, b: Scope, s: Sequence) -> Tensor:
        if s.width % self.heads:
            fail(
                f"`transformer` can't split a width of {s.width} into {self.heads} heads",
                at="heads",
                help=f"choose a number of heads that divides {s.width}",
            )
        x = s.value  # [L, D]
        if self.positions:
            x = x + b.param("positions", x.shape, Init("normal", (0.05,)))
        for i in range(self.layers):
            x = x + self._attention(b, b.layernorm(x, f"layers.{i}.attention.norm"), s.mask, f"layers.{i}.attention")
            x = x + self._ffn(b, b.layernorm(x, f"layers.{i}.ffn.norm"), f"layers.{i}.ffn")
        x = b.layernorm(x)
        if self.pool == "none":
            return Sequence(x.mask_fill(s.mask), s.mask)
        return x.pool(s.mask, self.pool)

    def _attention(self, b: Scope, x: Value, mask: Value, name: str) -> Value:
        q, k, v = (b.linear(x, x.width, f"{name}.{part}", bias=False) for part in ("query", "key", "value"))
        joined = b.linear(attention(q, k, v, mask, self.heads), x.width, f"{name}.out", bias=False)
        return joined.dropout(self.dropout)

    def _ffn(self, b: Scope, x: Value, name: str) -> Value:
        inner = dense(b, x, self.hidden or 4 * x.width, f"{name}.up", self.activation, dropout=self.dropout)
        return b.linear(inner, x.width, f"{name}.down").dropout(self.dropout)


class Din(Layer):
    """The sum of a history's vectors, each weighted by how it meets the target: `sum_k a(q, k) k`.

    `a` is an MLP over `[q, k, q - k, q * k]` with one number at its end, not normalised over the positions.
    Deep interest network: Zhou et al. 2018, arXiv:1706.06978, equation 3.
    """

    kind = "din"
    also = ("target_attention",)
    example = "y = din(x, s, hidden: [16, 8])"

    hidden: tuple[Width, ...] = Field(
        (80, 40), description="the widths of the MLP that weighs a position", min_length=1, max_length=256
    )
    activation: Activation = Field("relu", description="after each of the MLP's layers")
    softmax: bool = Field(False, description="whether the weights are normalised to add up to 1")

    def lower(self, b: Scope, target: Value, history: Sequence) -> Value:
        if target.width != history.width:
            fail(
                f"`din` needs a target as wide as its history, {history.width}, and this has {target.width}",
                at=0,
                help=f"bring it to the width with `linear(…, width: {history.width})`",
            )
        x = self._meet(b, target, history.value).apply(self.activation)
        for i, width in enumerate(self.hidden[1:], 1):
            x = dense(b, x, width, f"hidden.{i}", self.activation)
        scores = b.linear(x, 1, "out").reshape(history.length)
        mask = history.mask.expand(x.type.level)
        weights = scores.softmax(mask) if self.softmax else scores.mask_fill(mask)
        total = weights.reshape(1, history.length).matmul(history.value.expand(x.type.level))
        return total.reshape(history.width)

    def _meet(self, b: Scope, q: Value, k: Value) -> Value:
        """`[q, k, q - k, q * k] W^T + b`, block by block: what the history alone adds is then the request's."""
        d, width, level = q.width, self.hidden[0], max(q.type.level, k.type.level)
        weight = b.param("hidden.0.weight", (width, 4 * d), glorot(4 * d, width))
        of_q, of_k, of_difference, of_product = (weight[i * d : (i + 1) * d] for i in range(4))
        ours = b.op(Linear(), q, of_q + of_difference, b.param("hidden.0.bias", (width,)), hint="linear_target")
        theirs = b.op(Linear(), k, of_k - of_difference, hint="linear_history")  # [L, H]
        both = b.op(Linear(), q.reshape(1, d).expand(level) * k.expand(level), of_product, hint="linear_product")
        return ours.reshape(1, width).expand(level) + theirs.expand(level) + both
