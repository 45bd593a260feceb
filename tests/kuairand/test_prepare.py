"""What `prepare.py` makes of the real files, against plain Python that reads the same files row by row."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import prepare
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from towerspec.check import check_text
from towerspec.check.model import Model

Row = dict[str, Any]
LABELS = ["is_click", "long_view", "is_like", "is_profile_enter"]
# What the spec lists, in its order.
DEGREES = ["full_active", "high_active", "middle_active", "low_active", "single_low_active"]
DEGREES += ["2_14_day_new", "30day_retention", "day_new"]
UPLOADS = ["LongImport", "Web", "ShortImport", "Kmovie", "LongPicture", "PictureSet", "LongCamera", "ShortCamera"]
UPLOADS += ["ShareFromOtherApp"]
DATES = {"train": range(20220425, 20220503), "calibrate": [20220503], "test": [20220504]}


def key(row: Any) -> tuple[int, int, int]:
    return int(row["user_id"]), int(row["video_id"]), int(row["time_ms"])


@pytest.fixture(scope="module")
def rows(splits: dict[str, pa.Table]) -> dict[tuple[int, int, int], Row]:
    return {key(row): row for table in splits.values() for row in table.to_pylist()}


def test_each_impression_is_there_once(raw_log: list[Row], splits: dict[str, pa.Table], rows: dict[Any, Row]) -> None:
    assert rows.keys() == {key(row) for row in raw_log}
    assert sum(table.num_rows for table in splits.values()) == len(rows) == len(raw_log) - 4739


def test_splits_are_by_time_and_the_first_copy_counts(raw_log: list[Row], splits: dict[str, pa.Table]) -> None:
    first: dict[Any, str] = {}
    for row in sorted(raw_log, key=lambda r: (r["date"], int(r["hourmin"]))):
        first.setdefault(key(row), row["date"])
    for name, table in splits.items():
        assert set(table["date"].to_pylist()) <= set(DATES[name])
        for row in table.select(["user_id", "video_id", "time_ms", "date"]).to_pylist():
            assert first[key(row)] == str(row["date"])


def test_rows_say_what_the_raw_files_say(
    raw_log: list[Row], raw_tables: tuple[Row, Row], rows: dict[Any, Row], data: Path
) -> None:
    users, videos = raw_tables
    sequences = {s["user_id"]: s for s in pq.read_table(next(data.glob("user_sequences*.parquet"))).to_pylist()}
    copies = Counter(key(row) for row in raw_log)
    once = [row for row in raw_log if copies[key(row)] == 1]
    for log in random.Random(0).sample(once, 2000):
        row, user, video = rows[key(log)], users[log["user_id"]], videos[log["video_id"]]
        history = sequences.get(int(log["user_id"]), {})
        assert row["surface"] == (f"tab_{log['tab']}" if log["tab"] in ("0", "1", "2", "4", "6") else "other")
        assert [row[name] for name in LABELS] == [int(log[name]) for name in LABELS]
        assert row["hour"] == (datetime.fromtimestamp(int(log["time_ms"]) / 1000, timezone.utc).hour + 8) % 24
        assert row["tab"] == int(log["tab"])
        check_user(row, user)
        check_video(row, video)
        for name in ("watch_seq", "long_watch_seq"):
            assert row[name] == history.get(name, [])[-50:]
        for name, sequence in (("like_len", "like_seq"), ("long_watch_len", "long_watch_seq")):
            assert same(row[name], str(len(history[sequence])) if history else "")
        assert same(row["history_len"], str(history["history_len"]) if history else "")


def check_user(row: Row, user: Row) -> None:
    degree = user["user_active_degree"]
    assert row["user_active_degree"] == (DEGREES.index(degree) if degree in DEGREES else len(DEGREES))
    assert row["is_live_streamer"] == max(int(user["is_live_streamer"]), -1)
    for name in ("follow_user_num", "fans_user_num", "friend_user_num", "register_days"):
        assert same(row[name], user[name])
    for name in (name for name in row if name.startswith("onehot_feat")):
        assert row[name] == (int(float(user[name])) if user[name] else -1)


def check_video(row: Row, video: Row) -> None:
    upload = video["upload_type"]
    assert row["video_type"] == {"NORMAL": 0, "AD": 1}.get(video["video_type"], 2)
    assert row["upload_type"] == (UPLOADS.index(upload) if upload in UPLOADS else len(UPLOADS))
    assert row["tag"] == [int(tag) for tag in video["tag"].split(",") if tag]
    music = video["music_type"]
    assert row["music_type"] == (int(float(music)) if music else -1)
    for name in ("video_duration", "server_width", "server_height"):
        assert same(row[name], video[name])


def same(found: float, raw: str) -> bool:
    return found == np.float32(raw) if raw else math.isnan(found)


def test_a_request_is_one_user_in_one_place(splits: dict[str, pa.Table], model: Model) -> None:
    shared = [f.name for f in model.features.values() if f.level.word == "request"]
    assert {"hour", "tab", "watch_seq", "user_active_degree"} <= set(shared)
    seen: dict[int, str] = {}
    several = 0
    for split, table in splits.items():
        requests = table["request"].to_pylist()
        facts: dict[int, str] = {}
        times: dict[int, list[int]] = {}
        columns = [table[name].to_pylist() for name in ["surface", "user_id", *shared]]
        for request, time, *values in zip(requests, table["time_ms"].to_pylist(), *columns, strict=True):
            assert facts.setdefault(request, repr(values)) == repr(values)
            assert seen.setdefault(request, split) == split
            times.setdefault(request, []).append(time)
        for stamps in times.values():
            assert max(np.diff(stamps), default=0) <= 30 * 60_000
            several += len(stamps) > 1
        assert [r for i, r in enumerate(requests) if not i or r != requests[i - 1]] == list(
            facts
        )  # rows stand together
    assert several > 10_000


def test_no_history_holds_the_future(splits: dict[str, pa.Table], data: Path) -> None:
    sequences = pq.read_table(next(data.glob("user_sequences*.parquet")), columns=["user_id", "last_time_ms"])
    last = dict(zip(*(column.to_pylist() for column in sequences.columns), strict=True))
    without = 0
    for table in splits.values():
        columns = [table[name].to_pylist() for name in ("user_id", "time_ms", "watch_seq", "history_len")]
        for user, time, watched, length in zip(*columns, strict=True):
            if watched:
                assert last[user] < time
            elif user in last:
                assert math.isnan(length)
                without += 1
    assert without == 3


def test_a_spec_without_other_leaves_the_rare_places_out(data: Path) -> None:
    text = """model small
    request { hour : category { rows: 24 } } candidate { video_id : category { rows: 7583 } }
    trunk { x = concat(request, candidate) }
    surface tab_1 { tower { head is_click : binary } } surface tab_6 { tower { head is_click : binary } }"""
    made = dict(prepare.prepare(data, check_text(text).sound()[0]))
    assert set(made["test"]["surface"].to_pylist()) == {"tab_1", "tab_6"}
    assert made["test"].num_rows == 13_745 + 397


@pytest.mark.parametrize(("name", "why"), [("play_time_ms", "only after the impression"), ("shoe_size", "no column")])
def test_what_can_not_be_an_input_is_refused(data: Path, name: str, why: str) -> None:
    text = f"""model leak
    request {{ {name} : number }} candidate {{ video_id : category {{ rows: 7583 }} }}
    trunk {{ x = concat(request, candidate) }} surface tab_1 {{ tower {{ head is_click : binary }} }}"""
    with pytest.raises(SystemExit, match=why) as refused:
        dict(prepare.prepare(data, check_text(text).sound()[0]))
    assert f"`{name}`" in str(refused.value)


def test_the_command_line_writes_the_three_splits(data: Path, splits: dict[str, pa.Table], tmp_path: Path) -> None:
    program = Path(prepare.__file__)
    done = subprocess.run(
        [sys.executable, program, "--data", data, "--out", tmp_path], capture_output=True, text=True, check=True
    )
    assert "test: 17,200 impressions" in done.stdout
    for name, table in splits.items():
        written = pq.read_table(tmp_path / f"{name}.parquet")
        assert written.schema.equals(table.schema)
        exact = [field.name for field in table.schema if field.type != pa.float32()]  # NaN is unequal to itself
        assert written.select(exact).equals(table.select(exact))


def test_a_folder_without_the_files_is_named(tmp_path: Path, model: Model) -> None:
    with pytest.raises(SystemExit, match=r"there is no log_standard_"):
        dict(prepare.prepare(tmp_path, model))


def test_lists_keep_their_newest_items() -> None:
    lists = pa.array([[1, 2, 3, 4], [], None, [5]])
    assert prepare._lists(lists, 2).to_pylist() == [[3, 4], [], [], [5]]
    assert prepare._lists(lists.slice(1), 2).to_pylist() == [[], [], [5]]
