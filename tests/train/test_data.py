"""Logs as training reads them: Parquet and CSV, ids and lists, nulls, statistics, labels, windows, and mistakes."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from towerspec.check import Checked, check_text
from towerspec.cli import main
from towerspec.diagnostics import SpecError
from towerspec.runtime.vocabulary import text_id
from towerspec.train.batch import Batch
from towerspec.train.data import Columns, Log, open_log

SPEC = """model logged

table items { rows: 4, dim: 4, ids: fitted }

request {
    age     : number   { normalize: standard, transform: log1p }
    country : category { values: [nz, at, fj] }
    device  : category { rows: 50, dim: 4, ids: hash }
    history : sequence { of: items, length: 3 }
    words   : bag { rows: 9, dim: 4, length: 2 }
}

candidate {
    item    : category { table: items }
    price   : number { width: 2 }
    rank    : number { normalize: minmax, buckets: 4, on: [home] }
}

trunk {
    recent = pooling(history)
    mixed  = mlp(concat(request, candidate, recent), hidden: [4])
}

surface home {
    tower {
        branch by country {
            nz { head click : binary }
            else {
                head click : binary
                head mood  : multiclass { values: [sad, glad] }
            }
        }
    }
}

surface search {
    tower {
        head click : binary
        head views : count
    }
}
"""
ROWS: dict[str, list[Any]] = {
    "surface": ["home", "search", "home", "search", "home"],
    "request": ["r1", "r2", "r1", "r2", "r3"],
    "age": [30.0, None, 31.5, 7.0, -2.0],
    "country": ["nz", "at", None, "ch", "fj"],
    "device": ["phone", None, "tv", "phone", "Ω"],
    "history": [["a", "b"], [], None, ["b", "c", "d", "a"], ["zz"]],
    "words": [[1, 2, 3], [8], None, [], [9, 0]],
    "item": ["a", "b", "a", "c", None],
    "price": [[1.0, 2.0], [3.0, 4.0], None, [0.5, -1.0], [0.0, 0.0]],
    "rank": [1.0, 99.0, 2.0, None, 4.0],
    "click": [1, 0, None, 1, 0],
    "mood": ["glad", "sad", "sad", None, "glad"],
    "views": [5, 2, 1, None, 4],
}


@pytest.fixture(scope="module")
def checked() -> Checked:
    return check_text(SPEC)


def parquet(path: Path, rows: Mapping[str, list[Any]] = ROWS, **options: Any) -> Path:
    pq.write_table(pa.table(dict(rows)), path, **options)
    return path


def csv(path: Path, rows: Mapping[str, list[Any]] = ROWS) -> Path:
    """Lists with bars between their items; null and the empty list are empty cells."""

    def cell(x: Any) -> str:
        return "" if x is None else "|".join(map(str, x)) if isinstance(x, list) else str(x)

    lines = [",".join(rows), *(",".join(map(cell, row)) for row in zip(*rows.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def fitted(checked: Checked, *paths: Path, **columns: Any) -> Log:
    log = open_log(checked, paths, Columns(**columns))
    return log.with_vocabularies(log.fit().vocabularies)


def whole(log: Log) -> Batch:
    (batch,) = log.batches(10**6)
    return batch


# ---- what a row becomes ------------------------------------------------------------------------


@pytest.mark.parametrize("write", [parquet, csv], ids=["parquet", "csv"])
def test_each_value_becomes_what_the_spec_says(checked: Checked, tmp_path: Path, write: Any) -> None:
    name = f"log.{write.__name__}"
    log = fitted(checked, write(tmp_path / name))
    # How often: a four times, b three, c two, d and zz once; of equally frequent ones the first in their own order.
    assert log.fit().vocabularies == {"tables.items": ["a", "b", "c", "d"]}
    batch = whole(log)
    found = {name: x.tolist() for name, x in batch.features.items()}
    assert batch.surface.tolist() == [0, 1, 0, 1, 0]
    assert found["country"] == [0, 1, -1, 3, 2]
    assert found["device"] == [-1 if d is None else text_id(d) for d in ROWS["device"]]
    assert found["history"] == [[0, 1, -1], [-1, -1, -1], [-1, -1, -1], [2, 3, 0], [4, -1, -1]]
    assert found["words"] == [[2, 3], [8, -1], [-1, -1], [-1, -1], [9, 0]], "the newest, of a list that is too long"
    assert found["item"] == [0, 1, 0, 2, -1]
    nan = float("nan")
    np.testing.assert_equal(found["age"], [30.0, nan, 31.5, 7.0, -2.0])
    np.testing.assert_equal(found["price"], [[1, 2], [3, 4], [nan, nan], [0.5, -1], [0, 0]])
    assert batch.request is not None
    assert [batch.request.tolist().index(r) for r in batch.request.tolist()] == [0, 1, 0, 1, 4]


def test_labels_that_a_surface_or_an_arm_lacks_are_masked(checked: Checked, tmp_path: Path) -> None:
    labels = whole(fitted(checked, parquet(tmp_path / "log.parquet"))).labels
    nan = float("nan")
    np.testing.assert_equal(labels["click"].tolist(), [1, 0, nan, 1, 0])
    np.testing.assert_equal(labels["mood"].tolist(), [nan, nan, 0, nan, 1], "home's, but for rows of `nz`")
    np.testing.assert_equal(labels["views"].tolist(), [nan, 2, nan, nan, nan])


def test_ids_of_64_bits(tmp_path: Path) -> None:
    text = SPEC.replace("country : category { values: [nz, at, fj] }", "country : category { rows: 3, dim: 4 }")
    checked = check_text(text.replace("nz {", "0 {"))
    large = [2**64 - 1, 2**63, 2**63 - 1, 7, 2**64 - 2]
    rows = {**ROWS, "country": [0, 1, 2, 5, None], "device": pa.array(large, pa.uint64())}
    rows |= {"item": pa.array([2**63 + 1, 2**63 + 1, 3, 3, 3], pa.uint64()), "history": [[2**62]] * 5}
    log = fitted(checked, parquet(tmp_path / "log.parquet", rows))
    batch = whole(log)
    assert batch.features["device"].tolist() == [-1, -(2**63), 2**63 - 1, 7, -2], "the same 64 bits"
    assert batch.features["country"].tolist() == [0, 1, 2, 5, -1]
    assert log.fit().vocabularies["tables.items"] == [2**62, 3, -(2**63) + 1]
    assert batch.features["item"].tolist() == [2, 2, 1, 1, 1]


def test_statistics_are_those_of_the_rows_that_have_the_feature(checked: Checked, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    count = 5000
    surface = rng.integers(0, 2, count)
    age = np.where(rng.random(count) < 0.1, np.nan, 1e4 + rng.normal(0, 3, count))
    rank = rng.gamma(2.0, 5.0, count)
    rows = {name: [values[0]] * count for name, values in ROWS.items()}
    rows |= {"surface": np.array(["home", "search"])[surface].tolist(), "rank": rank.tolist()}
    rows |= {"age": [None if a != a else float(a) for a in age]}
    # Several files and row groups, so that parts are merged.
    parts = [{k: v[i::3] for k, v in rows.items()} for i in range(3)]
    files = [parquet(tmp_path / f"{i}.parquet", part, row_group_size=400) for i, part in enumerate(parts)]
    found = {k: x.numpy() for k, x in open_log(checked, files).fit().statistics.items()}
    logs = np.log1p(age.astype(np.float32).astype(np.float64))
    np.testing.assert_allclose(found["features.age.mean"], np.nanmean(logs), rtol=1e-12)
    np.testing.assert_allclose(found["features.age.std"], np.nanstd(logs), rtol=1e-9)
    mine = rank[surface == 0].astype(np.float32).astype(np.float64)
    low, high = (found[f"features.rank.{end}"][0] for end in ("low", "high"))
    np.testing.assert_allclose([low, high], [mine.min(), mine.max()])
    edges = (np.quantile(mine, [0.25, 0.5, 0.75]) - low) / (high - low)
    np.testing.assert_allclose(found["features.rank.edges"], edges)


def test_a_surface_column_by_mapping(checked: Checked, tmp_path: Path) -> None:
    rows = {"tab": [0, 1, 0, 1, 0], **{k: v for k, v in ROWS.items() if k != "surface"}}
    log = open_log(checked, [parquet(tmp_path / "log.parquet", rows)], Columns("tab", {"0": "search", "1": "home"}))
    assert log.counts == {"home": 2, "search": 3}


# ---- order -------------------------------------------------------------------------------------


def many(folder: Path, count: int = 1000, files: int = 3) -> list[Path]:
    """Rows whose age counts them."""
    rows = {name: [values[0]] * count for name, values in ROWS.items()}
    rows |= {"age": list(range(count)), "surface": ["home", "search"] * (count // 2)}
    size = -(-count // files)
    parts = [{k: v[i * size : (i + 1) * size] for k, v in rows.items()} for i in range(files)]
    return [parquet(folder / f"{i}.parquet", part, row_group_size=100) for i, part in enumerate(parts)]


def flat(batches: Iterable[list[int]]) -> list[int]:
    return [x for batch in batches for x in batch]


def ages(batches: Iterable[Batch]) -> list[list[int]]:
    return [b.features["age"].int().tolist() for b in batches]


@pytest.mark.parametrize("cache", [1 << 30, 0], ids=["in memory", "streamed"])
def test_each_row_comes_once_and_the_seed_decides_when(checked: Checked, tmp_path: Path, cache: int) -> None:
    log = replace(fitted(checked, *many(tmp_path)), cache=cache, buffer=30_000)
    assert log.rows() == sum(log.counts.values()) == 1000
    assert ages(log.batches(64)) == [list(range(i, min(i + 64, 1000))) for i in range(0, 1000, 64)]
    first = ages(log.batches(64, seed=3))
    assert sorted(flat(first)) == list(range(1000))
    assert [len(b) for b in first] == [64] * 15 + [40]
    assert first == ages(log.batches(64, seed=3)) != ages(log.batches(64, seed=4))
    moved = np.abs(np.array(flat(first)) - np.arange(1000))
    assert np.median(moved) > 50


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_the_same_steps(checked: Checked, tmp_path: Path, world: int) -> None:
    log = fitted(checked, *many(tmp_path))
    alone = ages(log.batches(50, seed=1))
    shares = [ages(log.batches(50, seed=1, rank=rank, world=world)) for rank in range(world)]
    assert [flat(step) for step in zip(*shares, strict=True)] == alone


def test_weights_say_how_often_a_surface_is_drawn(checked: Checked, tmp_path: Path) -> None:
    log = fitted(checked, *many(tmp_path))
    drawn = flat(ages(log.batches(64, seed=0, weights={"home": 2.5, "search": 0.2})))
    times = np.bincount(drawn, minlength=1000)
    assert set(times[0::2]) == {2, 3}
    assert set(times[1::2]) == {0, 1}
    assert times[0::2].mean() == pytest.approx(2.5, abs=0.07)
    assert times[1::2].mean() == pytest.approx(0.2, abs=0.06)


def test_a_log_that_is_larger_than_memory(checked: Checked, tmp_path: Path) -> None:
    """What is held while it is read and shuffled is a buffer, not the log."""
    count = 240_000
    rows: dict[str, Any] = {name: pa.repeat(pa.scalar(values[0]), count) for name, values in ROWS.items()}
    rows["age"] = pa.array(np.arange(count, dtype=np.float32))
    pq.write_table(pa.table(rows), tmp_path / "log.parquet", row_group_size=20_000)
    log = open_log(checked, [tmp_path / "log.parquet"]).with_vocabularies({"tables.items": ["a"]})
    row = whole(replace(open_log(checked, [parquet(tmp_path / "few.parquet")]).with_vocabularies({"tables.items": []})))
    size = sum(x.nbytes for x in (*row.features.values(), *row.labels.values(), row.surface)) // len(row) * count
    buffer = size // 12
    log = replace(log, cache=buffer, buffer=buffer)
    pool = pa.default_memory_pool()
    before, most, seen = pool.bytes_allocated(), 0, 0
    tracemalloc.start()
    for batch in log.batches(4096, seed=0):
        seen += len(batch)
        most = max(most, pool.bytes_allocated() - before)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seen == count
    assert peak + most < size / 2


# ---- time --------------------------------------------------------------------------------------

DAYS = ["2024-05-01", "2024-05-02", "2024-05-02", "2024-05-04", "2024-05-05"]


@pytest.mark.parametrize(
    ("times", "bound"),
    [
        (pa.array([1, 2, 3, 4, 5]), "4"),
        (pa.array([0.1, 0.2, 0.3, 0.4, None]), 0.35),
        (pa.array(np.array(DAYS, "M8[s]")), "2024-05-03"),
        (pa.array([*DAYS[:4], None]), "2024-05-03"),
    ],
    ids=["whole numbers", "numbers", "timestamps", "texts"],
)  # fmt: skip
def test_a_split_by_time(checked: Checked, tmp_path: Path, times: pa.Array, bound: object) -> None:
    log = fitted(checked, parquet(tmp_path / "log.parquet", {**ROWS, "day": times}), time="day")
    before, after = log.where(before=bound), log.where(after=bound)
    assert ages(before.batches(9))[0][2:] == [31]
    assert before.rows() == 3
    assert after.rows() == 2 - times.null_count
    np.testing.assert_array_equal(whole(after).features["age"][0], 7.0)
    assert log.where(before=bound).where(after=bound).rows() == 0


def test_statistics_are_of_the_window_alone(checked: Checked, tmp_path: Path) -> None:
    log = open_log(checked, [parquet(tmp_path / "log.parquet", {**ROWS, "day": [1, 2, 3, 4, 5]})], Columns(time="day"))
    fit = log.where(before=2).fit()
    assert fit.vocabularies == {"tables.items": ["a", "b"]}
    assert float(fit.statistics["features.age.mean"]) == pytest.approx(np.log1p(30.0))


# ---- mistakes ----------------------------------------------------------------------------------


def mistakes(checked: Checked, *paths: Path) -> dict[str, str]:
    """The messages of a log's mistakes, by code and in their order."""
    with pytest.raises(SpecError) as error:
        list(fitted(checked, *paths).batches(2))
    return {f"{d.code} {i}": d.message for i, d in enumerate(error.value.diagnostics)}


def test_every_mistake_of_a_schema_at_once(checked: Checked, tmp_path: Path) -> None:
    rows = {**ROWS, "age": ["old"] * 5, "words": [1] * 5, "price": ["x"] * 5, "click": [[1]] * 5}
    del rows["rank"], rows["surface"]
    found = mistakes(checked, parquet(tmp_path / "log.parquet", rows))
    said = " ".join(found.values())
    assert sorted({code.split()[0] for code in found}) == ["T811", "T812"]
    assert all(f"`{column}`" in said for column in ("age", "words", "price", "click", "rank", "surface"))


@pytest.mark.parametrize(
    ("column", "row", "value", "code", "holds"),
    [
        ("surface", 3, "serch", "T814", "says `serch`"),
        ("surface", 1, None, "T814", "is empty"),
        ("price", 4, [1.0], "T813", "holds [1.0]"),
        ("words", 3, [1, 2.5], "T813", "holds 2.5"),
        ("click", 1, 2, "T815", "holds 2"),
        ("views", 1, -1, "T815", "holds -1"),
        ("mood", 2, "angry", "T815", "holds 'angry'"),
    ],
)
def test_a_mistake_names_its_file_column_and_row(
    checked: Checked, tmp_path: Path, column: str, row: int, value: object, code: str, holds: str
) -> None:
    wrong = {**ROWS, column: [value if i == row else x for i, x in enumerate(ROWS[column])]}
    if column == "words":
        wrong[column] = [x if x is None else [float(i) for i in x] for x in wrong[column]]
    good, bad = parquet(tmp_path / "a.parquet"), parquet(tmp_path / "b.parquet", wrong, row_group_size=2)
    ((found, message),) = mistakes(checked, good, bad).items()
    assert found.startswith(code)
    assert message.startswith(f"`{bad}`, row {row + 1}: the ")
    assert f"`{column}`" in message
    assert holds in message


def test_a_label_that_its_surface_lacks_may_be_anything(checked: Checked, tmp_path: Path) -> None:
    rows = {**ROWS, "views": [-5, 2, -1, None, float("inf")]}
    assert np.nansum(whole(fitted(checked, parquet(tmp_path / "log.parquet", rows))).labels["views"]) == 2


def test_the_first_mistake_of_each_column_of_a_csv_file(checked: Checked, tmp_path: Path) -> None:
    rows = {name: [*values] * 3 for name, values in ROWS.items()}
    rows["click"][9], rows["click"][11], rows["mood"][7] = 7, 3, "angry"
    path = csv(tmp_path / "log.csv", rows)
    assert list(mistakes(checked, path).values()) == [
        f"`{path}`, row 10: the label `click` holds 7",
        f"`{path}`, row 8: the label `mood` holds 'angry'",
    ]


@pytest.mark.parametrize("name", ["log.parquet", "log.csv.gz", "log.csv"])
def test_files_that_are_none(checked: Checked, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\xff\xfe\x00garbage" * 50)
    with pytest.raises(SpecError, match="T810"):
        fitted(checked, tmp_path / name)


def test_a_file_cut_off(checked: Checked, tmp_path: Path) -> None:
    path = parquet(tmp_path / "log.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SpecError, match="T810"):
        fitted(checked, path)


# ---- data check --------------------------------------------------------------------------------


def test_data_check_says_rows_and_rates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s.tower").write_text(SPEC)
    log = parquet(tmp_path / "log.parquet")
    with pytest.raises(SystemExit) as end:
        main(["data", "check", str(tmp_path / "s.tower"), str(log), "--json"])
    assert not end.value.code
    found = json.loads(capsys.readouterr().out)
    assert found["rows"] == 5
    assert found["surfaces"]["home"] == {
        "rows": 3,
        "tasks": {"click": {"rows": 2, "rate": 0.5}, "mood": {"rows": 2, "rate": 0.5}},
    }
    assert found["surfaces"]["search"]["tasks"]["views"] == {"rows": 1, "rate": 2.0}
    assert found["features"]["features.country"] == {"rows": 5, "missing": 0.2, "unknown": 0.25, "range": [0, 3]}
    assert found["features"]["features.rank"]["rows"] == 3
    assert found["tables"] == {"tables.items": {"rows": 4, "ids": 5}}
    assert any("the rarest 1 are unknown" in w for w in found["warnings"])


def test_a_model_takes_what_the_log_gives(checked: Checked, tmp_path: Path) -> None:
    from towerspec.train.module import build_module

    module = build_module(checked).eval()
    batch = whole(fitted(checked, parquet(tmp_path / "log.parquet")))
    out = module(dict(batch.features), batch.surface)
    assert out["click"].isfinite().all()
    assert torch.equal(out["views"].isnan(), batch.surface == 0)
