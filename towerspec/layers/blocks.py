"""The options of the language's own blocks, checked like any other kind's parameters."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from towerspec.layers.base import Activation, Kind, Norm, Rate, Width
from towerspec.layers.features import CODING, Coding, Rows


class Block(Kind):
    """The base of the blocks."""

    category = "block"


class Table(Block):
    """A shared embedding table; after its known rows it holds one for unknown ids and one for missing ones."""

    kind = "table"
    example = "table pins { rows: 200_000, dim: 32 }"

    rows: Rows = Field(description="how many ids the table knows: 0 to rows - 1")
    dim: Width = Field(description="the width of a row's vector")
    ids: Coding = Field("direct", description=CODING)


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


class Train(Block):
    """How the model is trained by `towerspec train`; everything here can be given on its command line instead."""

    kind = "train"
    example = "train { epochs: 3  learning_rate: 2e-3 }"

    epochs: Annotated[int, Field(ge=1, le=100_000)] = Field(10, description="how often the data is gone through")
    batch: Annotated[int, Field(ge=1, le=2**24)] = Field(1024, description="rows a step, of all processes together")
    optimizer: Literal["adamw", "adam", "adagrad", "sgd"] = Field("adamw", description="of the dense layers")
    learning_rate: Annotated[float, Field(gt=0.0, le=1e6)] = Field(1e-3, description="of the dense layers")
    weight_decay: Annotated[float, Field(ge=0.0)] = Field(0.0, description="of the dense layers' matrices")
    embedding_optimizer: Literal["rowwise", "adam", "adagrad", "sgd"] = Field(
        "rowwise", description="of the embedding tables; `rowwise` is Adagrad with one number a row"
    )
    embedding_learning_rate: Annotated[float, Field(gt=0.0, le=1e6)] = Field(
        0.02, description="of the embedding tables"
    )
    schedule: Literal["constant", "cosine", "linear"] = Field(
        "constant", description="how the learning rates fall, to 0 at the last step, after the warm-up"
    )
    warmup: Annotated[int, Field(ge=0)] = Field(0, description="steps over which the learning rates rise from 0")
    clip: Annotated[float, Field(ge=0.0)] = Field(10.0, description="the largest norm of a step's gradient; 0 for any")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="of the layers' products; weights stay in fp32")
    balance: Literal["fixed", "uncertainty", "gradnorm"] = Field(
        "fixed", description="who weighs the tasks' losses, after the spec's own weights"
    )
    sampling: Literal["proportional", "balanced", "temperature"] = Field(
        "proportional", description="how often a row of each surface is drawn: as in the data, or each surface alike"
    )
    temperature: Annotated[float, Field(ge=1.0)] = Field(
        2.0, description="for `temperature`: a surface is drawn by its rows to the power of 1 through this"
    )
    shuffle: Literal["rows", "requests"] = Field(
        "rows", description="what is drawn at random: rows, or requests with all of theirs, computed once where shared"
    )
    monitor: Literal["loss", "auc"] = Field("loss", description="what is best on the validation rows")
    patience: Annotated[int, Field(ge=1)] = Field(2, description="epochs without a better one after which it stops")
    seed: Annotated[int, Field(ge=0, le=2**31)] = Field(0, description="of the first weights, the order and dropout")
    freeze: tuple[str, ...] = Field(
        (), description="parts that keep their weights: `trunk`, a surface, or a parameter's path or the start of one"
    )
