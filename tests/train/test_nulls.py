"""Words for a missing value: named by `--null`, kept by the run, and warned of where nobody named them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from towerspec.check import Checked, check_text
from towerspec.cli import main
from towerspec.train.data import Columns, open_log
from towerspec.train.rows import Rows
from towerspec.train.survey import survey

SPEC = """model words
request {
    city  : category { rows: 20, ids: fitted }
    tags  : bag { rows: 20, ids: hash, length: 3 }
    land  : category { values: [NA, NO] }
}
candidate {
    price : number
    sizes : number { width: 2 }
}
trunk { z = mlp(concat(request, candidate), hidden: [4]) }
surface home { tower { head click : binary } }
train { epochs: 1 }
"""
WORDS = ("NA", "NULL", "\\N", "-999")
ROWS: dict[str, list[Any]] = {
    "city": ["oslo", "NULL", "\\N", "NA", "bergen", "null"],
    "tags": ["a|NULL|b", "NA", "b", "a", "a", "NANCY"],
    "land": ["NA", "NO", "NO", "NO", "NO", "NO"],
    "price": ["NA", "1", "2.5", "-999", " NULL", "3"],
    "sizes": ["1|NA", "NULL", "3 4", "5;\\N", "1 2", "1 2"],
    "click": ["1", "0", "NA", "1", "0", "1"],
    "day": ["1", "2", "NULL", "3", "4", "NA"],
}
NAN = float("nan")


@pytest.fixture(scope="module")
def checked() -> Checked:
    return check_text(SPEC)


def csv(path: Path, rows: dict[str, list[Any]] = ROWS) -> Path:
    lines = [",".join(rows), *(",".join(map(str, row)) for row in zip(*rows.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return path


def parquet(path: Path) -> Path:
    """What a Parquet file has in other types as it is there."""
    texts = {"city": ROWS["city"], "land": ROWS["land"], "tags": [x.split("|") for x in ROWS["tags"]]}
    numbers = {"price": [None, 1, 2.5, None, None, 3], "sizes": [[1, None], None, [3, 4], [5, None], [1, 2], [1, 2]]}
    pq.write_table(pa.table({**texts, **numbers, "click": [1, 0, None, 1, 0, 1], "day": ROWS["day"]}), path)
    return path


@pytest.mark.parametrize("write", [csv, parquet])
def test_words_that_are_named_are_missing(checked: Checked, tmp_path: Path, write: Any) -> None:
    log = open_log(checked, [write(tmp_path / f"log.{write.__name__}")], Columns(time="day", nulls=WORDS))
    assert log.fit().vocabularies == {"features.city": ["bergen", "null", "oslo"]}, "as they are written, capitals too"
    rows: Rows
    (rows,) = log.with_vocabularies(log.fit().vocabularies).encoded()
    assert rows.features["city"].tolist() == [2, -1, -1, -1, 0, 1]
    tags = rows.features["tags"]
    assert tags[0, 0] == tags[3, 0] == tags[4, 0] != tags[0, 2] == tags[2, 0]
    assert (tags == -1).tolist() == [[False, True, False], [True] * 3, *[[False, True, True]] * 4]
    assert rows.features["land"].tolist() == [-1, 1, 1, 1, 1, 1], "whoever names it means it, in all columns"
    np.testing.assert_array_equal(rows.features["price"], np.array([NAN, 1, 2.5, NAN, NAN, 3], np.float32))
    np.testing.assert_array_equal(rows.features["sizes"], [[1, NAN], [NAN, NAN], [3, 4], [5, NAN], [1, 2], [1, 2]])
    np.testing.assert_array_equal(rows.labels["click"], [1, 0, NAN, 1, 0, 1])
    assert log.untimed == 2
    assert log.where(after="2").rows() == 3


def test_frequent_words_that_are_not_named_are_said(checked: Checked, tmp_path: Path) -> None:
    rows: dict[str, list[Any]] = {name: [ROWS[name][0].replace("NA", "") or 1] * 6000 for name in ROWS}
    rows["land"] = ["NA"] * 6000
    rows["city"] = ["oslo"] * 5989 + ["None"] * 6 + ["NULL"] * 5
    rows["tags"] = ["a|b"] * 5999 + ["nan|nan|nan"]
    path = csv(tmp_path / "log.csv", {k: v for k, v in rows.items() if k != "sizes"} | {"sizes": ["1 2"] * 6000})
    found = [d for d in survey(open_log(checked, [path])).warnings() if "texts" in d.message]
    assert [(d.message, d.help) for d in found] == [
        (
            "0.10% of the texts in the column `city` are `None`",
            "where it stands for a missing value, give `--null None`",
        ),
    ], "not what is rarer, and not a value of the spec's"
    named = survey(open_log(checked, [path], Columns(nulls=("None",))))
    assert not [d for d in named.warnings() if "texts" in d.message]


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return int(end.value.code or 0)


def test_a_run_keeps_its_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was missing in training is missing in an evaluation, whose own words come on top."""
    (tmp_path / "s.tower").write_text(SPEC)
    city, out = ["oslo", "NULL", "NULL", "NA", "bergen", "oslo"], tmp_path / "run"
    log = csv(tmp_path / "log.csv", {**ROWS, "city": city})
    words = [x for word in ("NULL", "\\N", "-999") for x in ("--null", word)]
    train = ["train", tmp_path / "s.tower", "--data", log, "-o", out, *words]
    assert run(*train[:6], "--null", "NA", *words) == 0
    assert json.loads((out / "vocabularies.json").read_text()) == {"features.city": ["oslo", "bergen"]}
    assert json.loads((out / "run.json").read_text())["data"]["null"] == ["NA", "NULL", "\\N", "-999"]
    other = csv(tmp_path / "other.csv", {**ROWS, "price": ["none"] * 6})
    capsys.readouterr()
    assert run("evaluate", out, "--data", other, "--bootstrap", 0) == 1
    assert "T812" in capsys.readouterr().err
    assert run("evaluate", out, "--data", other, "--null", "none", "--bootstrap", 0) == 0
    assert json.loads((out / "evaluation.json").read_text())["data"]["null"] == ["NA", "NULL", "\\N", "-999", "none"]
    (out / "run.json").unlink()
    capsys.readouterr()
    assert run(*train, "--null", "NA", "--null", "none", "--resume") == 1
    assert "T822" in capsys.readouterr().err
