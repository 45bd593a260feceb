"""A log's rows as the generated model takes them, in NumPy, and every mistake in them by file, column and row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from towerspec.check.model import Model
from towerspec.diagnostics import Diagnostic, SpecError, did_you_mean, listing
from towerspec.ids import by_value
from towerspec.train.columns import FeatureColumn, LabelColumn, Place, feature_columns, label_columns
from towerspec.train.encode import Array, as_numbers, as_texts, ids, labels, lists, numbers
from towerspec.train.fnv import fnv1a
from towerspec.train.lookup import Vocabulary
from towerspec.train.reader import Raw, malformed, where
from towerspec.train.texts import Reads, padded
from towerspec.train.types import Malformed


@dataclass(frozen=True)
class Columns:
    """Which columns say where, when and together with what a row was shown.

    `surfaces` maps what the surface column holds to the spec's surfaces, where that isn't their names. `request` is
    used where the log has it; `time` is needed only to split by it. `nulls` are texts that stand for a missing value.
    """

    surface: str = "surface"
    surfaces: Mapping[str, str] = field(default_factory=dict)
    request: str | None = "request"
    time: str | None = None
    nulls: tuple[str, ...] = ()


BY_NAME = Columns()
TEXTS, NUMBERS = "texts", "whole numbers"  # the kinds of ids
NO_KINDS: Mapping[str, Sequence[str]] = {}


@dataclass(frozen=True)
class Rows:
    """Encoded rows: the features and labels by name, `surface` `[n]` int64, and `request` `[n]` int64 or none."""

    features: Mapping[str, Array]
    labels: Mapping[str, Array]
    surface: Array
    request: Array | None

    def __len__(self) -> int:
        return len(self.surface)

    @property
    def bytes(self) -> int:
        return sum(array.nbytes for array in self.arrays())

    def arrays(self) -> list[Array]:
        return [
            *self.features.values(),
            *self.labels.values(),
            self.surface,
            *([] if self.request is None else [self.request]),
        ]

    def map(self, change: Callable[[Array], Array]) -> Rows:
        """The same rows with each array changed."""
        return Rows(
            {name: change(x) for name, x in self.features.items()},
            {name: change(x) for name, x in self.labels.items()},
            change(self.surface),
            None if self.request is None else change(self.request),
        )

    def take(self, rows: Array | slice) -> Rows:
        return self.map(lambda x: x[rows])


def join(parts: Sequence[Rows]) -> Rows:
    """Rows after rows."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    return Rows(
        {name: np.concatenate([part.features[name] for part in parts]) for name in first.features},
        {name: np.concatenate([part.labels[name] for part in parts]) for name in first.labels},
        np.concatenate([part.surface for part in parts]),
        None if first.request is None else np.concatenate([p.request for p in parts if p.request is not None]),
    )


class Problems(dict[str, Diagnostic]):
    """The first mistake of each column, by its name."""

    def add(self, column: str, problem: Diagnostic) -> None:
        self.setdefault(column, problem)

    def check(self) -> None:
        """Raises `SpecError` with all of them, if there are any."""
        if self:
            raise SpecError(*self.values())


class Encoder:
    """Encodes raw rows by a spec; `vocabularies`, and the `kinds` of ids that a run has learned, are by table path."""

    def __init__(
        self,
        model: Model,
        columns: Columns,
        vocabularies: Mapping[str, Vocabulary],
        kinds: Mapping[str, Sequence[str]] = NO_KINDS,
    ) -> None:
        self.columns, self.vocabularies, self.kinds = columns, vocabularies, kinds
        self.surfaces = tuple(model.surfaces)
        self.features: dict[str, list[FeatureColumn]] = feature_columns(model)
        self.labels: dict[str, LabelColumn] = label_columns(model)

    @property
    def reads(self) -> Reads:
        """What the columns are read as."""
        numbers = [name for name, of in self.features.items() if of[0].coding is None]
        numbers += [name for name, label in self.labels.items() if not getattr(label.kind, "values", None)]
        cells = [name for name, of in self.features.items() if self._verbatim(of[0])]
        cells += [name for name, label in self.labels.items() if getattr(label.kind, "values", None)]
        return Reads(
            frozenset([*self.names(), *([self.columns.time] if self.columns.time else [])]),
            frozenset(name for name, of in self.features.items() if of[0].width),
            frozenset(numbers),
            frozenset(name for name, of in self.features.items() if of[0].texts),
            self.columns.nulls,
            frozenset(cells).difference(numbers),
        )

    def _verbatim(self, of: FeatureColumn) -> bool:
        """Whether a CSV file's cells stay texts, whatever they look like: where a number would lose what they say."""
        if of.coding is None:
            return False
        if of.coding.mode == "direct":  # lists have other separators, unless a value such as 01 asks for this one
            return any(not of.width or (isinstance(x, str) and by_value([x])) for x in of.coding.values)
        vocabulary = self.vocabularies.get(of.coding.table)
        lost = vocabulary is not None and vocabulary.unreachable is not None
        return lost or (of.coding.mode == "hash" and self.kinds.get(of.coding.table) == [TEXTS])

    def names(self, only: Sequence[str] | None = None) -> list[str]:
        """The columns to read: all, or the surface's and some."""
        extra = [name for name in (self.columns.surface, self.columns.request) if name]
        return [*extra, *(only if only is not None else [*self.features, *self.labels])]

    def encode(self, raw: Raw, problems: Problems | None = None) -> Rows:
        """The rows; mistakes go into `problems`, or are raised where nothing collects them.

        Raises:
            SpecError: a value has no meaning (T813), a surface is unknown (T814) or a label out of range (T815).
        """
        found = Problems() if problems is None else problems
        surface = self.surface(raw, found)
        features = {name: self._feature(raw, of, surface, found) for name, of in self.features.items()}
        targets = {
            name: self._label(raw, label, surface, features, found)
            for name, label in self.labels.items()
            if name in raw.columns
        }
        request = self.request(raw, found)
        if problems is None:
            found.check()
        return Rows(features, targets, surface, request)

    # ---- one column ----------------------------------------------------------------------------

    def surface(self, raw: Raw, problems: Problems) -> Array:
        """Each row's surface as an index; a row of an unknown one counts as the first's."""
        if self.columns.surface not in raw.columns:  # a spec of one surface needs no column
            return np.zeros(len(raw), dtype=np.int64)
        known = {**{name: i for i, name in enumerate(self.surfaces)}, **self._mapped()}
        try:
            texts = as_texts(raw.column(self.columns.surface))
        except Malformed as error:
            problems.add(self.columns.surface, malformed(raw, self.columns.surface, error))
            return np.zeros(len(raw), dtype=np.int64)
        at = pc.index_in(texts, pa.array(list(known), pa.string()))
        unknown = np.flatnonzero(at.is_null().to_numpy(zero_copy_only=False))
        if len(unknown):
            problem = self._unknown_surface(raw, int(unknown[0]), texts[int(unknown[0])].as_py(), list(known))
            problems.add(self.columns.surface, problem)
        places = np.fromiter(known.values(), dtype=np.int64)
        return np.asarray(places[pc.fill_null(at, 0).to_numpy()])

    def _mapped(self) -> dict[str, int]:
        return {raw: self.surfaces.index(name) for raw, name in self.columns.surfaces.items()}

    def _unknown_surface(self, raw: Raw, row: int, value: str | None, known: list[str]) -> Diagnostic:
        says = "is empty" if value is None else f"says `{value if len(value) <= 60 else f'{value[:60]}…'}`"
        return Diagnostic(
            "T814",
            f"{where(raw, row)}: the surface column `{self.columns.surface}` {says}",
            notes=(f"the spec's surfaces are {listing(self.surfaces)}",),
            help=did_you_mean(value or "", known)
            or "map it to one with `--map-surface RAW=NAME`, or leave the row out",
        )

    def request(self, raw: Raw, problems: Problems) -> Array | None:
        """Each row's request as a number, if the log says; texts are hashed. A row without one is a request alone."""
        name = self.columns.request
        if name is None or name not in raw.columns:
            return None
        try:
            column = raw.key(name)
            found = as_numbers(column)
        except Malformed as error:
            problems.add(name, malformed(raw, name, error))
            return np.zeros(len(raw), dtype=np.int64)
        alone = column.is_null().to_numpy(zero_copy_only=False)
        if alone.any():
            found = found.copy()
            found[alone] = fnv1a(pa.array([f"{raw.file} {row}" for row in raw.rows[alone]]))
        return found

    def _feature(self, raw: Raw, of: list[FeatureColumn], surface: Array, problems: Problems) -> Array:
        try:
            out = self.feature(raw, of[0])
            for other in of[1:]:  # declared once by each surface: the same column, but a table of its own
                if other.coding != of[0].coding:
                    here = np.isin(surface, other.surfaces)
                    out[here] = self.feature(raw, other)[here]
            return out
        except Malformed as error:
            problems.add(of[0].name, malformed(raw, of[0].name, error))
            return np.zeros((len(raw), *of[0].kind.shape()), dtype=np.float32 if of[0].coding is None else np.int64)

    def column(self, raw: Raw, of: FeatureColumn) -> pa.Array:
        """One feature's column as it holds it; raises `Malformed`."""
        if of.texts and raw.items.get(of.name) == "int":
            _check_padding(raw.columns[of.name], of.width > 0)
        return raw.column(of.name, of.width > 0)

    def feature(self, raw: Raw, of: FeatureColumn) -> Array:
        """One feature's values, `[n]` or `[n, width]`; raises `Malformed`."""
        column = self.column(raw, of)
        if of.coding is None:
            return numbers(column, of.width)
        vocabulary = self.vocabularies.get(of.coding.table)
        if of.coding.mode == "fitted" and vocabulary is None:
            raise SpecError(
                Diagnostic(
                    "T817",
                    f"the ids of `{of.coding.table}` are fitted, and nothing says what they were fitted to",
                    help="fit the log first, or give the run's vocabularies",
                )
            )
        cells = of.name in raw.items
        if of.width:
            return lists(column, of.width, of.coding, vocabulary, cells)
        return ids(column, of.coding, vocabulary, cells)

    def _label(
        self, raw: Raw, of: LabelColumn, surface: Array, features: Mapping[str, Array], problems: Problems
    ) -> Array:
        try:
            return labels(raw.column(of.name), of.kind, counted(of, surface, features), of.name in raw.items)
        except Malformed as error:
            problems.add(of.name, malformed(raw, of.name, error, "T815"))
            return np.full(len(raw), np.nan, dtype=np.float32)


def _check_padding(cells: pa.Array, listed: bool) -> None:
    """Raises `Malformed` where a cell of ids that have all been numbers so far would lose a nought as one."""
    rows = np.flatnonzero(padded(cells, listed).to_numpy(zero_copy_only=False))
    if len(rows):
        raise Malformed(int(rows[0]), cells[int(rows[0])].as_py(), "a whole number without a nought before it")


def counted(label: LabelColumn, surface: Array, features: Mapping[str, Array]) -> Array:
    """The rows (`[n]` bool) that have a task: those of a surface, and of a branch's arm, with a head of its name."""
    out = np.zeros(len(surface), dtype=bool)
    for place in label.places:
        out |= at_place(place, surface, features)
    return out


def at_place(place: Place, surface: Array, features: Mapping[str, Array]) -> Array:
    """The rows (`[n]` bool) that reach a head."""
    here = surface == place.surface
    for arm in place.arms:
        key = features[arm.key]
        here = here & (np.isin(key, arm.ids) if arm.ids else ~np.isin(key, arm.others))
    return np.asarray(here)
