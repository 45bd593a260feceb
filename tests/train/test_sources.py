"""Which files a log is made of, and columns of types that other writers choose."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from towerspec.check import Checked, check_text
from towerspec.train.data import Columns, open_log

from .test_data import DAYS, ROWS, SPEC, fitted, mistakes, parquet, whole


@pytest.fixture(scope="module")
def checked() -> Checked:
    return check_text(SPEC)


def part(folder: Path, name: str, **changes: Any) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return parquet(path, {k: v for k, v in {**ROWS, **changes}.items() if v is not None})


def test_names_of_folders_are_columns(checked: Checked, tmp_path: Path) -> None:
    """As Hive and Spark write them; a file's own column of the name comes first."""
    part(tmp_path, "day=2/surface=search/a.parquet", surface=None)
    part(tmp_path, "day=10/surface=home/a.parquet", surface=None, age=[1.0] * 5)
    part(tmp_path, "day=__HIVE_DEFAULT_PARTITION__/surface=home/a.parquet")
    log = fitted(checked, tmp_path, time="day")
    assert log.counts == {"home": 5 + 3, "search": 5 + 2}
    assert log.where(after=9).counts == {"home": 5, "search": 0}
    assert whole(log.where(after=9)).features["age"].tolist() == [1.0] * 5
    assert log.where(before="10").counts == {"home": 0, "search": 5}


def test_what_is_not_whole_yet_is_left_out_and_no_file_is_read_twice(checked: Checked, tmp_path: Path) -> None:
    whole_one = part(tmp_path, "a.parquet")
    for name in ("_temporary/0/b.parquet", ".c.parquet", "_d.parquet"):
        part(tmp_path, name)
    assert open_log(checked, [tmp_path, whole_one, tmp_path]).rows() == 5
    assert open_log(checked, [tmp_path / "_d.parquet"]).rows() == 5, "what is named is meant"


def test_names_in_capitals(checked: Checked, tmp_path: Path) -> None:
    assert open_log(checked, [part(tmp_path, "LOG.PARQUET")]).rows() == 5


def test_texts_as_views_and_as_bytes(checked: Checked, tmp_path: Path) -> None:
    plain = whole(fitted(checked, part(tmp_path, "a.parquet"))).features
    views = {k: pa.array(ROWS[k], pa.string_view()) for k in ("surface", "country", "device", "item")}
    for changes in (views, {"history": pa.array(ROWS["history"], pa.list_(pa.string_view()))},
                    {"device": [None if x is None else x.encode() for x in ROWS["device"]]}):  # fmt: skip
        found = whole(fitted(checked, part(tmp_path, "b.parquet", **changes))).features
        assert all(found[name].nan_to_num().tolist() == x.nan_to_num().tolist() for name, x in plain.items())


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("device", [b"tv", b"\xff", b"a", b"b", b"c"], "row 2: the column `device` holds b'\\xff'"),
        ("surface", [b"home", b"\xff", b"home", b"home", b"home"], "row 2: the column `surface` holds b'\\xff'"),
        ("request", [1.0, 2.5, None, 1.0, 1.0], "row 2: the column `request` holds 2.5"),
        ("surface", [["home"]] * 5, "the column `surface` of `{}` has the wrong type for each row's surface"),
        ("request", [{"id": 1}] * 5, "the column `request` of `{}` has the wrong type for each row's request"),
    ],
)
def test_columns_without_a_meaning(
    checked: Checked, tmp_path: Path, column: str, values: list[Any], message: str
) -> None:
    path = part(tmp_path, "a.parquet", **{column: values})
    ((_, said),) = mistakes(checked, path).items()
    assert said.endswith(message.format(path))


def test_a_request_column_that_was_named_has_to_be_there(checked: Checked, tmp_path: Path) -> None:
    path = part(tmp_path, "a.parquet", request=None)
    assert open_log(checked, [path]).rows() == 5, "the usual one may be missing"
    with pytest.raises(Exception, match=r"T811.*no column `session`"):
        open_log(checked, [path], Columns(request="session"))


def test_rows_without_a_request_are_requests_of_their_own(checked: Checked, tmp_path: Path) -> None:
    paths = [part(tmp_path, name, request=["r1", None, "r1", None, None]) for name in ("a.parquet", "b.parquet")]
    request = whole(fitted(checked, *paths)).request
    assert request is not None
    assert len(request.unique()) == 1 + 6


def test_times_with_a_zone(checked: Checked, tmp_path: Path) -> None:
    times = pa.array([datetime.fromisoformat(day).replace(tzinfo=UTC) for day in DAYS], pa.timestamp("us", "UTC"))
    log = fitted(checked, part(tmp_path, "a.parquet", day=times), time="day")
    for bound in ("2024-05-02", "2024-05-02 00:00:00", "2024-05-02T00:00:00Z", "2024-05-02T02:00:00+02:00"):
        assert log.where(after=bound).rows() == 4


def test_a_number_too_large_for_a_float_is_missing(checked: Checked, tmp_path: Path) -> None:
    log = fitted(checked, part(tmp_path, "a.parquet", age=[1e300, 1.0, 2.0, 3.0, -1e300]))
    assert whole(log).features["age"].isfinite().tolist() == [False, True, True, True, False]
