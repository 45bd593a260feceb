"""CSV files as people have them: what their cells stand for, and what is said of those that stand for nothing."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from towerspec.check import Checked, check_text
from towerspec.train import csvs
from towerspec.train.data import Log, open_log

from .test_data import ROWS, SPEC, fitted, mistakes, whole


@pytest.fixture(scope="module")
def checked() -> Checked:
    return check_text(SPEC)


def write(path: Path, changes: dict[str, list[Any]], times: int = 1) -> Path:
    """The rows of `ROWS` with some columns changed, each cell quoted; lists as JSON."""

    def cell(x: Any) -> str:
        text = "" if x is None else json.dumps(x) if isinstance(x, list) else str(x)
        return '"' + text.replace('"', '""') + '"'

    rows = {**ROWS, **changes}
    lines = [",".join(map(cell, row)) for row in zip(*rows.values(), strict=True)]
    path.write_text("\n".join([",".join(rows), *(lines * times)]) + "\n", encoding="utf-8")
    return path


def read(checked: Checked, path: Path) -> dict[str, Any]:
    batch = whole(fitted(checked, path))
    return {name: x.tolist() for name, x in {**batch.features, **batch.labels}.items()}


def test_lists_in_brackets_are_those_of_other_files(checked: Checked, tmp_path: Path) -> None:
    bars = read(checked, write(tmp_path / "a.csv", {"history": ["a|b", None, None, "b|c|d|a", "zz"]}))
    for name, lists in {
        "json": ROWS["history"],
        "python": ["['a', 'b']", "[]", None, "['b','c' , 'd', 'a']", "['zz']"],
    }.items():
        np.testing.assert_equal(read(checked, write(tmp_path / f"{name}.csv", {"history": lists})), bars)
    path = write(tmp_path / "wrong.csv", {"history": ["a|b", '["a", ["b"]]', None, None, "zz"]})
    assert list(mistakes(checked, path).values()) == [
        f'`{path}`, row 2: the column `history` holds \'["a", ["b"]]\'',
    ]


def test_ids_of_64_bits_without_a_sign(checked: Checked, tmp_path: Path) -> None:
    found = read(checked, write(tmp_path / "a.csv", {"device": [2**64 - 2, 2**63, 7, 2**63 - 1, None]}))
    assert found["device"] == [-2, -(2**63), 7, 2**63 - 1, -1]
    path = write(tmp_path / "b.csv", {"device": [2**64, 1, 2, 3, 4]})
    assert list(mistakes(checked, path).values()) == [f"`{path}`, row 1: the column `device` holds {2**64}"]


def test_truth_values_are_labels(checked: Checked, tmp_path: Path) -> None:
    found = read(checked, write(tmp_path / "a.csv", {"click": [True, False, None, "true", "FALSE"]}))
    np.testing.assert_equal(found["click"], [1, 0, np.nan, 1, 0])


def test_whole_numbers_may_get_a_point_later_on(
    checked: Checked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the beginning of a file tells what its columns hold."""
    monkeypatch.setattr(csvs, "SAMPLE", 600)
    path = write(tmp_path / "a.csv", {"age": [1, 2, 3, 4, 5]}, times=20)
    with path.open("a") as file:
        file.write(path.read_text().splitlines()[1].replace('"1"', '"1.5"', 1) + "\n")
    assert read(checked, path)["age"][-1] == 1.5


def test_a_column_whose_first_cells_are_empty(
    checked: Checked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a feature of a surface that comes later in the file; an end of line within quotes is no row's."""
    later = write(tmp_path / "b.csv", {"device": ["tv"] * 5})
    path = write(tmp_path / "a.csv", {"device": [None] * 5, "country": ["\n\n\n\n"] * 5}, times=20)
    path.write_text(path.read_text() + later.read_text().partition("\n")[2])
    for size in range(550, 600, 5):
        monkeypatch.setattr(csvs, "SAMPLE", size)
        assert read(checked, path)["device"] == [-1] * 100 + read(checked, later)["device"]


def test_texts_after_whole_numbers_are_told_from_them(
    checked: Checked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csvs, "SAMPLE", 600)
    path = write(tmp_path / "a.csv", {"device": [1, 2, 3, 4, 5]}, times=20)
    with path.open("a") as file:
        file.write(path.read_text().splitlines()[1].replace('"1"', '"tv"', 1) + "\n")
    assert list(mistakes(checked, path).values()) == [f"`{path}`, row 101: the column `device` holds 'tv'"]


@pytest.mark.parametrize("end", ["\n", ""])
def test_a_header_alone_has_no_rows(checked: Checked, tmp_path: Path, end: str) -> None:
    (tmp_path / "log.csv").write_text(",".join(ROWS) + end)
    log: Log = open_log(checked, [tmp_path / "log.csv"])
    assert log.counts == {"home": 0, "search": 0}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is empty"),
        (";".join(ROWS) + "\n", "its cells seem to be separated by `;`"),
        ("surface,request\nhome,1\nhome,1,2\n", "row 2 doesn't have the header's 2 cells, but 3"),
    ],
)
def test_files_that_are_no_tables(checked: Checked, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "log.csv").write_text(text)
    assert list(mistakes(checked, tmp_path / "log.csv").values()) == [
        f"the log `{tmp_path / 'log.csv'}` can't be read: {said}"
    ]


def test_what_is_held_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """However slowly the rows are used: the reader waits, and doesn't gather them."""
    with (tmp_path / "log.csv").open("w") as file:
        file.write("name,words\n" + "somebody,some words in a cell\n" * 4_000_000)
    before, most, rows = pa.total_allocated_bytes(), 0, 0
    for batch in csvs.open_csv(tmp_path / "log.csv").batches(["name", "words"]):
        rows += len(batch)
        time.sleep(0.003)
        most = max(most, pa.total_allocated_bytes() - before)
    assert rows == 4_000_000
    assert most < 60 << 20, "of 114 MiB"
