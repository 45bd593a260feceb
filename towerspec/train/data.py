"""A training log: Parquet or CSV files, read by a spec's names as batches for the generated model.

    log = open_log(check("ads.tower"), [Path("log/")], Columns(time="day"))
    train = log.where(before=20)
    fitted = train.fit()
    for batch in train.with_vocabularies(fitted.vocabularies).batches(1024, seed=0):
        out = model(batch.features, batch.surface)

Nothing is held in memory but a buffer, unless the encoded log is small enough to be kept whole.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from towerspec.check import Checked
from towerspec.check.model import Model
from towerspec.diagnostics import Diagnostic, SpecError
from towerspec.train.encode import Array
from towerspec.train.lookup import Vocabulary
from towerspec.train.reader import Raw, Window, stream, times_of
from towerspec.train.rows import BY_NAME, NO_KINDS, Columns, Encoder, Problems, Rows, join
from towerspec.train.schema import check_requests, settled
from towerspec.train.sources import File, Piece, open_files

if TYPE_CHECKING:
    from towerspec.train.batch import Batch
    from towerspec.train.fitting import Fitted

__all__ = ["Columns", "Log", "open_log"]

CACHE = 1 << 30  # bytes up to which the encoded log is kept in memory
BUFFER = 1 << 28  # bytes that are shuffled together where it isn't


@dataclass(frozen=True)
class Log:
    """The rows of a log that lie in a window of time; see `open_log`."""

    model: Model
    parameters: frozenset[str]  # their paths
    files: tuple[File, ...]
    encoder: Encoder
    window: Window = field(default_factory=Window)
    cache: int = CACHE
    buffer: int = BUFFER
    _kept: list[Rows | None] = field(default_factory=list, repr=False)  # the whole log once it is read, if it fits

    def rows(self) -> int:
        """How many rows there are."""
        if not self.window.columns and all(piece.rows is not None for piece in self.pieces):
            return sum(piece.rows or 0 for piece in self.pieces)
        return sum(self.counts.values())

    @functools.cached_property
    def counts(self) -> dict[str, int]:
        """How many rows each surface has.

        Raises:
            SpecError: a row's surface is unknown (T814).
        """
        total = np.zeros(len(self.encoder.surfaces), dtype=np.int64)
        for raw in self.raw(self.encoder.names(only=())):
            problems = Problems()
            total += np.bincount(self.encoder.surface(raw, problems), minlength=len(total))
            problems.check()
        return {name: int(count) for name, count in zip(self.encoder.surfaces, total, strict=True)}

    @functools.cached_property
    def untimed(self) -> int:
        """How many rows of the files have no time, and so lie in no window."""
        name = self.encoder.columns.time
        if name is None:
            return 0
        every = stream(self.files, self.pieces, [name], Window(), self.encoder.columns.nulls)
        return sum(times_of(raw, name).null_count for raw in every)

    @functools.cached_property
    def pieces(self) -> tuple[Piece, ...]:
        return tuple(piece for file in self.files for piece in file.pieces)

    def where(self, after: Any = None, before: Any = None) -> Log:
        """The rows whose time is `after` or later, and earlier than `before`: numbers, dates, or texts that say one.

        Raises:
            SpecError: nothing says which column holds the time, or the bounds are not of its type (T816).
        """
        if self.encoder.columns.time is None:
            raise SpecError(
                Diagnostic("T816", "nothing says which column holds the time", help="name it with `--time-column`")
            )
        old = self.window
        lower = [x for x in (old.after, after) if x is not None]
        upper = [x for x in (old.before, before) if x is not None]
        window = Window(self.encoder.columns.time, max(lower, default=None), min(upper, default=None))
        return replace(self, window=window, _kept=[])

    def with_vocabularies(self, vocabularies: Mapping[str, Sequence[Any]]) -> Log:
        """The same rows, with raw ids of tables with `ids: fitted` looked up in these; see `fit`."""
        encoder = Encoder(
            self.model, self.encoder.columns, {k: Vocabulary(v) for k, v in vocabularies.items()}, self.encoder.kinds
        )
        log = replace(self, encoder=encoder, _kept=[])
        log.__dict__.update({name: self.__dict__[name] for name in ("counts", "untimed") if name in self.__dict__})
        return log

    def fit(self) -> Fitted:
        """What training fits to these rows before it begins: statistics and vocabularies. It is done once.

        Raises:
            SpecError: a number or an id has no meaning (T813), or a surface is unknown (T814).
        """
        return self._fitted

    @functools.cached_property
    def _fitted(self) -> Fitted:
        from towerspec.train.fitting import fit

        return fit(self)

    # ---- reading -------------------------------------------------------------------------------

    def raw(self, columns: Sequence[str], order: Sequence[Piece] | None = None) -> Iterator[Raw]:
        """Some columns as the files hold them, a bounded number of rows at a time."""
        pieces = self.pieces if order is None else order
        return stream(self.files, pieces, columns, self.window, self.encoder.columns.nulls)

    def encoded(self, order: Sequence[Piece] | None = None) -> Iterator[Rows]:
        """The rows as the model takes them, a bounded number at a time.

        Raises:
            SpecError: a value has no meaning (T813), a surface is unknown (T814), a label is out of range (T815), or
                a vocabulary is missing (T817).
        """
        for raw in self.raw(self.encoder.names(), order):
            yield self.encoder.encode(raw)

    def _whole(self) -> Rows | None:
        """All rows, if they fit into the cache; whether they do is found out once."""
        if not self._kept:
            self._kept.append(self._fitting())
        return self._kept[0]

    def _fitting(self) -> Rows | None:
        """All rows; none where there are none, or as soon as the first ones show that they don't fit."""
        parts, total = [], 0
        for rows in self.encoded():
            parts.append(rows.map(_narrow))
            total += parts[-1].bytes
            if max(total, parts[0].bytes / len(parts[0]) * self.rows()) > self.cache:
                return None
        return join(parts) if parts else None

    def batches(
        self,
        size: int,
        seed: int | None = None,
        weights: Mapping[str, float] | None = None,
        rank: int = 0,
        world: int = 1,
        together: bool = False,
    ) -> Iterator[Batch]:
        """Batches of `size` rows, the last one smaller: in file order, or shuffled by a seed.

        `weights` says how often a surface's rows are drawn: 0.5 keeps about half of them, 2 gives each twice; the seed
        decides which. With several ranks, each batch is dealt out among them, so that all ranks make equally many,
        each row goes to one rank, and the rows of a step don't depend on how many ranks there are; of the last batch
        a rank may get no row. A log that doesn't fit into the cache is shuffled by row groups, and within a buffer.
        With `together` requests are shuffled, not rows: the rows of one follow each other.

        Raises:
            SpecError: as `encoded`, or `together` where no column says which rows are a request's (T811).
        """
        from towerspec.train.batching import deal, shuffled, to_batch

        if together:
            check_requests(self.files, self.encoder)
        whole = self._whole()
        scale = np.array([(weights or {}).get(name, 1.0) for name in self.encoder.surfaces])
        order = np.random.default_rng([seed or 0, 0]).permutation(len(self.pieces)) if seed is not None else None
        pieces = self.pieces if order is None else [self.pieces[i] for i in order]
        parts = iter([whole]) if whole is not None else self.encoded(pieces)
        mixed = shuffled(parts, seed, scale, 0 if whole is not None else self.buffer, together)
        return (to_batch(rows) for rows in deal(mixed, size, rank, world))


def _narrow(x: Array) -> Array:
    """Whole numbers in half the bytes where they fit."""
    if x.dtype == np.int64 and len(x) and x.size and x.min() >= -(2**31) and x.max() < 2**31:
        return x.astype(np.int32)
    return x


def open_log(
    checked: Checked,
    paths: Sequence[Path],
    columns: Columns = BY_NAME,
    vocabularies: Mapping[str, Sequence[Any]] | None = None,
    kinds: Mapping[str, Sequence[str]] = NO_KINDS,
) -> Log:
    """Opens a log: Parquet or CSV files, or folders of them; only their schemas are read.

    Each feature has a column of its name, and each head one with its labels; others are left alone. `vocabularies` and
    `kinds` are a run's: what the rows of its tables stand for, and whether its ids were texts or whole numbers.

    Raises:
        SpecError: the spec has errors, a file can't be read (T810), a column is missing (T811) or of the wrong type
            (T812), or a mapping names an unknown surface (T814).
    """
    model, graph = checked.sound()
    encoder = Encoder(model, columns, {path: Vocabulary(raw) for path, raw in (vocabularies or {}).items()}, kinds)
    files = open_files([Path(path) for path in paths], encoder.reads)
    files = settled(files, encoder)
    return Log(model, frozenset(p.path for _, p in graph.params), tuple(files), encoder, Window(columns.time))
