"""Reads a log's files in pieces: columns as Arrow has them, with the file and the row that each came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from towerspec.diagnostics import Diagnostic, SpecError
from towerspec.train.csvs import broken
from towerspec.train.encode import Array
from towerspec.train.sources import File, Piece
from towerspec.train.texts import WORDS, from_text, without
from towerspec.train.types import Malformed, is_moment, is_number, plain, storage


@dataclass(frozen=True)
class Raw:
    """Some rows of one file: columns by name, and each row's number in the file, counted from 0.

    `items` says what the texts of a CSV file's columns hold, and `nulls` which texts stand for a missing value.
    """

    file: str
    rows: Array
    columns: Mapping[str, pa.Array]
    items: Mapping[str, str]
    nulls: tuple[str, ...] = ()

    def column(self, name: str, listed: bool = False) -> pa.Array:
        """A column with the type that its cells have; raises `Malformed` where one of a CSV file has another."""
        column = self.columns[name]
        if name in self.items:
            return from_text(column, self.items[name], listed, self.nulls)
        return without(plain(column), self.nulls)

    def key(self, name: str) -> pa.Array:
        """A column whose values are only told apart: as `column`, but bytes may be any."""
        return self.column(name) if name in self.items else without(storage(self.columns[name]), self.nulls)

    def take(self, rows: Array) -> Raw:
        """Some of these rows."""
        at = pa.array(rows)
        return replace(self, rows=self.rows[rows], columns={name: c.take(at) for name, c in self.columns.items()})

    def __len__(self) -> int:
        return len(self.rows)


def stream(
    files: Sequence[File],
    pieces: Sequence[Piece],
    columns: Sequence[str],
    window: Window,
    nulls: tuple[str, ...] = (),
) -> Iterator[Raw]:
    """The rows of some pieces, a bounded number at a time, as far as the time column lets them through.

    Raises:
        SpecError: a file can't be read (T810), or a cell of its time column (T813), or compared with it (T816).
    """
    by_name = {str(file.path): file for file in files}
    for piece in pieces:
        file, first = by_name[piece.file], piece.first
        wanted = [name for name in dict.fromkeys([*columns, *window.columns]) if name in file.schema.names]
        for batch in _batches(piece, [name for name in wanted if name not in file.constants]):
            held = {name: storage(batch.column(name)) for name in batch.schema.names if name in wanted}
            held |= {name: pa.repeat(x, batch.num_rows) for name, x in file.constants.items() if name in wanted}
            raw = Raw(piece.file, np.arange(first, first + batch.num_rows), held, file.items, nulls)
            first += batch.num_rows
            inside = window.rows(raw)
            raw = raw if inside is None else raw.take(inside)
            if len(raw):
                yield raw


def _batches(piece: Piece, names: list[str]) -> Iterator[pa.RecordBatch]:
    try:
        yield from piece.batches(names)
    except (pa.ArrowException, OSError) as error:
        raise broken(piece.file, error) from error


MISSING = "write missing values as empty cells, or name the word for them, as `--null NA`"


def where(raw: Raw, row: int) -> str:
    """A row as people count them: from 1, without a CSV file's header."""
    return f"`{raw.file}`, row {int(raw.rows[row]) + 1:,}"


def malformed(raw: Raw, column: str, error: Malformed, code: str = "T813") -> Diagnostic:
    """The diagnostic for a value without a meaning."""
    value = error.value
    if raw.items.get(column) == "float" and isinstance(value, float) and abs(value) <= 2**64 and value.is_integer():
        value = int(value)  # as the file has it
    shown = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:60]}…"
    what = "label" if code == "T815" else "column"
    notes, help = [f"it takes {error.wanted}, or null"], None
    if raw.items.get(column) in WORDS and isinstance(value, str):
        notes.append(f"the first cells of the file's column hold {WORDS[raw.items[column]]} each")
        help = f"{MISSING}; where the column is one of texts, give Parquet, which says so"
    message = f"{where(raw, error.row)}: the {what} `{column}` holds {shown}"
    return Diagnostic(code, message, notes=tuple(notes), help=help)


@dataclass(frozen=True)
class Window:
    """A half-open range of the time column: from `after` on, up to but without `before`."""

    column: str | None = None
    after: Any = None
    before: Any = None

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,) if self.column and (self.after is not None or self.before is not None) else ()

    def rows(self, raw: Raw) -> Array | None:
        """The rows that lie in it; none where it has no bounds."""
        if not self.columns:
            return None
        times = times_of(raw, self.columns[0])
        inside = pa.array(np.ones(len(raw), dtype=bool))
        for bound, compare in ((self.after, pc.greater_equal), (self.before, pc.less)):
            if bound is not None and not pa.types.is_null(times.type):
                inside = pc.and_(inside, pc.fill_null(compare(times, moment(bound, times.type)), False))
        inside = pc.and_(inside, times.is_valid())
        return np.flatnonzero(inside.to_numpy(zero_copy_only=False))


def times_of(raw: Raw, column: str) -> pa.Array:
    """The time column, null where a row has none.

    Raises:
        SpecError: one has no meaning (T813).
    """
    try:
        times = raw.column(column)
    except Malformed as error:
        raise SpecError(malformed(raw, column, error)) from None
    if not pa.types.is_floating(times.type):
        return times
    if pa.types.is_float16(times.type):  # which Arrow can't compare
        times = pc.cast(times, pa.float32())
    return pc.if_else(pc.is_nan(times), None, times)


def moment(bound: Any, kind: pa.DataType) -> pa.Scalar:
    """A bound as a value of the time column's type.

    Raises:
        SpecError: it is none (T816).
    """
    text, temporal = isinstance(bound, str), is_moment(kind)
    try:
        if text and pa.types.is_timestamp(kind) and kind.tz:
            return _zoned(bound, kind)
        if text and pa.types.is_time(kind):
            return pa.scalar(time.fromisoformat(bound), pa.time64("us")).cast(kind)
        if text and (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            bound = float(bound) if pa.types.is_floating(kind) else int(bound)
        return pc.cast(pa.scalar(bound), kind) if isinstance(bound, str) else pa.scalar(bound).cast(kind)
    except (pa.ArrowException, ValueError, TypeError) as error:
        example = "a date, or a date and time, such as `2024-05-01 12:00`" if temporal else "a number"
        example = "a time of day, such as `12:00`" if pa.types.is_time(kind) else example
        help = f"give {example}" if temporal or is_number(kind) else "name a column of numbers, dates or texts"
        problem = Diagnostic("T816", f"`{bound}` is no moment of a time column that holds {kind}", help=help)
        raise SpecError(problem) from error


def _zoned(bound: str, kind: pa.DataType) -> pa.Scalar:
    """A moment of a column with a time zone: what names no zone of its own is of the column's."""
    try:
        return pc.cast(pa.scalar(bound), kind)
    except pa.ArrowInvalid:
        return pc.assume_timezone(pc.cast(pa.scalar(bound), pa.timestamp(kind.unit)), kind.tz)
