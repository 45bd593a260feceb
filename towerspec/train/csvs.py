"""CSV files: the names of their columns, their first cells, and all of their cells, a piece at a time.

`pyarrow.csv` reads them as a stream, whose memory doesn't grow with the file; all cells are texts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from towerspec.diagnostics import Diagnostic, SpecError

BLOCK = 1 << 20  # bytes of a file that are read at once, and more than a row may have; Arrow reads 32 of them ahead
SAMPLE = 1 << 20  # bytes of a file that tell what its columns hold


@dataclass(frozen=True)
class Csv:
    """A file that has at least a header; `header_only` where it has no more."""

    path: Path
    names: tuple[str, ...]
    head: bytes
    header_only: bool = False

    @property
    def whole(self) -> bool:
        """Whether `head` is all of it."""
        return len(self.head) < SAMPLE

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Some columns of all rows; of none, the first, so that rows are counted."""
        if self.header_only:  # which no line may end: Arrow takes that for a mistake
            return
        read = pyarrow.csv.ReadOptions(block_size=BLOCK, use_threads=False)  # one thread counts rows for its errors
        with pa.input_stream(str(self.path)) as file, pa.PythonFile(_Watched(self.path, file), "r") as stream:
            yield from pyarrow.csv.open_csv(stream, read, _parse(self.path), _texts(columns or self.names[:1]))

    def sample(self, columns: Sequence[str]) -> pa.Table:
        """Some columns of the rows of the file's beginning."""
        if not columns:
            return pa.table({})
        head = self.head + b"\n" if self.whole else _whole_rows(self.head)
        read = pyarrow.csv.ReadOptions(use_threads=False, block_size=len(head) + 1)
        return pyarrow.csv.read_csv(pa.py_buffer(head), read, _parse(self.path), _texts(columns))

    def first_cells(self, name: str) -> pa.Array:
        """The first piece of a column that has any cell."""
        for batch in self.batches([name]):
            if batch.column(0).null_count < len(batch):
                return batch.column(0)
        return pa.nulls(0, pa.string())


# A quote that ends no cell, as Spark writes it; Arrow would read another text.
_ESCAPED = re.compile(rb'\\"[^"\t,\r\n]')


def _check_quotes(path: Path, content: bytes) -> None:
    if _ESCAPED.search(content):
        help = 'write them as `""`, as Spark does with `option("escape", "\\"")`'
        raise unreadable(path, 'quotes in its cells are written as `\\"`', help)


class _Watched:
    """A file's bytes as Arrow asks for them, each looked at once for what it would misread."""

    closed = False

    def __init__(self, path: Path, file: pa.NativeFile) -> None:
        self.path, self.file, self.last = path, file, b""

    def read(self, size: int) -> bytes:
        content = bytes(self.file.read(size))
        _check_quotes(self.path, self.last + content)
        self.last = content[-2:]
        return content

    def close(self) -> None:
        self.closed = True


def open_csv(path: Path) -> Csv:
    """A file by its first bytes.

    Raises:
        SpecError: it is empty, or no table (T810).
    """
    with pa.input_stream(str(path)) as stream:
        head = stream.read(SAMPLE)
    if not head.strip():
        raise unreadable(path, "it is empty")
    _check_quotes(path, head)
    lines = re.split(rb"\r\n|\n|\r", head, maxsplit=1)
    return Csv(path, _names(path, lines[0]), head, len(head) < SAMPLE and not b"".join(lines[1:]).strip())


def _parse(path: Path) -> pyarrow.csv.ParseOptions:
    between = "\t" if ".tsv" in path.name.lower() else ","
    return pyarrow.csv.ParseOptions(delimiter=between, newlines_in_values=True)


def _texts(names: Sequence[str]) -> pyarrow.csv.ConvertOptions:
    types = dict.fromkeys(names, pa.string())
    return pyarrow.csv.ConvertOptions(
        column_types=types, include_columns=list(names), null_values=[""], strings_can_be_null=True
    )


def _names(path: Path, line: bytes) -> tuple[str, ...]:
    """The columns that the first line names."""
    read = pyarrow.csv.open_csv(pa.py_buffer(line + b"\n"), parse_options=_parse(path))
    names: tuple[str, ...] = tuple(read.schema.names)
    between = next((mark for mark in ";\t|," if len(names) == 1 and mark in names[0]), None)
    if between is not None:
        shown = "tabs" if between == "\t" else f"`{between}`"
        help = "separate them by commas, or by tabs in a file whose name ends in .tsv"
        raise unreadable(path, f"its cells seem to be separated by {shown}", help)
    return names


def repeated(names: Sequence[str]) -> frozenset[str]:
    """The names of columns that stand more than once."""
    return frozenset(name for name, count in Counter(names).items() if count > 1)


def _whole_rows(head: bytes) -> bytes:
    """A file's beginning without its last row, which may be cut off; an end of line within quotes is none."""
    mark = b"\n" if b"\n" in head else b"\r"
    cut = head.rfind(mark) + 1
    while cut and head.count(b'"', 0, cut) % 2:
        cut = head.rfind(mark, 0, cut - 1) + 1
    return head[:cut]


# ---- what is wrong with a file -----------------------------------------------------------------

_CELLS = re.compile(r"(?:Row #(\d+): )?Expected (\d+) columns, got (\d+)(?:: (.*))?")


def unreadable(path: object, why: str, help: str = "give Parquet or CSV files, or their folder") -> SpecError:
    """The error for a file that is no log."""
    return SpecError(Diagnostic("T810", f"the log `{path}` can't be read: {why}", help=help))


def broken(path: object, error: Exception) -> SpecError:
    """The error for a file that Arrow can't read, in its words where we have no better ones."""
    first = str(error).split("\n")[0]
    cells = _CELLS.search(first)
    if cells is None:
        return unreadable(path, first.split(": ")[-1])
    row, header, found, text = cells.groups()
    where = f"row {int(row) - 1:,}" if row else f"the row `{(text or '')[:60]}`"
    help = "give each row as many cells as the header, and quote those that hold a comma or the end of a line"
    return unreadable(path, f"{where} doesn't have the header's {header} cells, but {found}", help)
