"""What an id in a log is: a value, a place, a text or a number, whichever file it comes from."""

from __future__ import annotations

import json
import re
from collections import Counter
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
from towerspec.cli import main
from towerspec.diagnostics import SpecError
from towerspec.ids import whole
from towerspec.runtime.inputs import Boundary
from towerspec.runtime.vocabulary import Vocabulary as Served
from towerspec.train import fitting
from towerspec.train.columns import Coding
from towerspec.train.data import Log, open_log
from towerspec.train.encode import ids
from towerspec.train.fitting import Counts
from towerspec.train.kinds import kinds, mixed, strange
from towerspec.train.lookup import Vocabulary
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
    coding = Coding("direct", "", len(values), tuple(values))
    wanted = [-1 if x in (None, -1) else values.index(x) if x in values else len(values) for x in found]
    for kind in (pa.int8(), pa.int64(), pa.float32(), pa.float64(), pa.decimal128(6, 2)):
        column = pa.array([None if x is None else Decimal(x) for x in found], pa.decimal128(6, 2)).cast(kind)
        assert ids(column, coding).tolist() == wanted
    texts = pa.array([None if x is None else str(x) for x in found], pa.string())
    assert ids(texts, coding).tolist() == wanted
    assert ids(texts, coding, cells=True).tolist() == wanted


# ---- texts and numbers -------------------------------------------------------------------------

MIXED = """model m
request { user : category { rows: 50, dim: 4, ids: fitted } }
candidate { zip : category { rows: 1000, dim: 4, ids: hash }  price : number }
trunk { z = mlp(concat(request, candidate), hidden: [8]) }
surface home { tower { head click : binary  calibrate click with platt } }
train { epochs: 8  batch: 64  learning_rate: 0.05 }
"""
USERS = np.random.default_rng(0).integers(100, 120, 300)
ZIPS = np.random.default_rng(1).integers(1, 30, 300)


def command(*words: object) -> object:
    """A command's exit code."""
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return end.value.code


def write(path: Path, user: Any, zip_: Any) -> Path:
    """300 rows: of users below 105 all click."""
    columns = {"user": user, "zip": zip_, "price": [0.5] * 300, "click": (USERS < 105).astype(int)}
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
    else:
        rows = (",".join(map(str, row)) for row in zip(*columns.values(), strict=True))
        path.write_text("\n".join([",".join(columns), *rows]) + "\n")
    return path


def texts(numbers: Any, width: int = 1) -> list[str]:
    return [f"{x:0{width}d}" for x in numbers]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`texts` and `numbers`: runs trained on ids of either kind, by command."""
    folder = tmp_path_factory.mktemp("kinds")
    (folder / "m.tower").write_text(MIXED)
    write(folder / "texts.parquet", texts(USERS), texts(ZIPS, 5))
    write(folder / "numbers.parquet", USERS, ZIPS)
    for kind in ("texts", "numbers"):
        assert command("train", folder / "m.tower", "--data", folder / f"{kind}.parquet", "-o", folder / kind) == 0
    return folder


def evaluated(runs: Path, kind: str, log: Path, capsys: pytest.CaptureFixture[str]) -> tuple[float, list[str]]:
    """The AUC of a run on a log, and the codes of what it warns of."""
    capsys.readouterr()
    assert command("evaluate", runs / kind, "--data", log, "--bootstrap", 0) == 0
    document = json.loads((runs / kind / "evaluation.json").read_text())
    codes = [warning["code"] for warning in document["warnings"] if warning["code"] != "T833"]
    assert re.findall(r"warning\[(T8[14].)\]", capsys.readouterr().err) == codes
    return document["surfaces"]["home"]["click"]["after"]["auc"]["value"], codes


def test_a_run_says_what_its_ids_were(runs: Path) -> None:
    for kind, said in (("texts", "texts"), ("numbers", "whole numbers")):
        found = json.loads((runs / kind / "run.json").read_text())["data"]["ids"]
        assert found == {"features.user": [said], "features.zip": [said]}
    assert all(isinstance(x, str) for x in json.loads((runs / "texts/vocabularies.json").read_text())["features.user"])
    assert all(
        isinstance(x, int) for x in json.loads((runs / "numbers/vocabularies.json").read_text())["features.user"]
    )


def test_the_same_rows_in_other_files(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    csv = write(tmp_path / "log.csv", USERS, texts(ZIPS, 5))
    assert evaluated(runs, "texts", runs / "texts.parquet", capsys) == (1.0, [])
    assert evaluated(runs, "texts", csv, capsys) == (1.0, [])
    assert evaluated(runs, "texts", runs / "numbers.parquet", capsys) == (1.0, ["T840"])  # for the hashed ones
    assert evaluated(runs, "numbers", runs / "numbers.parquet", capsys) == (1.0, [])
    assert evaluated(runs, "numbers", write(tmp_path / "n.csv", USERS, ZIPS), capsys) == (1.0, [])
    assert evaluated(runs, "numbers", runs / "texts.parquet", capsys) == (1.0, ["T840"])
    assert evaluated(runs, "numbers", csv, capsys) == (1.0, ["T840"])


def test_mostly_unknown_ids_are_said(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = write(tmp_path / "log.parquet", texts(USERS + 1000), texts(ZIPS, 5))
    assert evaluated(runs, "texts", log, capsys)[1] == ["T818"]
    document = json.loads((runs / "texts" / "evaluation.json").read_text())
    assert document["ids"] == {"features.user": {"ids": 300, "unknown": 300, "table": "features.user"}}
    assert "Most ids of the feature user are unknown: 300 of 300." in (runs / "texts" / "report.html").read_text()


def test_calibrators_are_not_fitted_to_ids_of_another_kind(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = write(tmp_path / "log.parquet", USERS, ZIPS)
    assert command("calibrate", runs / "texts", "--data", log) == 1
    assert "error[T840]: the ids of `features.zip` were texts in training, and `zip` of" in capsys.readouterr().err


def test_going_on_with_ids_of_another_kind(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--data", runs / "numbers.parquet", "-o", tmp_path / "run", "--set", "epochs=1"]
    assert command("train", runs / "m.tower", *words, "--init-from", runs / "texts") == 0
    assert "warning[T840]: the ids of `features.zip` were texts in training" in capsys.readouterr().err


def test_padded_ids_are_no_numbers(tmp_path: Path) -> None:
    """Of a table with `007` a number finds nothing; a CSV file's cells are texts then, even where none is padded."""
    checked = check_text(MIXED)
    log = open_log(checked, [write(tmp_path / "log.parquet", texts(ZIPS, 3), texts(ZIPS, 3))])
    known = log.fit().vocabularies
    (wanted,) = log.with_vocabularies(known).encoded()
    for user in (texts(ZIPS, 3), ["100"] * 299 + ["007"]):
        csv = open_log(checked, [write(tmp_path / "log.csv", user, texts(ZIPS, 3))], vocabularies=known)
        (rows,) = csv.encoded()
        found = rows.features["user"].tolist()
        if user[0] == "100":
            assert found[-1] == known["features.user"].index("007")
        else:
            assert found == wanted.features["user"].tolist()
    numbers = open_log(checked, [write(tmp_path / "n.parquet", ZIPS, ZIPS)], vocabularies=known)
    assert [problem.code for problem in strange(numbers, {})] == ["T840"]


def test_a_cell_that_would_lose_its_noughts(tmp_path: Path) -> None:
    """After a megabyte of numbers without any."""
    rows = ["100,5,0.5,1"] * (2**20 // 10)
    (tmp_path / "log.csv").write_text("\n".join(["user,zip,price,click", *rows, "007,5,0.5,0"]) + "\n")
    with pytest.raises(SpecError, match=r"T813.*`user` holds '007'"):
        open_log(check_text(MIXED), [tmp_path / "log.csv"]).fit()


def test_a_log_of_both_kinds(tmp_path: Path) -> None:
    """`"100"` and 100 are one id of a vocabulary, and the log is said to mix them."""
    files = [
        write(tmp_path / "a.parquet", texts(USERS), texts(ZIPS)),
        write(tmp_path / "b.parquet", USERS, texts(ZIPS)),
    ]
    log = open_log(check_text(MIXED), files)
    (problem,) = mixed(log)
    assert (problem.code, problem.severity) == ("T840", "warning")
    assert "`features.user` are texts in `user` of" in problem.message
    alone = open_log(check_text(MIXED), files[1:])
    assert log.fit().vocabularies == alone.fit().vocabularies
    rows = [rows.features["user"].tolist() for rows in log.with_vocabularies(log.fit().vocabularies).encoded()]
    assert rows[0] == rows[1]
    assert not list(mixed(alone))


def test_an_empty_column_is_of_no_kind(tmp_path: Path) -> None:
    files = [write(tmp_path / "a.parquet", texts(USERS), texts(ZIPS, 3)), write(tmp_path / "b.csv", USERS, [""] * 300)]
    assert kinds(open_log(check_text(MIXED), files))["features.zip"].keys() == {"texts"}


RAW = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-3, 12),
    st.sampled_from(["a", "", "7", "007", "-1", "-5", str(2**63), str(2**64 - 1), str(2**64), "1.0"]),
)


@settings(max_examples=300, deadline=None)
@given(vocabulary=st.lists(RAW, max_size=8, unique_by=str), asked=st.lists(RAW, max_size=8))
def test_training_and_serving_look_up_alike(vocabulary: list[Any], asked: list[Any]) -> None:
    entry = {"name": "x", "dtype": "int64", "shape": ["N"], "level": "candidate", "kind": "category", "range": [0, 7]}
    tables = {"t": Served(vocabulary, 8)}
    boundary = Boundary("home", [{**entry, "ids": "fitted", "vocabulary": "t"}], tables)
    (served,) = boundary.prepare({"x": asked})
    coding = Coding("fitted", "t", 8)
    found = [ids(pa.array([id_]), coding, Vocabulary(vocabulary)).tolist() for id_ in asked]
    assert [row for (row,) in found] == served.tolist()


# ---- fitting -----------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(
    batches=st.lists(
        st.lists(st.none() | st.integers(-3, 30), max_size=20)
        | st.lists(st.none() | st.integers(-3, 30).map(str) | st.sampled_from(["a", "007"]), max_size=20),
        max_size=20,
    ),
    rows=st.integers(1, 40),
)
def test_counting_in_batches(batches: list[list[Any]], rows: int) -> None:
    """Against `collections.Counter`, with merges at every size."""
    counts, known = Counts(rows), Counter[Any]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "BATCH", 3)
        for batch in batches:
            text = any(isinstance(x, str) for x in batch)
            counts.add(pa.array(batch, pa.string() if text else pa.int64()))
            known.update(x for x in batch if x is not None and str(x) != "-1")
        has_both = len({isinstance(x, str) for x in known}) == 2
        if has_both:
            merged = Counter[Any]()
            for x, n in known.items():
                merged[int(x) if isinstance(x, str) and str(whole(x)) == x else x] += n
            known = merged
        wanted = sorted(known, key=lambda x: (-known[x], isinstance(x, str), x))
        assert counts.distinct == len(known)
        assert counts.result() == wanted[:rows]


def test_counting_is_linear_in_the_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """What merges read in all: with 256 batches of new ids each, a few times what there is, and not 128 times."""
    read = []
    concat = pa.concat_tables
    monkeypatch.setattr(fitting, "BATCH", 100)
    monkeypatch.setattr(pa, "concat_tables", lambda tables: read.append(sum(map(len, tables))) or concat(tables))
    counts = Counts(10)
    for batch in range(256):
        counts.add(pa.array(np.arange(100 * batch, 100 * (batch + 1))))
    assert counts.distinct == 25_600
    assert sum(read) < 4 * 25_600
