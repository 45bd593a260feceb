"""What an id in a log is: a value, a place, a text or a number, whichever file it comes from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towerspec.check import check_text
from towerspec.diagnostics import SpecError
from towerspec.train.data import Log, open_log
from towerspec.train.encode import ids
from towerspec.train.simulate import Options, simulate

SPEC = """model m
request {{ key : category {{ values: [{values}], dim: 4 }} }}
candidate {{ price : number }}
trunk {{ z = mlp(concat(request, candidate), hidden: [4]) }}
surface home {{ tower {{ head stars : multiclass {{ values: [{labels}] }} }} }}
"""


def log_of(folder: Path, values: str, labels: str, columns: dict[str, Any], kind: str) -> Log:
    spec = check_text(SPEC.format(values=values, labels=labels))
    size = len(next(iter(columns.values())))
    held = {"key": [None] * size, "stars": [None] * size, "price": [0.5] * size, **columns}
    path = folder / f"log.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table(held), path)
    else:
        rows = zip(*([("" if x is None else str(x)) for x in column] for column in held.values()), strict=True)
        path.write_text("\n".join([",".join(held), *map(",".join, rows)]) + "\n")
    return open_log(spec, [path])


def feature(folder: Path, values: str, column: Any, kind: str = "parquet") -> list[int]:
    (rows,) = log_of(folder, values, "a, b", {"key": column}, kind).encoded()
    return list(rows.features["key"].tolist())


def labels(folder: Path, values: str, column: Any, kind: str = "parquet") -> list[float]:
    (rows,) = log_of(folder, "a, b", values, {"stars": column}, kind).encoded()
    return list(rows.labels["stars"].tolist())


def same(found: Sequence[float], wanted: Sequence[float]) -> bool:
    return np.array_equal(np.array(found), np.array(wanted), equal_nan=True)


# ---- values ------------------------------------------------------------------------------------

NAN = float("nan")


@pytest.mark.parametrize(
    ("values", "column", "wanted"),
    [
        ("1, 2, 3", [1, 2, 3, 4, 0, None], [0, 1, 2, 3, 3, -1]),
        ("1, 2, 3", pa.array([1.0, None, 3.0], pa.float32()), [0, -1, 2]),
        ("1, 2, 3", [Decimal("2.00"), None], [1, -1]),
        ("1, 2, 3", ["1", "3", "01", "1.0", " 1", None, "-1"], [0, 2, 3, 3, 3, -1, -1]),
        ('"10", 20', [10, 20, 0, 1], [0, 1, 2, 2]),
        ("10, other", ["10", "other", "1", "x"], [0, 1, 2, 2]),
        ("10, other", [10, 1, 0], [0, 2, 2]),
        ("-5, 0", [-5, 0, -1, 5], [0, 1, -1, 2]),
        ('"01", "02"', [1, 2, 0], [2, 2, 2]),
        ('"01", "02"', ["01", "02", "1"], [0, 1, 2]),
        ("a, b", [0, 1, 2, -1], [0, 1, 2, -1]),
        ("a, b", ["a", "0", None], [0, 2, -1]),
    ],
)
def test_values_in_parquet(tmp_path: Path, values: str, column: Any, wanted: list[int]) -> None:
    assert feature(tmp_path, values, column) == wanted


@pytest.mark.parametrize(
    ("values", "cells", "wanted"),
    [
        ("1, 2, 3", ["1", "2", "3", "4", ""], [0, 1, 2, 3, -1]),
        ("1, 2, 3", ["01", "1.0", " 2 ", "+3", "-1", "3e0"], [0, 0, 1, 2, -1, 2]),
        ("1, 2, 3", ["1", "x", "2.0", ""], [0, 3, 1, -1]),
        ("10, other", ["10", "other", "1", "010"], [0, 1, 2, 0]),
        ('"01", "02"', ["01", "02", "1", "2"], [0, 1, 2, 2]),
        ('"01", 1', ["01", "1", "001"], [0, 1, 1]),
        ("a, b", ["a", "b", "c", "0", "1", "01"], [0, 1, 2, 0, 1, 1]),
        ("a, b", ["0", "1", "2"], [0, 1, 2]),
        ('"true", "false"', ["true", "false"], [0, 1]),
    ],
)
def test_values_in_csv(tmp_path: Path, values: str, cells: list[str], wanted: list[int]) -> None:
    assert feature(tmp_path, values, cells, "csv") == wanted


@pytest.mark.parametrize(("kind", "cell"), [("parquet", 1.5), ("csv", "1.5")])
def test_a_fraction_is_no_value(tmp_path: Path, kind: str, cell: Any) -> None:
    with pytest.raises(SpecError, match=r"T813.*row 2.*1\.5"):
        feature(tmp_path, "1, 2", ["1", cell] if kind == "csv" else [1.0, cell], kind)


@pytest.mark.parametrize(
    ("values", "column", "wanted"),
    [
        ("1, 2, 3", [1, 2, 3, None], [0, 1, 2, NAN]),
        ("1, 2, 3", [1.0, float("nan"), 3.0], [0, NAN, 2]),
        ("1, 2, 3", ["1", "3", None], [0, 2, NAN]),
        ("-1, 0, 1", [-1, 0, 1, None], [0, 1, 2, NAN]),
        ("0, 1", [True, False, None], [1, 0, NAN]),
        ("bad, good", [0, 1, None], [0, 1, NAN]),
        ("bad, good", ["good", "bad", None], [1, 0, NAN]),
    ],
)
def test_labels(tmp_path: Path, values: str, column: Any, wanted: list[float]) -> None:
    assert same(labels(tmp_path, values, column), wanted)
    cells = [x if x == x else None for x in column]
    if not isinstance(column[0], bool):
        assert same(labels(tmp_path, values, cells, "csv"), wanted)


@pytest.mark.parametrize("kind", ["parquet", "csv"])
@pytest.mark.parametrize(
    ("values", "column", "said"),
    [
        ("1, 2, 3", [1, 0], "one of 1, 2, 3,"),
        ("1, 2, 3", [1, 4], "one of 1, 2, 3,"),
        ("1, 2, 3", [1.0, 1.5], "one of 1, 2, 3,"),
        ("1, 2, 3", ["1", "x"], "one of 1, 2, 3,"),
        ("bad, good", [0, 2], "one of bad, good, or its index,"),
        ("bad, good", ["bad", "ugly"], "one of bad, good, or its index,"),
    ],
)
def test_a_label_that_is_no_value(tmp_path: Path, values: str, column: Any, said: str, kind: str) -> None:
    with pytest.raises(SpecError) as raised:
        labels(tmp_path, values, column, kind)
    (problem,) = raised.value.diagnostics
    assert problem.code == "T815"
    assert "row 2" in problem.message
    assert problem.notes[0] == f"it takes {said} or null"


@pytest.mark.parametrize("values", ["-1, 0, 1", '"-1", 0', "9223372036854775807", '"18446744073709551615"'])
def test_values_that_could_be_taken_for_others(values: str) -> None:
    with pytest.raises(SpecError, match="`values`"):
        check_text(SPEC.format(values=values, labels="a, b")).sound()


def test_simulated_logs_hold_values(tmp_path: Path) -> None:
    checked = check_text(SPEC.format(values="7, 8", labels="3, 5"))
    simulate(checked, tmp_path, Options(rows=200, days=3))
    parts = [pq.read_table(tmp_path / f"{split}.parquet") for split in ("train", "calibrate", "test")]
    assert {x for part in parts for x in part["key"].to_pylist()} - {None} == {7, 8}
    assert {x for part in parts for x in part["stars"].to_pylist()} - {None} == {3, 5}
    truth = json.loads((tmp_path / "truth.json").read_text())
    assert truth["test"]["home"]["stars"]["rows"] == parts[2]["stars"].drop_null().length()


@settings(max_examples=100, deadline=None)
@given(
    values=st.lists(st.integers(-20, 20).filter(lambda x: x != -1), min_size=1, max_size=6, unique=True),
    found=st.lists(st.none() | st.integers(-25, 25), max_size=12),
)
def test_a_whole_number_is_one_value_however_it_is_held(values: list[int], found: list[int | None]) -> None:
    from towerspec.train.columns import Coding

    coding = Coding("direct", "", len(values), tuple(values))
    wanted = [-1 if x in (None, -1) else values.index(x) if x in values else len(values) for x in found]
    for kind in (pa.int8(), pa.int64(), pa.float32(), pa.float64(), pa.decimal128(6, 2)):
        column = pa.array([None if x is None else Decimal(x) for x in found], pa.decimal128(6, 2)).cast(kind)
        assert ids(column, coding).tolist() == wanted
    texts = pa.array([None if x is None else str(x) for x in found], pa.string())
    assert ids(texts, coding).tolist() == wanted
    assert ids(texts, coding, cells=True).tolist() == wanted
