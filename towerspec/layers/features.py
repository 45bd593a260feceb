"""The kinds of feature: how a request's or a candidate's raw values become vectors.

Each kind says what tensor it reads and what a missing or unknown value means, and decides that inside the graph.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Union

from pydantic import Field, field_validator, model_validator

from towerspec.ids import MISSING, typed
from towerspec.ir.builder import ONES, ZEROS, Scope, Sequence, Value
from towerspec.ir.primitives import Bucketize, Clamp, Fill, Ids, Init, Mask
from towerspec.ir.types import Type
from towerspec.layers.base import Kind, Tensor, Width

Rows = Annotated[int, Field(ge=1, le=2**40)]
Length = Annotated[int, Field(ge=1, le=100_000)]
Coding = Literal["direct", "hash", "fitted"]
CODING = "what an id is: a row's number, anything that hashes to one, or what training found most often"
PADDING = -1  # the id that means "nothing here"


class Feature(Kind):
    """The base of the feature kinds. `on` names the surfaces that have the feature; elsewhere it is `absent`."""

    category = "feature"
    dtype: ClassVar[str]

    on: tuple[str, ...] | None = Field(None, description="the surfaces that have this feature; all of them by default")
    absent: Literal["learned", "zero"] = Field(
        "learned", description="what other surfaces see in its place: a learned vector, or zeros"
    )

    def shape(self) -> tuple[int, ...]:
        """The input's shape per row."""
        return ()

    def valid_range(self) -> tuple[int, int] | None:
        """The lowest and highest id with a meaning of its own."""
        return None

    def encode(self, b: Scope, x: Value, table: Value | None) -> Tensor:
        raise NotImplementedError(f"feature kind {self.kind!r} has no encode")


class Number(Feature):
    """A number, or a vector of `width` numbers; not-a-number and infinities count as missing."""

    kind = "number"
    also = ("float", "int", "numeric", "dense", "double")
    dtype = "float"
    example = "user_age : number { normalize: standard }"

    width: Width = Field(1, description="how many numbers a row has")
    transform: Literal["none", "log1p", "sqrt"] = Field(
        "none", description="applied first, keeping the sign: sign(x) log(1 + |x|), or sign(x) sqrt(|x|)"
    )
    normalize: Literal["none", "standard", "minmax"] = Field(
        "none", description="applied to the transformed value, with statistics that training fits"
    )
    missing: Union[Literal["mean"], float] = Field(
        "mean", description="what a missing value becomes: the fitted mean, or this number, before normalising"
    )
    clip: tuple[float, float] | None = Field(None, description="bounds of the raw value")
    buckets: Annotated[int, Field(ge=2, le=10_000)] | None = Field(
        None, description="instead of the number itself, an embedding of the quantile bucket it falls in"
    )
    dim: Width = Field(8, description="the width of a bucket's embedding")

    @model_validator(mode="after")
    def _together(self) -> Number:
        if self.clip and self.clip[0] >= self.clip[1]:
            raise ValueError("`clip` takes a lower and a higher bound")
        if self.buckets and self.width > 1:
            raise ValueError("`buckets` is for a single number, not for a vector")
        if not self.buckets and "dim" in self.model_fields_set:
            raise ValueError("`dim` is the width of a bucket's embedding and takes `buckets`; a vector has a `width`")
        return self

    def shape(self) -> tuple[int, ...]:
        return () if self.width == 1 else (self.width,)

    def encode(self, b: Scope, x: Value, table: Value | None) -> Tensor:
        x = x.reshape(self.width)
        if self.clip:
            x = b.op(Clamp(*self.clip), x)
        if self.transform != "none":
            x = x.apply("sign") * x.apply("abs").apply(self.transform)
        mean = self._statistic(b, "mean", ZEROS)
        fill = mean if self.missing == "mean" else self._statistic(b, "missing", Init("constant", (self.missing,)))
        x = b.op(Fill(), x, fill)
        if self.normalize == "standard":
            x = (x - mean) / self._statistic(b, "std", ONES)
        elif self.normalize == "minmax":
            low = self._statistic(b, "low", ZEROS)
            x = (x - low) / (self._statistic(b, "high", ONES) - low)
        if not self.buckets:
            return x
        edges = b.param("edges", (self.buckets - 1,), Init("range", (-2.0, 2.0)), trainable=False)
        weight = b.param("weight", (self.buckets, self.dim), Init("normal", (0.05,)))
        return b.embed(b.op(Bucketize(), x.reshape(), edges), weight)

    def _statistic(self, b: Scope, name: str, init: Init) -> Value:
        return b.param(name, (self.width,), init, trainable=False)


class Coded(Feature):
    """The base of the kinds that hold ids of a table, of their own or shared."""

    dtype = "int"

    rows: Rows | None = Field(None, description="how many ids the feature's own table knows: 0 to rows - 1")
    dim: Width | None = Field(None, description="the width of the feature's own table; 8 by default")
    values: tuple[Union[str, int], ...] | None = Field(
        None, description="the vocabulary, instead of `rows`: texts and whole numbers that map to ids in this order"
    )
    table: str | None = Field(None, description="a shared table, instead of the feature's own")
    ids: Coding = Field("direct", description=CODING)
    unknown: int | None = Field(None, description="the id that an unknown one becomes; a learned row by default")

    @field_validator("values")
    @classmethod
    def _typed(cls, values: tuple[Union[str, int], ...] | None) -> tuple[Union[str, int], ...] | None:
        found = None if values is None else typed(values)
        if MISSING in (found or ()):
            raise ValueError("`values` can't hold -1, which stands for a missing id; that has a row of its own")
        return found

    @model_validator(mode="after")
    def _one_source(self) -> Coded:
        given = [name for name in ("rows", "values", "table") if getattr(self, name) is not None]
        if not given:
            raise ValueError("it needs `rows`, `values` or a shared table")
        if "table" in given and ("rows" in given or self.dim is not None):
            raise ValueError("a shared table brings its own rows and dim")
        if "table" in given and "ids" in self.model_fields_set:
            raise ValueError("a shared table says itself what its `ids` are")
        if "values" in given and self.ids != "direct":
            raise ValueError("`values` are the vocabulary already; `hash` and `fitted` take `rows`")
        if self.ids == "hash" and self.unknown is not None:
            raise ValueError("a hashed id is never unknown")
        if "rows" in given and "values" in given:
            raise ValueError("it takes `rows` or `values`, not both")
        if self.values is not None and len(set(self.values)) != len(self.values):
            raise ValueError("`values` names one twice")
        if self.values == ():
            raise ValueError("`values` needs at least one")
        return self

    def own_table(self) -> tuple[int, int] | None:
        """Rows and width of the feature's own table, if it has one."""
        if self.table is not None:
            return None
        return (self.rows or len(self.values or ()), self.dim or 8)

    def known(self, table: Value) -> int:
        return table.type.shape[0] - EXTRA_ROWS


EXTRA_ROWS = 2  # after a table's known rows: the unknown id's, then the missing one's


def table_param(b: Scope, rows: int, dim: int) -> Value:
    """A table's parameter `weight`: the known rows, then one for unknown ids and one for missing ones."""
    return b.param("weight", (rows + EXTRA_ROWS, dim), Init("normal", (0.05,)))


class Category(Coded):
    """One id; below 0 counts as missing, from the table's end on as unknown."""

    kind = "category"
    also = ("categorical", "id", "enum", "embedding", "sparse")
    example = "country : category { rows: 256, dim: 8 }"

    missing: int | None = Field(None, description="the id that a missing one becomes; a learned row by default")

    def encode(self, b: Scope, x: Value, table: Value | None) -> Tensor:
        assert table is not None
        rows = self.known(table)
        unknown = rows if self.unknown is None else self.unknown
        missing = rows + 1 if self.missing is None else self.missing
        return b.embed(b.op(Ids(rows, unknown, missing), x), table)


class List(Coded):
    """The base of the kinds that hold a padded list of ids."""

    length: Length

    def shape(self) -> tuple[int, ...]:
        return (self.length,)

    def items(self, b: Scope, x: Value, table: Value) -> Sequence:
        rows = self.known(table)
        unknown = rows if self.unknown is None else self.unknown
        ids = b.op(Ids(rows, unknown, rows + 1), x)
        return Sequence(b.embed(ids, table), b.op(Mask(), x))


class History(List):
    """An ordered list of up to `length` ids, newest last, padded with -1; an encoder turns it into a vector."""

    kind = "sequence"
    also = ("history",)
    example = "recent_pins : sequence { rows: 1_000, dim: 16, length: 50 }"

    length: Length = Field(description="the most ids a row has")
    of: str | None = Field(None, description="a shared table, as `table`")

    @model_validator(mode="before")
    @classmethod
    def _of_is_table(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("of") is not None:
            if data.get("table") is not None:
                raise ValueError("it takes `of` or `table`, not both")
            data = {**data, "table": data["of"]}
        return data

    def encode(self, b: Scope, x: Value, table: Value | None) -> Tensor:
        assert table is not None
        return self.items(b, x, table)


class Bag(List):
    """An unordered list of up to `length` ids, padded with -1, pooled into one vector; an empty one gives zeros."""

    kind = "bag"
    also = ("multi_hot", "multihot", "set")
    example = "query : bag { rows: 50_000, dim: 16, pooling: mean }"

    length: Length = Field(16, description="the most ids a row has")
    pooling: Literal["mean", "sum", "max"] = Field("mean", description="how the ids' vectors become one")

    def encode(self, b: Scope, x: Value, table: Value | None) -> Tensor:
        assert table is not None
        items = self.items(b, x, table)
        return items.value.pool(items.mask, self.pooling)


def default_for(b: Scope, type_: Type, absent: str) -> Value:
    """What a surface without the feature sees instead: the parameter `absent`."""
    if type_.dtype == "int":
        return b.param("absent", type_.shape, Init("constant", (float(PADDING),)), trainable=False, dtype="int")
    learned = absent == "learned"
    return b.param("absent", type_.shape, Init("normal", (0.05,)) if learned else ZEROS, trainable=learned)
