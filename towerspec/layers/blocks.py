"""The options of the language's own blocks, checked like any other kind's parameters."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from towerspec.layers.base import Activation, Kind, Norm, Rate, Width
from towerspec.layers.features import Rows


class Block(Kind):
    """The base of the blocks."""

    category = "block"


class Table(Block):
    """A shared embedding table; after its known rows it holds one for unknown ids and one for missing ones."""

    kind = "table"
    example = "table pins { rows: 200_000, dim: 32 }"

    rows: Rows = Field(description="how many ids the table knows: 0 to rows - 1")
    dim: Width = Field(description="the width of a row's vector")


class Surface(Block):
    """A product surface: what it alone has, its tower, and its calibration."""

    kind = "surface"

    weight: Annotated[float, Field(ge=0.0)] = Field(1.0, description="the surface's weight in the training loss")


class Tower(Block):
    """A surface's tower, or one arm of it: dense layers, with fusions between them and heads at the end."""

    kind = "tower"

    layers: tuple[Width, ...] = Field((), description="the layers' widths", max_length=256)
    activation: Activation = Field("relu", description="after each layer")
    norm: Norm = Field("none", description="between each layer's linear map and its activation")
    dropout: Rate = Field(0.0, description="the share of numbers zeroed in training")
