"""Layers that let fields meet: each input is a field, a vector that stands for one feature."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from towerspec.ir.builder import Scope, Value, attention
from towerspec.layers.base import Depth, Layer, Width, fail
from towerspec.layers.basic import dense
from towerspec.layers.sequences import Heads


class Fields(Layer):
    """The base of the layers over fields of one width."""

    dim: Width | None = Field(
        None, description="a field's width, where inputs hold several side by side; by default each input is a field"
    )

    def split(self, inputs: tuple[Value, ...]) -> list[Value]:
        """The fields, each `[dim]` a row."""
        width = self.dim or inputs[0].width
        fields = []
        for i, x in enumerate(inputs):
            if x.width != width and self.dim is None:
                fail(
                    f"`{self.kind}` needs fields of one width, and this has {x.width} where the first has {width}",
                    at=i,
                    help=f"bring it to the width with `linear(…, width: {width})`, or give `dim`",
                )
            if x.width % width:
                fail(f"`{self.kind}` can't split a width of {x.width} into fields of {width}", at=i)
            fields += [x[at : at + width] if x.width > width else x for at in range(0, x.width, width)]
        if len(fields) < 2:
            fail(
                f"`{self.kind}` needs two fields or more",
                at=0,
                help="give more inputs, or say with `dim` how wide the fields of this one are",
            )
        return fields


class Fm(Fields):
    """The sum of all pairs' products, as a factorisation machine has it: `sum_{i<j} <v_i, v_j>`.

    Computed as `((sum v)^2 - sum v^2) / 2`. Rendle 2010, ICDM, doi:10.1109/ICDM.2010.127, lemma 3.1. Without
    `scalar` it is bi-interaction pooling: He & Chua 2017, arXiv:1708.05027.
    """

    kind = "fm"
    also = ("dot", "dot_product")
    example = "y = fm(x, z)"

    scalar: bool = Field(True, description="whether the products are added up to one number, or kept as a vector")

    def lower(self, b: Scope, *fields: Value) -> Value:
        v = b.stack(self.split(fields))  # [F, D]
        pairs = (v.sum(-2).apply("square") - v.apply("square").sum(-2)) * 0.5
        return pairs.sum(keep=True) if self.scalar else pairs


class Bilinear(Fields):
    """Every pair of fields, the first mapped by a matrix, multiplied elementwise: `(W v_i) * v_j` for `i < j`.

    The pairs stand side by side, ordered by `i`, then `j`. FiBiNET: Huang et al. 2019, arXiv:1905.09433.
    """

    kind = "bilinear"
    example = "y = bilinear(x, z, type: each)"

    type: Literal["all", "each", "interaction"] = Field(
        "all", description="whether there is one matrix in all, one for each first field, or one for each pair"
    )

    def lower(self, b: Scope, *fields: Value) -> Value:
        v = self.split(fields)
        level, d = max(x.type.level for x in v), v[0].width
        rest = v[1:]  # what stands behind each field, side by side: a field and what stands behind that
        for i in range(len(rest) - 2, -1, -1):
            rest[i] = b.concat([rest[i], rest[i + 1]])
        pairs = []
        for i, right in enumerate(rest):
            count = len(v) - 1 - i
            rows = count if self.type == "interaction" else 1  # one matrix a pair are one tall matrix a first field
            left = b.linear(v[i], rows * d, "" if self.type == "all" else str(i), bias=False)
            behind = right.expand(level).reshape(count, d)
            pairs.append((left.reshape(rows, d).expand(level) * behind).reshape(count * d))
        return b.concat(pairs)


class Senet(Fields):
    """Weighs each field by what all of them say: `a_i v_i` with `a = relu(W_2 relu(W_1 mean(v)))`, side by side.

    FiBiNET's squeeze-excitation: Huang et al. 2019, arXiv:1905.09433.
    """

    kind = "senet"
    also = ("se", "fibinet")
    example = "y = senet(x, z)"

    reduction: Annotated[int, Field(ge=1, le=1024)] = Field(
        3, description="how many times narrower than the number of fields the middle of the excitation is"
    )

    def lower(self, b: Scope, *fields: Value) -> Value:
        v = b.stack(self.split(fields))  # [F, D]
        count, d = v.shape
        inner = b.linear(v.mean(), max(1, count // self.reduction), "squeeze", bias=False).relu()
        weights = b.linear(inner, count, "excite", bias=False).relu()
        return (v * weights.reshape(count, 1)).reshape(count * d)


class Autoint(Fields):
    """Self-attention among fields, `layers` times: `relu(attention(v) + W v)`; the fields end up side by side.

    Song et al. 2019, arXiv:1810.11921, with the scores divided by the square root of a head's width, as
    in the authors' code.
    """

    kind = "autoint"
    example = "y = autoint(x, z, layers: 2, heads: 2)"

    layers: Depth = Field(2, description="how many layers of attention")
    heads: Heads = Field(1, description="how many parts the attention splits the width into")
    width: Width | None = Field(
        None, description="a field's width after each layer, all heads together; unchanged by default"
    )

    def lower(self, b: Scope, *fields: Value) -> Value:
        v = b.stack(self.split(fields))  # [F, D]
        width = self.width or v.width
        if width % self.heads:
            fail(
                f"`autoint` can't split a width of {width} into {self.heads} heads",
                at="heads",
                help=f"choose a number of heads that divides {width}, or another `width`",
            )
        for i in range(self.layers):
            q, k, value, kept = (
                b.linear(v, width, f"{i}.{part}", bias=False) for part in ("query", "key", "value", "residual")
            )
            v = (attention(q, k, value, heads=self.heads) + kept).relu()
        return v.reshape(v.shape[0] * width)


class Masknet(Layer):
    """Blocks that multiply a value by a mask made from all fields: `relu(norm(W (mask * h)))`.

    `mask = W_2 relu(W_1 v + b_1) + b_2`, with the fields side by side as `v` and each normalised as the first `h`. In
    series each block reads the one before it; in parallel all read the first `h` and end up side by side. Wang et
    al. 2021, arXiv:2102.07619. Fields may differ in width.
    """

    kind = "masknet"
    example = "y = masknet(x, z, hidden: [16, 16])"

    hidden: tuple[Width, ...] = Field(description="the blocks' widths", min_length=1, max_length=256)
    mode: Literal["serial", "parallel"] = Field("serial", description="how the blocks are joined")
    reduction: Annotated[float, Field(gt=0.0, le=64.0)] = Field(
        2.0, description="how many times wider than the mask the layer that makes it is"
    )

    def lower(self, b: Scope, *fields: Value) -> Value:
        for i, x in enumerate(fields):
            if x.width == 1:
                fail(
                    "`masknet` normalises each field, and that of a single number is the same for every row",
                    at=i,
                    help="join it with other fields in a `concat` first",
                )
        v = b.concat(fields)
        h = start = b.concat([b.layernorm(x, f"norm.{i}") for i, x in enumerate(fields)])
        blocks = []
        for i, width in enumerate(self.hidden):
            h = self._block(b, v, start if self.mode == "parallel" else h, width, f"blocks.{i}")
            blocks.append(h)
        return b.concat(blocks) if self.mode == "parallel" else h

    def _block(self, b: Scope, v: Value, h: Value, width: int, name: str) -> Value:
        inner = dense(b, v, max(1, round(self.reduction * h.width)), f"{name}.mask.0")
        mask = b.linear(inner, h.width, f"{name}.mask.1")
        return b.layernorm(b.linear(mask * h, width, name, bias=False), f"{name}.norm").relu()
