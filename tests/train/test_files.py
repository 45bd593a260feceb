"""Files that differ: which columns each has to hold, and what may stand in it besides."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from towerspec.check import Checked, check_text
from towerspec.cli import main
from towerspec.diagnostics import Diagnostic, SpecError
from towerspec.train.data import Columns, Log, open_log
from towerspec.train.rows import Encoder, Rows
from towerspec.train.survey import survey

SPEC = """model two
candidate { p : number }
trunk { z = mlp(candidate, hidden: [4]) }
surface home { tower { head click : binary  head stay : regression } }
surface search {
    request { q : category { rows: 9 }  w : bag { rows: 9, length: 2 } }
    tower {
        layers: [4]
        fuse q after 0 with concat
        fuse w after 0 with concat
        head click : binary
        head buy : binary
        head both : product(click, buy)
    }
}
"""
HOME: dict[str, list[Any]] = {
    "surface": ["home"] * 3,
    "p": [0.1, 0.2, 0.3],
    "click": [0, 1, 1],
    "stay": [1.5, 2.5, 3.5],
}
SEARCH: dict[str, list[Any]] = {
    "surface": ["search"] * 2, "p": [0.4, 0.5], "click": [1, 0], "buy": [1, 0], "q": [1, 2], "w": ["1|2", "3"],
}  # fmt: skip
LISTS = {"w": [[1, 2], [3]]}


@pytest.fixture(scope="module")
def checked() -> Checked:
    return check_text(SPEC)


def write(path: Path, rows: dict[str, Any], more: dict[str, pa.Array] | None = None) -> Path:
    """Rows as a file of the kind that its name says; `more` columns may have a name that is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(rows if path.suffix == ".csv" else {**rows, **{k: v for k, v in LISTS.items() if k in rows}})
    for name, column in (more or {}).items():
        table = table.append_column(name, column)
    (pyarrow.csv.write_csv if path.suffix == ".csv" else pq.write_table)(table, path)
    return path


def rows_of(log: Log) -> list[Rows]:
    return list(log.with_vocabularies(log.fit().vocabularies).encoded())


def refused(checked: Checked, *paths: Path) -> list[Diagnostic]:
    with pytest.raises(SpecError) as found:
        open_log(checked, paths)
    return list(found.value.diagnostics)


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_file_needs_the_columns_of_its_own_rows(checked: Checked, tmp_path: Path, kind: str) -> None:
    write(tmp_path / f"a.{kind}", HOME)
    write(tmp_path / f"b.{kind}", {**SEARCH, "both": [1, 0]})
    log = open_log(checked, [tmp_path])
    home, search = rows_of(log)
    assert home.features["q"].tolist() == [-1] * 3
    assert home.features["w"].tolist() == [[-1, -1]] * 3
    assert search.features["w"].tolist() == [[1, 2], [3, -1]]
    for name, labels in {"buy": [1, 0], "both": [1, 0], "click": [1, 0], "stay": [np.nan] * 2}.items():
        np.testing.assert_array_equal(search.labels[name], labels)
    assert np.isnan(home.labels["buy"]).all()
    (batch,) = log.batches(9)
    assert batch.features["q"].tolist() == [-1, -1, -1, 1, 2]
    assert survey(log).features["surfaces.search.q"].rows == 2


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_file_of_one_surface_alone(checked: Checked, tmp_path: Path, kind: str) -> None:
    """No file has the other surface's columns."""
    log = open_log(checked, [write(tmp_path / f"a.{kind}", HOME)])
    assert log.counts == {"home": 3, "search": 0}
    assert rows_of(log)[0].features["q"].tolist() == [-1] * 3


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_what_its_rows_read_is_missed_by_name(checked: Checked, tmp_path: Path, kind: str) -> None:
    mixed = {k: [*HOME[k], *SEARCH[k]] for k in ("surface", "p", "click")} | {"stay": [1.0] * 5}
    path = write(tmp_path / f"a.{kind}", mixed)
    write(tmp_path / f"b.{kind}", SEARCH)
    found = refused(checked, tmp_path)
    assert [d.message for d in found] == [
        f"`{path}` has no column `q`, which the feature `q` reads on the surface `search`",
        f"`{path}` has no column `w`, which the feature `w` reads on the surface `search`",
        f"`{path}` has no column `buy`, which holds the labels of `buy` on the surface `search`",
    ]
    assert {d.code for d in found} == {"T811"}


@pytest.mark.parametrize("folder", ["surface=home", "surface=search"])
def test_folders_say_whose_rows_a_file_holds(checked: Checked, tmp_path: Path, folder: str) -> None:
    rows = {k: v for k, v in HOME.items() if k != "surface"}
    write(tmp_path / folder / "a.parquet", rows)
    if folder == "surface=home":
        assert open_log(checked, [tmp_path]).counts == {"home": 3, "search": 0}
    else:
        assert {d.code for d in refused(checked, tmp_path)} == {"T811"}


@pytest.mark.parametrize("kind", ["parquet", "csv"])
@pytest.mark.parametrize(
    "odd",
    [["n/a", "?", "x"], [2.5, 3.5, 4.5], [True, False, True], [None, None, None]],
    ids=["texts", "numbers", "truths", "nothing"],
)
def test_a_column_that_no_row_reads_may_be_anything(checked: Checked, tmp_path: Path, kind: str, odd: Any) -> None:
    path = write(tmp_path / f"a.{kind}", HOME, {"q": pa.array(odd), "w": pa.array(["?"] * 3)})
    if odd[0] == "n/a":  # what is known before the rows are read
        assert rows_of(open_log(checked, [path]))[0].features["q"].tolist() == [-1] * 3
    assert open_log(checked, [path]).counts == {"home": 3, "search": 0}
    wrong = write(tmp_path / f"b.{kind}", {**SEARCH, "q": ["n/a", "?"]})
    (problem,) = refused(checked, path, wrong)
    wanted = f"the column `q` of `{wrong}` has the wrong type for the category `q` on the surface `search`"
    assert (problem.code, problem.message) == ("T812", wanted)


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_column_that_stands_twice(checked: Checked, tmp_path: Path, kind: str) -> None:
    extra = pa.array([1, 2, 3])
    log = open_log(checked, [write(tmp_path / f"a.{kind}", {"u": [1, 2, 3], **HOME}, {"u": extra})])
    np.testing.assert_array_equal(rows_of(log)[0].features["p"], np.array([0.1, 0.2, 0.3], np.float32))
    path = write(tmp_path / f"b.{kind}", HOME, {"p": extra})
    (problem,) = refused(checked, path)
    assert (problem.code, problem.message) == (
        "T811",
        f"`{path}` has more than one column `p`, which the feature `p` reads",
    )
    path = write(tmp_path / f"c.{kind}", HOME, {"surface": pa.array(["home"] * 3)})
    assert "more than one column `surface`" in refused(checked, path)[0].message
    path = write(tmp_path / f"d.{kind}", {**HOME, "q": [1, 2, 3]}, {"q": extra})
    assert open_log(checked, [path]).rows() in (0, 3), "no row of home's reads it"


def test_unread_columns_of_any_type_and_bytes(checked: Checked, tmp_path: Path) -> None:
    structs = pa.array([{"a": 1, "p": 2}] * 3)
    write(tmp_path / "a.parquet", HOME, {"nested": structs, "p.a": pa.array([1, 2, 3]), "w": pa.array([b"\xff"] * 3)})
    assert rows_of(open_log(checked, [tmp_path]))[0].features["p"].tolist() == np.float32([0.1, 0.2, 0.3]).tolist()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "b.csv").write_bytes(b"surface,p,click,stay,note\nhome,0.5,1,2,caf\xe9\nhome,0.5,1,2,\xff\xfe\n")
    assert open_log(checked, [tmp_path / "b"]).counts == {"home": 2, "search": 0}


def test_requests_that_some_files_have(checked: Checked, tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {**HOME, "request": [1, 1, 2]})
    write(tmp_path / "b.parquet", HOME)
    (batch,) = open_log(checked, [tmp_path]).batches(9)
    assert batch.request is not None
    assert len(set(batch.request.tolist())) == 2 + 3, "a row without one is a request of its own"


# ---- rows without a time -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "times",
    [
        pa.array([1, None, 3]),
        pa.array([1.0, np.nan, 3.0]),
        pa.array(["1", None, "3"]),
        pa.array([1, None, 3], pa.timestamp("s")),
        pa.array([1, None, 3], pa.decimal128(9, 2)),
    ],
    ids=lambda x: str(x.type),
)
def test_rows_without_a_time_are_counted(checked: Checked, tmp_path: Path, times: pa.Array) -> None:
    write(tmp_path / "a.parquet", {**HOME, "day": times})
    log = open_log(checked, [tmp_path], Columns(time="day"))
    assert log.untimed == 1
    assert [d.message for d in survey(log).warnings()][-1] == "1 of 3 rows have no time in the column `day`"


def test_training_says_how_many_rows_have_no_time(
    checked: Checked, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s.tower").write_text(SPEC)
    log = write(tmp_path / "a.csv", {**HOME, "day": [1, None, 3]})
    said = "warning[T818]: 1 of 3 rows have no time in the column `day`"
    spec, run = tmp_path / "s.tower", tmp_path / "run"
    for words in (
        ["data", "check", spec, log],
        ["train", spec, "--data", log, "-o", run, "--valid-from", 2],
        ["evaluate", run, "--data", log, "--from", 2, "--bootstrap", 0],
    ):
        with pytest.raises(SystemExit) as end:
            main([*map(str, words), "--time-column", "day"])
        assert not end.value.code
        assert said in capsys.readouterr().err, words


# ---- what is read, and how often ---------------------------------------------------------------


@pytest.mark.parametrize("value", [1e39, -1e39, 1e300, 2e19, float("inf")])
@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_label_whose_square_float32_cannot_hold(checked: Checked, tmp_path: Path, value: float, kind: str) -> None:
    path = write(tmp_path / f"a.{kind}", {**HOME, "stay": [1.0, value, 1e18]})
    with pytest.raises(SpecError) as found:
        rows_of(open_log(checked, [path]))
    (problem,) = found.value.diagnostics
    assert problem.code == "T815"
    assert problem.message == f"`{path}`, row 2: the label `stay` holds {value!r}"


@pytest.mark.parametrize("window", [False, True])
def test_a_log_above_the_cache_is_encoded_once_an_epoch(
    checked: Checked, tmp_path: Path, window: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, seen, encode = 5000, list[int](), Encoder.encode
    monkeypatch.setattr(Encoder, "encode", lambda self, raw, *a: seen.append(len(raw)) or encode(self, raw, *a))
    rows = {name: [values[0]] * count for name, values in HOME.items()} | {"day": list(range(count))}
    for kind in ("parquet", "csv"):
        path = write(tmp_path / f"{window}.{kind}", rows)
        if kind == "parquet":
            pq.write_table(pa.table(rows), path, row_group_size=500)
        log = open_log(checked, [path], Columns(time="day"))
        log = log.where(before=count - 100) if window else log
        left = log.rows()
        log = replace(log, cache=left * 20).with_vocabularies(log.fit().vocabularies)
        seen.clear()
        assert [sum(map(len, log.batches(64, seed=i))) for i in range(3)] == [left] * 3
        assert sum(seen) <= 3 * left + max(seen), "once an epoch, and the first part once more"


def test_read_only_memory_makes_no_warning(checked: Checked, tmp_path: Path) -> None:
    """Arrow's memory is read-only, and PyTorch warns of that."""
    write(tmp_path / "a.parquet", {**SEARCH, "stay": [None, None]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        log = open_log(checked, [tmp_path])
        for cache in (0, 1 << 30):
            assert len(list(replace(log, cache=cache).batches(1, seed=0))) == 2
