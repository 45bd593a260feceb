"""Every row of the table in docs/data.md, as a Parquet file and as a CSV file."""

from __future__ import annotations

import csv
import math
import re
import uuid
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import ROOT
from towerspec.check import Checked, check_text
from towerspec.diagnostics import SpecError
from towerspec.runtime.vocabulary import text_id
from towerspec.train.data import Columns, open_log
from towerspec.train.rows import join

DOC = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
SPEC = next(block for block in re.findall(r"^```\n(.*?)^```", DOC, re.MULTILINE | re.DOTALL) if "model" in block)


def uuids(numbers: Sequence[int]) -> pa.Array:
    return pa.ExtensionArray.from_storage(pa.uuid(), pa.array([uuid.UUID(int=n).bytes for n in numbers], pa.binary(16)))


NAMES = {"pa": pa, "D": Decimal, "nan": math.nan, "inf": math.inf, "text": text_id, "uuids": uuids}
NEUTRAL: dict[str, Any] = {
    "vector": [[1.0, 2.0], [3.0, 4.0]], "pin": [1, 2], "item": [1, 2], "user": [7, 7], "color": ["red", "red"],
    "recent": [[1], [2]], "tags": [[1], [2]], "price": [1.0, 2.0], "query": [1, 2], "click": [0, 1],
    "dwell": [0.5, 1.5], "views": [1, 2], "mood": ["sad", "glad"],
}  # fmt: skip


class Row(NamedTuple):
    """A row of the table: expressions, options, or a code."""

    column: str
    parquet: str
    csv: str
    options: str
    wanted: str


CELL = r"((?:[^|]|\\\|)*)"
ROWS = [
    Row(*(cell.replace("\\|", "|").strip() for cell in cells))
    for cells in re.findall(rf"^\| `(\w+)` \|{CELL}\|{CELL}\|{CELL}\|{CELL}\|$", DOC, re.MULTILINE)
]


@pytest.fixture(scope="module")
def checked() -> Checked:
    return check_text(SPEC)


def value_of(expression: str) -> Any:
    return eval(expression.strip("`"), dict(NAMES))


def cells_of(column: Any) -> list[str]:
    """A column as cells; lists with bars between their items."""
    return ["|".join(map(str, x)) if isinstance(x, list) else str(x) for x in column]


def written(folder: Path, kind: str, columns: Mapping[str, Any]) -> Path:
    path = folder / f"{len(list(folder.iterdir()))}.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table(dict(columns)), path)
        return path
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(columns)
        out.writerows(zip(*map(cells_of, columns.values()), strict=True))
    return path


def columns_of(options: str) -> tuple[Columns, dict[str, str]]:
    """What `--null` and `--map-surface` say, and the bounds of time."""
    found = re.findall(r"--([\w-]+) (\S+)", options.replace("`", ""))
    mapping = dict(value.split("=") for name, value in found if name == "map-surface")
    nulls = tuple(value for name, value in found if name == "null")
    bounds = {{"from": "after"}.get(name, name): value for name, value in found if name in ("from", "before")}
    return Columns(surfaces=mapping, time="time" if bounds else None, nulls=nulls), bounds


def read(checked: Checked, row: Row, kind: str, folder: Path) -> Any:
    """What the column becomes."""
    value = value_of(getattr(row, kind))
    parts = value if isinstance(value, list) and isinstance(value[0], (list, pa.Array)) else [value]
    where = {"surface": ["search" if row.column == "query" else "home"] * 2}
    files = []
    for part in parts:
        if part is not parts[0] and "second file of `home`" in row.options:
            where = {"surface": ["home"] * 2}
        held = {**where, **NEUTRAL, row.column: part}
        files.append(written(folder, kind, {k: x for k, x in held.items() if x is not None}))
    columns, bounds = columns_of(row.options)
    log = open_log(checked, files, columns)
    log = log.where(**bounds) if bounds else log
    if row.column == "time":
        return np.concatenate([np.zeros(0, np.int64), *(raw.rows for raw in log.raw(["surface"]))])
    rows = join(list(log.with_vocabularies(log.fit().vocabularies).encoded()))
    if row.column == "surface":
        return [log.encoder.surfaces[i] for i in rows.surface]
    if row.column == "request":
        assert rows.request is not None
        return [rows.request.tolist().index(x) for x in rows.request.tolist()]
    return rows.labels[row.column] if row.column in rows.labels else rows.features[row.column]


def test_the_table_is_read() -> None:
    assert len(ROWS) > 80
    assert {row.column for row in ROWS} == {*NEUTRAL, "surface", "request", "time"}
    assert all("|" not in row.column for row in ROWS)


@pytest.mark.parametrize("kind", ["parquet", "csv"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.column}={row.parquet}{row.csv}{row.options}")
def test_every_row_of_the_table(checked: Checked, row: Row, kind: str, tmp_path: Path) -> None:
    if getattr(row, kind) == "—":
        pytest.skip("no such file")
    if re.fullmatch(r"T\d+", row.wanted):
        with pytest.raises(SpecError) as found:
            read(checked, row, kind, tmp_path)
        assert {d.code for d in found.value.diagnostics} == {row.wanted}
        return
    got, wanted = read(checked, row, kind, tmp_path), value_of(row.wanted)
    if isinstance(got, np.ndarray):
        wanted = np.array(wanted, dtype=np.float64 if got.dtype == np.float32 else np.int64).astype(got.dtype)
    np.testing.assert_array_equal(got, wanted)
