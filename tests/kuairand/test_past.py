"""Counters of the log so far: against a slow count in plain Python, and against changes of what comes later."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import past
import prepare
import pyarrow as pa
import pytest

Row = dict[str, Any]


def synthetic(rows: int, seed: int) -> dict[str, np.ndarray]:
    """A log of three days with few users and videos, so that counters are large."""
    rng = np.random.default_rng(seed)
    shown = np.sort(rng.integers(0, 72, rows))  # hours from 25 April 2022, midnight in the app's time
    logged = np.minimum(shown + rng.integers(0, 2, rows), 71)
    log = {
        "user_id": rng.integers(0, 5, rows),
        "video_id": rng.integers(0, 6, rows),
        "tab": rng.integers(0, 3, rows),
        "time_ms": (shown + (np.datetime64("2022-04-25T00", "h").astype(np.int64) - 8)) * past.HOUR + 1000,
        "date": 20220425 + logged // 24,
        "hourmin": logged % 24 * 100,
        **{name: rng.integers(0, 2, rows) for name in past.COUNTED},
    }
    return {**log, "author": log["video_id"] // 2, "first_tag": log["video_id"] % 2}


@pytest.mark.parametrize("seed", range(5))
def test_a_counter_knows_nothing_of_its_own_hour_or_later(seed: int) -> None:
    log = synthetic(400, seed)
    shown, logged = past.shown_hour(log), past.logged_hour(log)
    now = int(shown[200])
    later = {name: np.where(logged >= now, 1 - log[name], log[name]) for name in past.COUNTED}
    before, after = past.counters(log), past.counters({**log, **later})
    assert len(before) == len(past.KEYS) * (1 + len(past.COUNTED))
    assert set(before) < set(past.NAMES)
    for name in before:
        # Sums of all keys run on from one another, and so differ in rounding.
        assert np.allclose(before[name][shown <= now], after[name][shown <= now], rtol=0, atol=1e-9), name
    assert any(np.abs(before[name] - after[name])[shown > now].max() > 0.1 for name in before)


def test_an_hour_is_told_in_the_apps_time() -> None:
    log = synthetic(100, 0)
    assert (past.logged_hour(log) >= past.shown_hour(log)).all()
    assert (past.shown_hour(log) % 24)[0] == (log["time_ms"][0] // past.HOUR + 8) % 24


def slow(row: int, keys: list[str], log: dict[str, list[Any]], usual: Any) -> Iterator[tuple[str, float]]:
    """One row's counter, from all rows of its key that were logged before its hour."""
    same = [
        i
        for i in range(len(log["shown"]))
        if log["logged"][i] < log["shown"][row] and all(log[k][i] == log[k][row] for k in keys)
    ]
    yield "rows", len(same)
    for outcome in past.COUNTED:
        expected = sum(usual(i, outcome) for i in same)
        yield f"{outcome}_lift", math.log((sum(log[outcome][i] for i in same) + 1) / (expected + 1))


def test_counters_are_a_plain_count() -> None:
    arrays = synthetic(150, 7)
    found = past.counters(arrays)
    log = {k: v.tolist() for k, v in arrays.items()}
    log["shown"], log["logged"] = past.shown_hour(arrays).tolist(), past.logged_hour(arrays).tolist()

    def usual(row: int, outcome: str) -> float:
        known = [i for i in range(len(log["shown"])) if log["logged"][i] < log["shown"][row]]
        here = [i for i in known if log["tab"][i] == log["tab"][row]]
        overall = (sum(log[outcome][i] for i in known) + 1) / (len(known) + 10)
        return (sum(log[outcome][i] for i in here) + past.DOUBT * overall) / (len(here) + past.DOUBT)

    for name, keys in past.KEYS.items():
        for row in range(0, 150, 7):
            for what, value in slow(row, keys, log, usual):
                assert found[f"{name}_{what}"][row] == pytest.approx(value, abs=1e-9), (name, what, row)


# ---- the real files ----------------------------------------------------------------------------


def test_counts_of_the_real_log(splits: dict[str, pa.Table], raw_log: list[Row]) -> None:
    """Of some rows of each split, how often their user and their video came before their hour."""
    once = {(r["user_id"], r["video_id"], r["time_ms"]): r for r in sorted(raw_log, key=_logged, reverse=True)}
    by: dict[tuple[str, str], list[Row]] = {}
    for row in once.values():
        for name in ("user_id", "video_id"):
            by.setdefault((name, row[name]), []).append(row)
    seen = 0.0
    for table in splits.values():
        for row in table.take(pa.array(np.random.default_rng(0).integers(0, len(table), 200))).to_pylist():
            hour = (row["time_ms"] // past.HOUR + 8) // 24 * 24 + row["hour"]
            for name in ("user", "video"):
                same = [r for r in by[f"{name}_id", str(row[f"{name}_id"])] if _logged(r) < hour]
                assert row[f"{name}_rows"] == len(same)
                seen += len(same)
    assert seen > 1000


def _logged(row: Row) -> int:
    date = np.datetime64(f"{row['date'][:4]}-{row['date'][4:6]}-{row['date'][6:]}", "D").astype(np.int64)
    return int(date) * 24 + int(row["hourmin"]) // 100


def test_histories_are_counted_where_all_have_ended(splits: dict[str, pa.Table], data: Path) -> None:
    raw = prepare.read(data)
    ended = raw.sequences["last_time_ms"].to_numpy().max()
    watched = raw.sequences["watch_seq"].combine_chunks().flatten().to_numpy()
    counts = np.bincount(watched)
    early = 0
    for table in splits.values():
        time, found, video = (table[n].to_numpy() for n in ("time_ms", "video_watches", "video_id"))
        known = time > ended
        assert np.isnan(found[~known]).all()
        assert np.array_equal(found[known], counts[video[known]])
        early += int((~known).sum())
    assert early > 0


def test_a_users_own_history_is_counted(splits: dict[str, pa.Table], data: Path) -> None:
    """Of some rows with a history, and of all whose candidate is in it, against the lists themselves."""
    raw = prepare.read(data)
    lists = {row["user_id"]: row for row in raw.sequences.to_pylist()}
    author = dict(zip(raw.videos["video_id"].to_pylist(), raw.videos["author"].to_pylist(), strict=True))
    found = 0
    for table in splits.values():
        again = np.flatnonzero(table["own_author_watches"].to_numpy() > 0)[:300]
        some = np.concatenate([again, np.random.default_rng(0).integers(0, len(table), 200)])
        for row in table.take(pa.array(some)).to_pylist():
            if math.isnan(row["own_video_watches"]):
                continue
            own, video = lists[row["user_id"]], row["video_id"]
            assert row["own_video_watches"] == own["watch_seq"].count(video)
            for name, of in (("watches", "watch"), ("long_watches", "long_watch"), ("likes", "like")):
                theirs = [v for v in own[f"{of}_seq"] if author[v] == author[video]]
                assert row[f"own_author_{name}"] == len(theirs)
                found += len(theirs)
    assert found > 500
