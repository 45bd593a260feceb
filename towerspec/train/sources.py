"""The files of a log: found in their folders, opened, and what their columns hold; no row of them is read yet.

`pyarrow.dataset` reads Parquet, a row group at a time; CSV files have a module of their own.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyarrow.fs import LocalFileSystem

from towerspec.train.csvs import broken, open_csv, repeated, unreadable
from towerspec.train.texts import Reads, guess, odd, padded, without

ROWS = 32_768  # of a piece in memory
PARQUET = (".parquet", ".pq")
CSV = tuple(f"{kind}{packed}" for kind in (".csv", ".tsv") for packed in ("", ".gz", ".bz2", ".zst", ".lz4"))


@dataclass(frozen=True)
class Piece:
    """A part of a file that is read in one go: a row group, or a whole CSV file, whose rows nobody has counted.

    `batches` gives some of its columns, a bounded number of rows at a time.
    """

    file: str
    batches: Callable[[Sequence[str]], Iterator[pa.RecordBatch]]
    first: int
    rows: int | None


@dataclass(frozen=True)
class File:
    """One file of a log; `items` says what the cells of a CSV file's columns hold.

    `constants` are the columns that have one value in all rows, such as those that its folders' names make, as `day=3`.
    Columns that stand in it `twice` are not in the schema. `odd` has, of a CSV file's columns that should hold numbers
    and don't, the first cell that is none, with its row.
    """

    path: Path
    pieces: tuple[Piece, ...]
    schema: pa.Schema
    items: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, pa.Scalar] = field(default_factory=dict)
    odd: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    twice: frozenset[str] = frozenset()
    empty: frozenset[str] = frozenset()  # of a CSV file's columns, those whose first cells say nothing

    def with_constants(self, constants: Mapping[str, pa.Scalar]) -> File:
        """The file with other columns that have one value in all rows, instead of its own of their names."""
        kept = [column for column in self.schema if column.name not in constants]
        schema = pa.schema([*kept, *((name, value.type) for name, value in constants.items())])
        items = {name: item for name, item in self.items.items() if name not in constants}
        return replace(self, schema=schema, items=items, constants={**self.constants, **constants})


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
            file = _open_parquet(path)
        else:
            file = _open_csv(path, reads)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise broken(path, error) from error
    own = {*file.schema.names, *file.twice}
    return file.with_constants({name: value for name, value in _constants(folders).items() if name not in own})


_WHOLE = re.compile(r"-?\d{1,18}")


def _open_parquet(path: Path) -> File:
    whole = ds.ParquetFileFormat().make_fragment(str(path), LocalFileSystem())  # a data set wants each name once
    twice = repeated(whole.physical_schema.names)
    schema = pa.schema([column for column in whole.physical_schema if column.name not in twice])
    pieces, first = [], 0
    for part in whole.split_by_row_group():
        rows = sum(group.num_rows for group in part.row_groups)  # `count_rows` is the whole file's
        pieces.append(Piece(str(path), functools.partial(_row_group, part, schema), first, rows))
        first += rows
    return File(path, tuple(pieces), schema, twice=twice)


def _row_group(part: Any, schema: pa.Schema, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    ahead = {"batch_readahead": 2, "fragment_readahead": 1}
    yield from part.to_batches(columns=list(columns), schema=schema, batch_size=ROWS, **ahead)


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
    csv = open_csv(path)
    twice = repeated(csv.names)
    names = [name for name in csv.names if name not in twice]
    sample = csv.sample([name for name in names if name in reads.names])
    cells = {name: sample[name].combine_chunks() for name in sample.column_names}
    for name in reads.texts.intersection(cells) if not csv.whole else ():
        if cells[name].null_count == len(cells[name]):  # such as of a surface whose rows come later
            cells[name] = csv.first_cells(name)
    items = {name: guess(x, reads, name) for name, x in cells.items()}
    as_written = {n for n in reads.texts.intersection(items) if pc.any(padded(cells[n], n in reads.listed)).as_py()}
    items |= dict.fromkeys(as_written | reads.verbatim.intersection(items), "text")
    texts = {n: x for n, x in cells.items() if items[n] == "text" and n not in reads.texts | reads.listed}
    wrong = {name: found for name, x in texts.items() if (found := odd(x, reads.nulls)) is not None}
    empty = frozenset(n for n, x in cells.items() if without(x, reads.nulls).null_count == len(x))
    schema = pa.schema([(name, pa.string()) for name in names])
    return File(path, (Piece(str(path), csv.batches, 0, None),), schema, items, odd=wrong, twice=twice, empty=empty)
