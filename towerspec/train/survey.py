"""What a log holds, before anything is trained on it: rows and rates by surface, missing and unknown values by feature.

It reads every row as training would, so that what is wrong with any of them is known now. Nothing here needs torch.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from towerspec.diagnostics import Diagnostic, listing
from towerspec.layers.features import Number
from towerspec.layers.heads import Head, Multiclass
from towerspec.train.columns import FeatureColumn
from towerspec.train.data import Log
from towerspec.train.encode import Array
from towerspec.train.fitting import collected
from towerspec.train.kinds import mixed
from towerspec.train.reader import Window
from towerspec.train.rows import Problems, Rows
from towerspec.train.types import is_list, is_text

NULLS = ["", "\\n", "null", "(null)", "<null>", "none", "nan", "nat", "na", "n/a", "#n/a", "<na>", "nil", "undefined"]
FREQUENT = 1e-3  # of a column's ids

if TYPE_CHECKING:
    from towerspec.train.batch import Batch


@dataclass
class Task:
    """One task on one surface: how many rows have a label, their mean, and for classes how many each has."""

    kind: Head
    rows: int = 0
    total: float = 0.0
    classes: Array | None = None

    def add(self, labels: Array) -> None:
        labels = labels[~np.isnan(labels)].astype(np.float64)
        self.rows += len(labels)
        self.total += float(labels.sum())
        if isinstance(self.kind, Multiclass):
            counts = np.bincount(labels.astype(np.int64), minlength=self.kind.width())
            self.classes = counts if self.classes is None else self.classes + counts

    @property
    def rate(self) -> float | None:
        """The labels' mean; of classes, the share of the most frequent one."""
        if not self.rows:
            return None
        return float(self.classes.max() / self.rows) if self.classes is not None else self.total / self.rows


@dataclass
class Values:
    """One feature on the rows that have it: how many values are missing or unknown, and their range."""

    feature: FeatureColumn
    rows: int = 0
    missing: int = 0
    values: int = 0
    unknown: int = 0
    clipped: int = 0
    low: float = np.inf
    high: float = -np.inf

    def add(self, x: Array, known: int | None) -> None:
        """More rows; `known` is how many ids the table knows."""
        self.rows += len(x)
        there = np.isfinite(x) if self.feature.coding is None else x != -1
        if known is not None:
            there = x >= 0
        row_has_some = there.reshape(len(x), -1).any(1) if len(x) else there
        self.missing += int(len(x) - row_has_some.sum())
        found = x[there]
        self.values += found.size
        if not found.size:
            return
        self.low, self.high = min(self.low, float(found.min())), max(self.high, float(found.max()))
        if known is not None:
            self.unknown += int((found >= known).sum())
        if isinstance(self.feature.kind, Number) and self.feature.kind.clip:
            low, high = self.feature.kind.clip
            self.clipped += int(((found < low) | (found > high)).sum())


def features_of(log: Log) -> dict[str, Values]:
    """Nothing yet of each feature, by path."""
    return {f.path: Values(f) for of in log.encoder.features.values() for f in of}


def watched(batches: Iterator[Batch], features: Mapping[str, Values]) -> Iterator[Batch]:
    """The same batches, whose values are counted as they pass."""
    for batch in batches:
        _count({name: x.numpy() for name, x in batch.features.items()}, batch.surface.numpy(), features)
        yield batch


def unknown_ids(features: Mapping[str, Values]) -> dict[str, dict[str, Any]]:
    """How many ids there were, and how many of them unknown, of each feature that can have such."""
    return {
        path: {"ids": v.values, "unknown": v.unknown, "table": v.feature.coding.table or path}
        for path, v in features.items()
        if v.feature.coding is not None and v.feature.coding.mode != "hash"
    }


def mostly_unknown(features: Iterable[Values]) -> Iterator[Diagnostic]:
    """A warning (T818) for each feature most of whose ids are unknown."""
    for v in features:
        if v.unknown > 0.5 * v.values:
            message = f"most ids of the feature `{v.feature.name}` are unknown: {v.unknown:,} of {v.values:,}"
            yield _warn(message, _knows(v))


def _knows(v: Values) -> str:
    """What a feature's table knows, in words."""
    coding = v.feature.coding
    assert coding is not None
    if coding.mode == "fitted":
        return f"its table knows the {coding.rows:,} ids at most that training found most often"
    if coding.values:
        return f"its values are {listing([str(value) for value in coding.values], 8)}"
    return f"its table knows the ids from 0 to {coding.rows - 1:,}, and the data's go up to {v.high:,.0f}"


@dataclass
class Words:
    """The texts of a column of ids, and how many of them are words that other programs write for a missing value."""

    feature: FeatureColumn
    ids: int = 0
    found: Counter[str] = field(default_factory=Counter)

    def add(self, column: pa.Array) -> None:
        """More rows."""
        items = pc.list_flatten(column) if is_list(column.type) else column
        self.ids += len(items) - items.null_count
        if is_text(items.type):
            items = items.filter(pc.is_in(pc.utf8_lower(items), pa.array(NULLS, items.type)))
            self.found.update({x["values"]: x["counts"] for x in pc.value_counts(items.drop_null()).to_pylist()})

    def warnings(self, name: str) -> Iterator[Diagnostic]:
        """What is frequent among them, but for the spec's own values."""
        known = self.feature.coding.values if self.feature.coding else ()
        for word, count in self.found.most_common():
            if count >= FREQUENT * self.ids and word not in known:
                shown = f"`{word}`" if word else "the empty one"
                note = "it is read as an id like any other"
                help = f"where it stands for a missing value, give `--null {shlex.quote(word)}`"
                message = f"{count / self.ids:.2%} of the texts in the column `{name}` are {shown}"
                yield _warn(message, note, help=help)


@dataclass
class Survey:
    """What a log holds; `tasks` are by surface and task, `features` by path."""

    rows: dict[str, int]
    tasks: dict[str, dict[str, Task]]
    features: dict[str, Values]
    tables: dict[str, dict[str, int]] = field(default_factory=dict)
    nulls: dict[str, Words] = field(default_factory=dict)
    untimed: Diagnostic | None = None
    mixed: tuple[Diagnostic, ...] = ()  # of ids that are texts in one place and numbers in another

    def as_json(self) -> dict[str, Any]:
        """The survey for machines, with its warnings."""
        return {
            "rows": sum(self.rows.values()),
            "surfaces": {
                name: {
                    "rows": rows,
                    "tasks": {t: {"rows": x.rows, "rate": x.rate} for t, x in self.tasks[name].items()},
                }
                for name, rows in self.rows.items()
            },
            "features": {path: _shares(v) for path, v in self.features.items()},
            "tables": self.tables,
            "warnings": [d.message for d in self.warnings()],
        }

    def warnings(self) -> Iterator[Diagnostic]:
        """What is allowed, and most often a mistake."""
        yield from self.mixed
        for surface, rows in self.rows.items():
            if not rows:
                yield _warn(f"the surface `{surface}` has no rows")
            for task, x in self.tasks[surface].items() if rows else ():
                if not x.rows:
                    yield _warn(f"the surface `{surface}` has no label of `{task}`")
                elif x.kind.loss == "binary_cross_entropy" and x.rate in (0.0, 1.0):
                    yield _warn(f"all labels of `{task}` on the surface `{surface}` are {int(x.rate or 0)}")
        for v in self.features.values():
            yield from _feature_warnings(v)
            yield from mostly_unknown([v])
        for name, words in self.nulls.items():
            yield from words.warnings(name)
        if self.untimed is not None:
            yield self.untimed
        for path, table in self.tables.items():
            if table["ids"] > table["rows"]:
                beyond = table["ids"] - table["rows"]
                yield _warn(
                    f"`{path}` has {table['rows']:,} rows for {table['ids']:,} ids; the rarest {beyond:,} are unknown"
                )


def _shares(v: Values) -> dict[str, Any]:
    return {
        "rows": v.rows,
        "missing": v.missing / v.rows if v.rows else None,
        "unknown": v.unknown / v.values if v.values else None,
        "range": [v.low, v.high] if v.values else None,
    }


def _warn(message: str, *notes: str, help: str | None = None) -> Diagnostic:
    return Diagnostic("T818", message, notes=notes, help=help, severity="warning")


def _feature_warnings(v: Values) -> Iterator[Diagnostic]:
    name = v.feature.name
    if v.rows and v.missing == v.rows:
        yield _warn(f"the feature `{name}` is missing in every row that could have it")
    elif v.values > 1 and v.low == v.high and v.feature.coding is None:
        yield _warn(f"the feature `{name}` is {v.low:g} in every row")
    if v.clipped > 0.5 * v.values:
        yield _warn(f"most values of the feature `{name}` lie outside its `clip`")


def survey(log: Log) -> Survey:
    """Reads the whole log twice where ids are fitted, once otherwise.

    Raises:
        SpecError: what is wrong with it, the first mistake of each column (T813 to T815).
    """
    _, counts = collected(log, numbers=False)
    log = log.with_vocabularies({path: found.result() for path, found in counts.items()})
    features = features_of(log)
    tasks: dict[str, dict[str, Task]] = {}
    for index, surface in enumerate(log.encoder.surfaces):
        tasks[surface] = {n: Task(label.kind) for n, label in log.encoder.labels.items() if index in label.surfaces}
    rows = dict.fromkeys(log.encoder.surfaces, 0)
    problems = Problems()
    nulls = {n: Words(of[0]) for n, of in log.encoder.features.items() if of[0].texts}
    for raw in log.raw(log.encoder.names()):
        _add(log.encoder.encode(raw, problems), log, rows, tasks, features)
        for name, words in nulls.items():
            if name not in problems:
                words.add(raw.column(name, words.feature.width > 0))
    problems.check()
    tables = {path: {"rows": found.rows, "ids": found.distinct} for path, found in counts.items()}
    return Survey(rows, tasks, features, tables, nulls, untimed_warning(log), tuple(mixed(log)))


def untimed_warning(log: Log) -> Diagnostic | None:
    """A warning where rows have no time, by which they are in no part of a log that is split by it."""
    if not log.untimed:
        return None
    column, every = log.encoder.columns.time, replace(log, window=Window()).rows()
    note = "a row without a time is in no part of a log that is split by it: it is neither trained nor validated on"
    return _warn(f"{log.untimed:,} of {every:,} rows have no time in the column `{column}`", note)


def _add(
    part: Rows, log: Log, rows: dict[str, int], tasks: dict[str, dict[str, Task]], features: dict[str, Values]
) -> None:
    for index, surface in enumerate(log.encoder.surfaces):
        here = part.surface == index
        rows[surface] += int(here.sum())
        for name, task in tasks[surface].items():
            if name in part.labels:
                task.add(part.labels[name][here])
    _count(part.features, part.surface, features)


def _count(columns: Mapping[str, Array], surface: Array, features: Mapping[str, Values]) -> None:
    for values in features.values():
        coding = values.feature.coding
        known = coding.rows if coding is not None and coding.mode != "hash" else None
        values.add(columns[values.feature.name][np.isin(surface, values.feature.surfaces)], known)
