"""Reads a log's files in pieces: columns as Arrow has them, with the file and the row that each came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from towerspec.diagnostics import Diagnostic, SpecError
from towerspec.train.csvs import broken
from towerspec.train.encode import Array, Malformed, is_list, is_number, plain
from towerspec.train.sources import File, Piece
from towerspec.train.texts import WORDS, from_text


@dataclass(frozen=True)
class Raw:
    """Some rows of one file: columns by name, and each row's number in the file, counted from 0.

    `items` says what the texts of a CSV file's columns hold.
    """

    file: str
    rows: Array
    columns: Mapping[str, pa.Array]
    items: Mapping[str, str]

    def column(self, name: str, listed: bool = False) -> pa.Array:
        """A column with the type that its cells have; raises `Malformed` where one of a CSV file has another."""
        column = self.columns[name]
        return from_text(column, self.items[name], listed) if name in self.items else plain(column)

    def take(self, rows: Array) -> Raw:
        """Some of these rows."""
        at = pa.array(rows)
        return Raw(self.file, self.rows[rows], {name: c.take(at) for name, c in self.columns.items()}, self.items)

    def __len__(self) -> int:
        return len(self.rows)


def stream(files: Sequence[File], pieces: Sequence[Piece], columns: Sequence[str], window: Window) -> Iterator[Raw]:
    """The rows of some pieces, a bounded number at a time, as far as the time column lets them through.

    Raises:
        SpecError: a file can't be read (T810), or a cell of its time column (T813), or compared with it (T816).
    """
    by_name = {str(file.path): file for file in files}
    for piece in pieces:
        file, first = by_name[piece.file], piece.first
        wanted = [name for name in dict.fromkeys([*columns, *window.columns]) if name in file.schema.names]
        for batch in _batches(piece, [name for name in wanted if name not in file.constants]):
            held = {name: _no_view(x) for name, x in zip(batch.schema.names, batch.columns, strict=True)}
            held |= {name: pa.repeat(x, batch.num_rows) for name, x in file.constants.items() if name in wanted}
            raw = Raw(piece.file, np.arange(first, first + batch.num_rows), held, file.items)
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


def _no_view(column: pa.Array) -> pa.Array:
    """A column without views of texts, which Arrow can't take rows of."""
    kind = column.type
    if pa.types.is_string_view(kind):
        return pc.cast(column, pa.string())
    if is_list(kind) and pa.types.is_string_view(kind.value_type):
        return pc.cast(column, pa.list_(pa.string()))
    return column


def where(raw: Raw, row: int) -> str:
    """A row as people count them: from 1, without a CSV file's header."""
    return f"`{raw.file}`, row {int(raw.rows[row]) + 1:,}"


def malformed(raw: Raw, column: str, error: Malformed, code: str = "T813") -> Diagnostic:
    """The diagnostic for a value without a meaning."""
    value = error.value
    if raw.items.get(column) == "float" and isinstance(value, float) and value.is_integer():
        value = int(value)  # as the file has it
    shown = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:60]}…"
    what = "label" if code == "T815" else "column"
    notes, help = [f"it takes {error.wanted}, or null"], None
    if raw.items.get(column) in WORDS and isinstance(value, str):
        notes.append(f"the first cells of the file's column hold {WORDS[raw.items[column]]} each")
        help = "write missing values as empty cells; where the column is one of texts, give Parquet, which says so"
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
        try:
            times = raw.column(self.columns[0])
        except Malformed as error:
            raise SpecError(malformed(raw, self.columns[0], error)) from None
        inside = pa.array(np.ones(len(raw), dtype=bool))
        for bound, compare in ((self.after, pc.greater_equal), (self.before, pc.less)):
            if bound is not None:
                inside = pc.and_(inside, pc.fill_null(compare(times, moment(bound, times.type)), False))
        return np.flatnonzero(inside.to_numpy(zero_copy_only=False))


def moment(bound: Any, kind: pa.DataType) -> pa.Scalar:
    """A bound as a value of the time column's type.

    Raises:
        SpecError: it is none (T816).
    """
    text, temporal = isinstance(bound, str), pa.types.is_temporal(kind)
    try:
        if text and pa.types.is_timestamp(kind) and kind.tz:
            return _zoned(bound, kind)
        if text and (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            bound = float(bound) if pa.types.is_floating(kind) else int(bound)
        return pc.cast(pa.scalar(bound), kind) if isinstance(bound, str) else pa.scalar(bound).cast(kind)
    except (pa.ArrowException, ValueError, TypeError) as error:
        example = "a date, or a date and time, such as `2024-05-01 12:00`" if temporal else "a number"
        known = temporal or (is_number(kind) and not pa.types.is_null(kind))
        help = f"give {example}" if known else "name a column of numbers, dates or texts"
        problem = Diagnostic("T816", f"`{bound}` is no moment of a time column that holds {kind}", help=help)
        raise SpecError(problem) from error


def _zoned(bound: str, kind: pa.DataType) -> pa.Scalar:
    """A moment of a column with a time zone: what names no zone of its own is of the column's."""
    try:
        return pc.cast(pa.scalar(bound), kind)
    except pa.ArrowInvalid:
        return pc.assume_timezone(pc.cast(pa.scalar(bound), pa.timestamp(kind.unit)), kind.tz)
