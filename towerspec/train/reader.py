"""Reads a log's files in pieces: columns as Arrow has them, with the file and the row that each came from.

`pyarrow.dataset` does the reading: it streams Parquet and CSV, skips row groups by their statistics, and is what
other tools of the Arrow world read with.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.dataset as ds

from towerspec.diagnostics import Diagnostic, SpecError
from towerspec.train.encode import Array, from_text, guess, plain

ROWS = 32_768  # of a piece in memory
PARQUET, CSV = (".parquet", ".pq"), (".csv", ".csv.gz", ".tsv", ".tsv.gz")
_SAMPLE = 1 << 20  # bytes of a CSV file that tell what its columns hold


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


@dataclass(frozen=True)
class Piece:
    """A part of a file that is read in one go: a row group, or a whole CSV file, whose rows nobody has counted."""

    file: str
    fragment: Any
    first: int
    rows: int | None


@dataclass(frozen=True)
class File:
    """One file of a log; `items` says what the cells of a CSV file's columns hold."""

    path: Path
    dataset: Any
    schema: pa.Schema
    items: Mapping[str, str]

    @property
    def is_csv(self) -> bool:
        return self.path.name.endswith(CSV)

    def pieces(self) -> list[Piece]:
        if self.is_csv:
            return [Piece(str(self.path), fragment, 0, None) for fragment in self.dataset.get_fragments()]
        found, first = [], 0
        for fragment in self.dataset.get_fragments():
            for part in fragment.split_by_row_group():
                rows = sum(group.num_rows for group in part.row_groups)  # `count_rows` is the whole file's
                found.append(Piece(str(self.path), part, first, rows))
                first += rows
        return found


def open_files(paths: Sequence[Path], listed: Iterable[str]) -> list[File]:
    """The files of a log, folders' own included by name; `listed` are the columns that hold lists.

    Raises:
        SpecError: a path doesn't exist or is neither Parquet nor CSV (T810).
    """
    listed = set(listed)
    found = [_open(path, listed) for path in _all(paths)]
    if not found:
        raise unreadable(", ".join(map(str, paths)) or "nothing", "it holds no Parquet and no CSV file")
    return found


def unreadable(path: object, why: str) -> SpecError:
    """The error for a file that is no log."""
    return SpecError(
        Diagnostic("T810", f"the log `{path}` can't be read: {why}", help="give Parquet or CSV files, or their folder")
    )


def _all(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(p for p in path.rglob("*") if p.name.endswith(PARQUET + CSV) and p.is_file())
        elif not path.is_file():
            raise unreadable(path, "there is no such file")
        elif not path.name.endswith(PARQUET + CSV):
            raise unreadable(path, f"its name ends in none of {', '.join(PARQUET + CSV)}")
        else:
            yield path


def _open(path: Path, listed: set[str]) -> File:
    try:
        if path.name.endswith(PARQUET):
            dataset = ds.dataset(str(path), format="parquet")
            return File(path, dataset, dataset.schema, {})
        return _open_csv(path, listed)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise unreadable(path, str(error).split("\n")[0].split(": ")[-1]) from error


def _open_csv(path: Path, listed: set[str]) -> File:
    parse = pyarrow.csv.ParseOptions(delimiter="\t" if ".tsv" in path.name else ",", newlines_in_values=True)
    with pa.input_stream(str(path)) as stream:
        head = stream.read(_SAMPLE)
    if len(head) == _SAMPLE:
        head = head[: head.rfind(b"\n") + 1]
    names = pyarrow.csv.open_csv(pa.py_buffer(head.split(b"\n")[0] + b"\n"), parse_options=parse).schema.names
    if len(set(names)) < len(names):
        raise unreadable(path, f"it has the column `{next(n for n in names if names.count(n) > 1)}` twice")
    convert = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), null_values=[""], strings_can_be_null=True
    )
    sample = pyarrow.csv.read_csv(pa.py_buffer(head), parse_options=parse, convert_options=convert)
    items = {name: guess(sample[name].combine_chunks(), name in listed) for name in names}
    form = ds.CsvFileFormat(parse_options=parse, convert_options=convert)
    dataset = ds.dataset(str(path), format=form, schema=pa.schema([(name, pa.string()) for name in names]))
    return File(path, dataset, dataset.schema, items)


def stream(files: Sequence[File], pieces: Sequence[Piece], columns: Sequence[str], window: Window) -> Iterator[Raw]:
    """The rows of some pieces, a bounded number at a time, as far as the time column lets them through."""
    by_name = {str(file.path): file for file in files}
    for piece in pieces:
        file, first = by_name[piece.file], piece.first
        names = [name for name in dict.fromkeys([*columns, *window.columns]) if name in file.schema.names]
        scan = {"schema": file.schema, "batch_size": ROWS, "batch_readahead": 2, "fragment_readahead": 1}
        try:
            for batch in piece.fragment.to_batches(columns=names, **scan):
                rows = np.arange(first, first + batch.num_rows)
                raw = Raw(piece.file, rows, dict(zip(names, batch.columns, strict=True)), file.items)
                first += batch.num_rows
                inside = window.rows(raw)
                raw = raw if inside is None else raw.take(inside)
                if len(raw):
                    yield raw
        except (pa.ArrowException, OSError) as error:
            raise unreadable(piece.file, str(error).split("\n")[0]) from error


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
        times = raw.column(self.columns[0])
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
    try:
        if isinstance(bound, str) and not (pa.types.is_string(kind) or pa.types.is_temporal(kind)):
            bound = float(bound) if pa.types.is_floating(kind) else int(bound)
        return pa.scalar(bound).cast(kind) if not isinstance(bound, str) else pc.cast(pa.scalar(bound), kind)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise SpecError(Diagnostic("T816", f"`{bound}` is no moment of a time column that holds {kind}")) from error
