"""The files of a log: found in their folders, opened, and what their columns hold; no row of them is read yet.

`pyarrow.dataset` does the reading: it streams Parquet and CSV, skips row groups by their statistics, and is what
other tools of the Arrow world read with.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset as ds

from towerspec.diagnostics import Diagnostic, SpecError
from towerspec.train.texts import Reads, guess, odd

ROWS = 32_768  # of a piece in memory
PARQUET, CSV = (".parquet", ".pq"), (".csv", ".csv.gz", ".tsv", ".tsv.gz")
_SAMPLE = 1 << 20  # bytes of a CSV file that tell what its columns hold


@dataclass(frozen=True)
class Piece:
    """A part of a file that is read in one go: a row group, or a whole CSV file, whose rows nobody has counted."""

    file: str
    fragment: Any
    first: int
    rows: int | None


@dataclass(frozen=True)
class File:
    """One file of a log; `items` says what the cells of a CSV file's columns hold.

    `constants` are the columns that its folders' names make, as `day=3`; `odd` has, of a CSV file's columns that should
    hold numbers and don't, the first cell that is none, with its row.
    """

    path: Path
    dataset: Any
    schema: pa.Schema
    items: Mapping[str, str]
    constants: Mapping[str, pa.Scalar] = field(default_factory=dict)
    odd: Mapping[str, tuple[int, str]] = field(default_factory=dict)

    @property
    def is_csv(self) -> bool:
        return self.path.name.lower().endswith(CSV)

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


def open_files(paths: Sequence[Path], reads: Reads) -> list[File]:
    """The files of a log, each once, folders' own included by name; `reads` says what their columns are read as.

    Raises:
        SpecError: a path doesn't exist or is neither Parquet nor CSV (T810).
    """
    found: dict[Path, File] = {}
    for path, folders in _all(paths):
        if path.resolve() not in found:
            found[path.resolve()] = _open(path, folders, reads)
    if not found:
        raise unreadable(", ".join(map(str, paths)) or "nothing", "it holds no Parquet and no CSV file")
    return list(found.values())


def unreadable(path: object, why: str, help: str = "give Parquet or CSV files, or their folder") -> SpecError:
    """The error for a file that is no log."""
    return SpecError(Diagnostic("T810", f"the log `{path}` can't be read: {why}", help=help))


def _all(paths: Sequence[Path]) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """The files, each with the names of the folders that lead to it from the path that was given.

    Names that begin with a dot or an underscore are left out, as by other readers: writers use them for what is not
    whole yet.
    """
    for path in paths:
        if path.is_dir():
            for file in sorted(p for p in path.rglob("*") if p.name.lower().endswith(PARQUET + CSV) and p.is_file()):
                steps = file.relative_to(path).parts
                if not any(step.startswith((".", "_")) for step in steps):
                    yield file, (path.name, *steps[:-1])
        elif not path.is_file():
            raise unreadable(path, "there is no such file")
        elif not path.name.lower().endswith(PARQUET + CSV):
            raise unreadable(path, f"its name ends in none of {', '.join(PARQUET + CSV)}")
        else:
            yield path, path.parts[:-1]


def _open(path: Path, folders: Sequence[str], reads: Reads) -> File:
    try:
        if path.name.lower().endswith(PARQUET):
            dataset = ds.dataset(str(path), format="parquet")
            file = File(path, dataset, dataset.schema, {})
        else:
            file = _open_csv(path, reads)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise broken(path, error) from error
    constants = {k: v for k, v in _constants(folders).items() if k not in file.schema.names}
    schema = pa.schema([*file.schema, *((name, value.type) for name, value in constants.items())])
    return replace(file, schema=schema, constants=constants)


def _constants(folders: Sequence[str]) -> dict[str, pa.Scalar]:
    """The columns that names of folders make, as Hive's `day=3/surface=home`: whole numbers, or texts."""
    found = {}
    for name, equals, value in (folder.partition("=") for folder in folders):
        if not equals or not name:
            continue
        text = unquote(value)
        if text == "__HIVE_DEFAULT_PARTITION__":
            found[unquote(name)] = pa.scalar(None, pa.string())
        else:
            found[unquote(name)] = pa.scalar(int(text), pa.int64()) if _WHOLE.fullmatch(text) else pa.scalar(text)
    return found


def _open_csv(path: Path, reads: Reads) -> File:
    parse = pyarrow.csv.ParseOptions(delimiter="\t" if ".tsv" in path.name.lower() else ",", newlines_in_values=True)
    with pa.input_stream(str(path)) as stream:
        head = stream.read(_SAMPLE)
    if not head.strip():
        raise unreadable(path, "it is empty")
    whole = len(head) < _SAMPLE
    names = _names(path, head, parse)
    convert = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), null_values=[""], strings_can_be_null=True
    )
    schema = pa.schema([(name, pa.string()) for name in names])
    dataset = ds.dataset(
        str(path), format=ds.CsvFileFormat(parse_options=parse, convert_options=convert), schema=schema
    )
    sample = _sample(head, whole, parse, convert)
    if whole and not len(sample):
        dataset = ds.dataset(sample)  # a header that no line ends, which Arrow takes for a mistake
    cells = {name: sample[name].combine_chunks() for name in names}
    for name in reads.texts.intersection(names) if not whole else ():
        if cells[name].null_count == len(cells[name]):  # such as of a surface whose rows come later
            cells[name] = _first_cells(dataset, name)
    items = {name: guess(cells[name], name in reads.listed, name in reads.numbers) for name in names}
    wrong = {n: odd(cells[n]) for n in names if items[n] == "text" and n not in reads.texts | reads.listed}
    return File(path, dataset, schema, items, odd={name: found for name, found in wrong.items() if found})


def _names(path: Path, head: bytes, parse: Any) -> list[str]:
    """The columns that the first line names."""
    line = re.split(rb"\r\n|\n|\r", head, maxsplit=1)[0]
    names: list[str] = pyarrow.csv.open_csv(pa.py_buffer(line + b"\n"), parse_options=parse).schema.names
    if len(set(names)) < len(names):
        raise unreadable(path, f"it has the column `{next(n for n in names if names.count(n) > 1)}` twice")
    between = next((mark for mark in ";\t|," if len(names) == 1 and mark in names[0]), None)
    if between is not None:
        shown = "tabs" if between == "\t" else f"`{between}`"
        help = "separate them by commas, or by tabs in a file whose name ends in .tsv"
        raise unreadable(path, f"its cells seem to be separated by {shown}", help)
    return names


def _sample(head: bytes, whole: bool, parse: Any, convert: Any) -> pa.Table:
    """The rows of a file's beginning, each cell a text."""
    head = head + b"\n" if whole else _whole_rows(head)
    read = pyarrow.csv.ReadOptions(use_threads=False, block_size=len(head) + 1)  # one thread counts rows
    return pyarrow.csv.read_csv(pa.py_buffer(head), read, parse, convert)


def _whole_rows(head: bytes) -> bytes:
    """A file's beginning without its last row, which may be cut off; an end of line within quotes is none."""
    mark = b"\n" if b"\n" in head else b"\r"
    cut = head.rfind(mark) + 1
    while cut and head.count(b'"', 0, cut) % 2:
        cut = head.rfind(mark, 0, cut - 1) + 1
    return head[:cut]


def _first_cells(dataset: Any, name: str) -> pa.Array:
    """The first piece of a column that has any cell."""
    for batch in dataset.to_batches(columns=[name], batch_size=ROWS):
        if batch.column(0).null_count < len(batch):
            return batch.column(0)
    return pa.nulls(0, pa.string())


_WHOLE = re.compile(r"-?\d{1,18}")
_CELLS = re.compile(r"(?:Row #(\d+): )?Expected (\d+) columns, got (\d+)(?:: (.*))?")


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
