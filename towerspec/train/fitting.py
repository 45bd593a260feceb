"""What training fits to a log before it begins: means, deviations, ranges, bucket edges, vocabularies.

One pass in float64, and memory that doesn't grow with the log but for the vocabularies.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from towerspec.ids import usual
from towerspec.layers.features import Number
from towerspec.train.columns import FeatureColumn
from towerspec.train.encode import Array, integers, is_missing
from towerspec.train.reader import malformed
from towerspec.train.rows import Encoder, Problems
from towerspec.train.types import Malformed, is_text, plain

if TYPE_CHECKING:
    from torch import Tensor

    from towerspec.train.data import Log

BATCH = 1 << 16  # counted ids that are merged together at least
SAMPLE = 1 << 20  # values from which quantiles are taken: all of them up to here, then a uniform sample


@dataclass(frozen=True)
class Fitted:
    """`statistics` by parameter path, in float64 and each parameter's shape; `vocabularies` by table path.

    A vocabulary holds raw ids, whole numbers or texts, the most frequent first, at most as many as the table has rows.
    """

    statistics: dict[str, Tensor]
    vocabularies: dict[str, list[Any]]


def fit(log: Log) -> Fitted:
    """Fits to all rows of a log: each feature to the rows of the surfaces that have it, missing values left out."""
    import torch

    moments, tables = collected(log)
    found = {path: x for m in moments for path, x in m.result().items() if path in log.parameters}
    statistics = {path: torch.from_numpy(x) for path, x in found.items()}
    return Fitted(statistics, {path: counts.result() for path, counts in tables.items()})


def collected(log: Log, numbers: bool = True) -> tuple[list[Moments], dict[str, Counts]]:
    """Reads a log once, for its numbers' moments, if asked for, and its fitted tables' raw ids; needs no torch."""
    features = [f for of in log.encoder.features.values() for f in of]
    moments = [Moments(f) for f in features if numbers and isinstance(f.kind, Number) and _has_statistics(f.kind)]
    tables: dict[str, Counts] = {}
    collect: list[tuple[FeatureColumn, Moments | Counts]] = [(m.feature, m) for m in moments]
    for feature in features:
        if feature.coding is not None and feature.coding.mode == "fitted":
            counts = tables.setdefault(feature.coding.table, Counts(feature.coding.rows))
            collect.append((feature, counts))
    names = [feature.name for feature, _ in collect]
    for raw in log.raw(log.encoder.names(only=names)) if names else ():
        problems = Problems()
        surface = log.encoder.surface(raw, problems)
        for feature, into in collect:
            here = raw.take(np.flatnonzero(np.isin(surface, feature.surfaces)))
            try:
                into.add(_values(log.encoder, here, feature))
            except Malformed as error:
                problems.add(feature.name, malformed(here, feature.name, error))
        problems.check()
    return moments, tables


def _has_statistics(kind: Number) -> bool:
    return kind.missing == "mean" or kind.normalize != "none" or kind.buckets is not None


def _values(encoder: Encoder, raw: Any, feature: FeatureColumn) -> Any:
    if feature.coding is None:
        return encoder.feature(raw, feature)
    column = encoder.column(raw, feature)
    return plain(pc.list_flatten(column)) if feature.width and not pa.types.is_null(column.type) else column


@dataclass
class Moments:
    """A number's count, mean, sum of squared deviations, range, and a sample for its quantiles, per element."""

    feature: FeatureColumn
    count: Array = field(init=False)
    sample: Sample = field(init=False)

    def __post_init__(self) -> None:
        width = self.feature.width or 1
        self.count, self.mean, self.squares = np.zeros(width), np.zeros(width), np.zeros(width)
        self.low, self.high = np.full(width, np.inf), np.full(width, -np.inf)
        self.sample = Sample(self.feature.path)

    @property
    def kind(self) -> Number:
        assert isinstance(self.feature.kind, Number)
        return self.feature.kind

    def add(self, values: Array) -> None:
        """More values, as the graph gets them. Merged as Chan, Golub & LeVeque 1979 do."""
        x = transformed(self.kind, values.reshape(-1, self.feature.width or 1).astype(np.float64))
        there = np.isfinite(x)
        count = there.sum(0)
        some = np.maximum(count, 1)
        mean = np.where(there, x, 0.0).sum(0) / some
        squares = (np.where(there, x - mean, 0.0) ** 2).sum(0)
        total = self.count + count
        gap = mean - self.mean
        weight = np.divide(count, total, out=np.zeros_like(total), where=total > 0)
        self.squares += np.where(count > 0, squares + gap**2 * self.count * weight, 0.0)
        self.mean += np.where(count > 0, gap * weight, 0.0)
        self.count = total
        self.low = np.minimum(self.low, np.where(there, x, np.inf).min(0, initial=np.inf))
        self.high = np.maximum(self.high, np.where(there, x, -np.inf).max(0, initial=-np.inf))
        if self.kind.buckets:
            self.sample.add(x[there[:, 0], 0])

    def result(self) -> dict[str, Array]:
        """The statistics by parameter path; a value that never varies is not divided by its spread."""
        none = self.count == 0
        std = np.sqrt(self.squares / np.maximum(self.count, 1))
        std = np.where(std > 1e-7 * np.maximum(1.0, np.abs(self.mean)), std, 1.0)
        low, high = np.where(none, 0.0, self.low), np.where(none, 1.0, self.high)
        high = np.where(high > low, high, low + 1.0)
        path, found = self.feature.path, {}
        if self.kind.missing == "mean" or self.kind.normalize == "standard":
            found[f"{path}.mean"] = self.mean.copy()
        if self.kind.normalize == "standard":
            found[f"{path}.std"] = std
        if self.kind.normalize == "minmax":
            found[f"{path}.low"], found[f"{path}.high"] = low, high
        if self.kind.buckets:
            edges = self.sample.quantiles(self.kind.buckets)
            if self.kind.normalize == "standard":
                edges = (edges - self.mean) / std
            elif self.kind.normalize == "minmax":
                edges = (edges - low) / (high - low)
            found[f"{path}.edges"] = edges
        return found


def transformed(kind: Number, x: Array) -> Array:
    """A number clipped and transformed as the graph does, before it is filled and normalised."""
    x = np.where(np.isfinite(x), x, np.nan)
    if kind.clip:
        x = np.clip(x, *kind.clip)
    if kind.transform == "log1p":
        return np.asarray(np.sign(x) * np.log1p(np.abs(x)))
    return np.asarray(np.sign(x) * np.sqrt(np.abs(x))) if kind.transform == "sqrt" else x


class Sample:
    """Up to `SAMPLE` values: all there are, or a uniform choice of them, the same each time for one path.

    Each value draws a number, and those with the smallest stay.
    """

    def __init__(self, path: str) -> None:
        self.generator = np.random.default_rng(list(path.encode()))
        self.values, self.draws = np.zeros(0), np.zeros(0)

    def add(self, values: Array) -> None:
        self.values = np.concatenate([self.values, values])
        self.draws = np.concatenate([self.draws, self.generator.random(len(values))])
        if len(self.values) > 2 * SAMPLE:
            self._shrink()

    def _shrink(self) -> None:
        kept = np.argpartition(self.draws, SAMPLE - 1)[:SAMPLE]
        self.values, self.draws = self.values[kept], self.draws[kept]

    def quantiles(self, buckets: int) -> Array:
        """The edges between equally full buckets."""
        if len(self.values) > SAMPLE:
            self._shrink()
        if not len(self.values):
            return np.linspace(-2.0, 2.0, buckets - 1)
        return np.asarray(np.quantile(self.values, np.arange(1, buckets) / buckets))


class Counts:
    """How often each raw id of a table occurs; a text that is the usual form of a whole number is that number.

    Batches are merged only once they hold as many ids as all before them: each id is merged a logarithmic number of
    times, and most of them once.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._merged: dict[bool, pa.Table] = {}
        self._fresh: dict[bool, list[pa.Table]] = {}

    def add(self, column: pa.Array) -> None:
        """More ids; null and -1 are none."""
        column = plain(column)
        text = is_text(column.type)
        column = pc.cast(column, pa.string()) if text else pa.array(integers(column, wrap=True))
        column = column.filter(pc.invert(is_missing(column)))
        if not len(column):
            return
        counted = pc.value_counts(column)
        fresh = self._fresh.setdefault(text, [])
        fresh.append(pa.table({"id": counted.field("values"), "count": counted.field("counts")}))
        merged = self._merged.get(text)
        if sum(map(len, fresh)) >= max(BATCH, len(merged) if merged is not None else 0):
            self._merge(text)

    def _merge(self, text: bool) -> None:
        tables = [*([self._merged[text]] if text in self._merged else []), *self._fresh.pop(text, [])]
        counted = pa.concat_tables(tables).group_by("id").aggregate([("count", "sum")])
        self._merged[text] = counted.select(["id", "count_sum"]).rename_columns(["id", "count"])

    @functools.cached_property
    def _found(self) -> dict[bool, pa.Table]:
        """Whole numbers and texts with their counts; where there are both, one id is one."""
        for text in list(self._fresh):
            self._merge(text)
        if len(self._merged) == 2:
            texts = self._merged[True]
            forms = [usual(id_) for id_ in texts["id"].to_pylist()]
            alike = pa.array([not isinstance(form, str) for form in forms], pa.bool_())
            moved = pa.array([form for form in forms if not isinstance(form, str)], pa.int64())
            self._fresh[False] = [pa.table({"id": moved, "count": texts["count"].filter(alike)})]
            self._merge(False)
            self._merged[True] = texts.filter(pc.invert(alike))
        return self._merged

    @property
    def distinct(self) -> int:
        """How many different ids there are."""
        return sum(table.num_rows for table in self._found.values())

    def result(self) -> list[Any]:
        """The most frequent ids first, equally frequent ones in their own order, whole numbers before texts."""
        listed: list[tuple[int, bool, Any]] = []
        for text, table in self._found.items():
            top = table.sort_by([("count", "descending"), ("id", "ascending")]).slice(0, self.rows)
            counts, ids = top["count"].to_pylist(), top["id"].to_pylist()
            listed += [(-count, text, id_) for count, id_ in zip(counts, ids, strict=True)]
        return [id_ for _, _, id_ in sorted(listed)[: self.rows]]
