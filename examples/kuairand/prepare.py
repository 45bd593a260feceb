"""From KuaiRand's raw files to the inputs of a spec, as Parquet: one row an impression, split by time.

python examples/kuairand/prepare.py --data DIR --out DIR
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import past
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from towerspec.check import check
from towerspec.check.model import Model
from towerspec.ids import by_value
from towerspec.layers.features import PADDING, Coded, Feature, List

REPO = Path(__file__).resolve().parents[2]
SPEC = REPO / "specs" / "kuairand.tower"
DATA = Path(os.environ.get("KUAIRAND_DIR") or REPO.parent / "shared" / "data" / "kuairand")

KEYS = ["user_id", "video_id", "time_ms"]  # what makes an impression one
REACTIONS = ["is_click", "is_like", "is_follow", "is_comment", "is_forward", "is_hate", "long_view", "is_profile_enter"]
OUTCOMES = {*REACTIONS, "play_time_ms", "profile_stay_time", "comment_stay_time"}  # known after the impression alone
WHO_AND_WHEN = ["surface", "request", "user_id", "video_id", "time_ms", "date"]
SPLITS = {"train": (0, 20220502), "calibrate": (20220503, 20220503), "test": (20220504, 99999999)}  # dates, inclusive

Log = dict[str, np.ndarray]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Makes a spec's inputs from KuaiRand's raw files.")
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of the raw files; KUAIRAND_DIR by default")
    parser.add_argument("--out", type=Path, required=True, help="where train, calibrate and test.parquet go")
    parser.add_argument("--spec", type=Path, default=SPEC, help="the spec whose inputs are made")
    parser.add_argument("--gap", type=float, default=30.0, help="minutes without an impression that end a request")
    args = parser.parse_args()
    model, _ = check(args.spec).sound()
    args.out.mkdir(parents=True, exist_ok=True)
    for name, table in prepare(args.data, model, args.gap):
        pq.write_table(table, args.out / f"{name}.parquet", compression="zstd")
        requests = len(pc.unique(table["request"]))
        rows = {c["values"]: c["counts"] for c in pc.value_counts(table["surface"]).to_pylist()}
        listed = ", ".join(f"{surface} {count:,}" for surface, count in sorted(rows.items()))
        print(f"{name}: {table.num_rows:,} impressions in {requests:,} requests: {listed}")


def prepare(data: Path, model: Model, gap_minutes: float = 30.0) -> Iterator[tuple[str, pa.Table]]:
    """The splits by name, the rows of each sorted by surface, request and time."""
    raw = read(data)
    log = deduplicate(raw.log)
    log["surface"] = surfaces_of(log["tab"], list(model.surfaces))
    # `hourmin` is when the row was logged, up to an hour after the video was shown.
    log["hour"] = past.shown_hour(log) % 24
    log["request"] = requests_of(log, gap_minutes)
    log |= known_before(raw, log)  # of all places, whichever the spec has
    log = take(log, log["surface"] != "")  # the spec may leave out the rare places
    log = take(log, np.lexsort((log["time_ms"], log["request"], log["surface"])))
    for name, (first, last) in SPLITS.items():
        yield name, assemble(model, raw, take(log, (log["date"] >= first) & (log["date"] <= last)))


def assemble(model: Model, raw: Raw, log: Log) -> pa.Table:
    """One split: who and when, the features by the spec's names, and the labels by its heads' names."""
    table: dict[str, Any] = {
        name: log[name] for name in ("surface", "request", "user_id", "video_id", "time_ms", "date")
    }
    columns = Columns(raw, log)
    for feature in model.features.values():
        table[feature.name] = encode(feature.kind, columns[feature.name])
    for head in dict.fromkeys(head for surface in model.surfaces.values() for head in surface.heads):
        table[head] = log[head].astype(np.int8)
    return pa.table(table)


# ---- reading -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Raw:
    """The files: the log as arrays, the others as tables sorted by their keys."""

    log: Log
    users: pa.Table
    videos: pa.Table
    sequences: pa.Table


def read(data: Path) -> Raw:
    """Reads a folder of raw files, of this excerpt or of the full release, whose log is in several."""
    log = pa.concat_tables(pyarrow.csv.read_csv(path) for path in _find(data, "log_standard_*.csv*"))
    tags_are_text = pyarrow.csv.ConvertOptions(column_types={"tag": pa.string()})
    videos = pyarrow.csv.read_csv(_one(data, "video_features_basic_*.csv*"), convert_options=tags_are_text)
    authors = np.unique(videos["author_id"].to_numpy(), return_inverse=True)[1]
    tags = [[int(tag) for tag in (text or "").split(",") if tag] for text in videos["tag"].to_pylist()]
    videos = videos.drop_columns("tag").append_column("tag", pa.array(tags, pa.list_(pa.int64())))
    sequences = pq.read_table(_one(data, "user_sequences*.parquet"))
    for name in ("like", "long_watch"):
        sequences = sequences.append_column(f"{name}_len", pc.list_value_length(sequences[f"{name}_seq"]))
    return Raw(
        {name: log[name].to_numpy() for name in log.column_names},
        pyarrow.csv.read_csv(_one(data, "user_features_*.csv*")).sort_by("user_id"),
        videos.append_column("author", pa.array(authors)).sort_by("video_id"),
        sequences.sort_by("user_id"),
    )


def _find(data: Path, pattern: str) -> list[Path]:
    found = sorted(data.glob(pattern))
    if not found:
        raise SystemExit(f"there is no {pattern} in {data}; name the folder with --data or KUAIRAND_DIR")
    return found


def _one(data: Path, pattern: str) -> Path:
    return _find(data, pattern)[0]


def take(log: Log, rows: np.ndarray) -> Log:
    """Some rows of all columns."""
    return {name: column[rows] for name, column in log.items()}


# ---- rows --------------------------------------------------------------------------------------


def deduplicate(log: Log) -> Log:
    """Keeps each impression once, as it was first logged.

    Copies differ in when they were logged, some even in the day: left in, one would train and the other test.
    """
    log = take(log, np.lexsort((log["hourmin"], log["date"], *(log[key] for key in KEYS))))
    return take(log, _changes(log, KEYS))


def _changes(log: Mapping[str, np.ndarray], keys: Sequence[str]) -> np.ndarray:
    """Which rows of a sorted log differ in some key from the row before."""
    new = np.ones(len(log[keys[0]]), dtype=bool)
    new[1:] = np.logical_or.reduce([log[key][1:] != log[key][:-1] for key in keys])
    return new


def surfaces_of(tab: np.ndarray, surfaces: Sequence[str]) -> np.ndarray:
    """Each row's surface: `tab_1` where the spec has it, else `other` where it has that, else nothing."""
    rest = "other" if "other" in surfaces else ""
    names = [f"tab_{i}" if f"tab_{i}" in surfaces else rest for i in range(int(tab.max()) + 1)]
    return np.array(names)[tab]


def requests_of(log: Log, gap_minutes: float) -> np.ndarray:
    """A number for each row's request: what a user saw in one place in one hour, without a long gap in between.

    All that an input can say of the request is then equal for its rows, and no request is in two splits.
    """
    same = ["user_id", "tab", "date", "hour"]
    order = np.lexsort((log["time_ms"], *(log[key] for key in reversed(same))))
    ordered = take(log, order)
    gap = np.diff(ordered["time_ms"], prepend=0) > gap_minutes * 60_000
    request = np.empty(len(order), dtype=np.int64)
    request[order] = np.cumsum(_changes(ordered, same) | gap) - 1
    return request


def known_before(raw: Raw, log: Log) -> Log:
    """Counters of the log so far, and of the histories, by row; `past.NAMES` are their names."""
    videos = raw.videos["video_id"].to_numpy()
    author, tag = np.zeros((2, int(videos.max()) + 1), dtype=np.int64)  # by video
    author[videos] = raw.videos["author"].to_numpy()
    tag[videos] = [tags[0] + 1 if tags else 0 for tags in raw.videos["tag"].to_pylist()]
    keyed = {**log, "author": author[log["video_id"]], "first_tag": tag[log["video_id"]]}
    ended = history_of(raw, log).is_valid().to_numpy(zero_copy_only=False)
    return past.counters(keyed) | past.histories(log, raw.sequences, author, tag, ended)


def history_of(raw: Raw, log: Log) -> pa.Array:
    """Where each row's history stands among the sequences; null where there is none that ended before its request.

    Histories end before the log begins, but for those of a few users: on such a request they hold the future.
    """
    at = _positions(raw.sequences["user_id"], log["user_id"])
    ended = pc.less(pc.take(raw.sequences["last_time_ms"], at), pa.array(_starts(log)))
    return pc.if_else(pa.array(ended.to_numpy(zero_copy_only=False)), at, None)


# ---- columns -----------------------------------------------------------------------------------


class Columns:
    """What is known of each row before the outcome, by column."""

    def __init__(self, raw: Raw, log: Log) -> None:
        self.log = {name: log[name] for name in ("user_id", "video_id", "tab", "hour", *past.NAMES)}
        self.tables = [
            (raw.users, _positions(raw.users["user_id"], log["user_id"])),
            (raw.videos, _positions(raw.videos["video_id"], log["video_id"])),
            (raw.sequences.drop_columns(["user_id", "last_time_ms"]), history_of(raw, log)),
        ]

    def __getitem__(self, name: str) -> pa.Array:
        if name in OUTCOMES:
            raise SystemExit(f"`{name}` is known only after the impression, so it can't be an input")
        if name in self.log:
            return pa.array(self.log[name])
        for table, rows in self.tables:
            if name in table.column_names:
                return table[name].combine_chunks().take(rows)
        raise SystemExit(f"the data has no column for the feature `{name}`")


def _positions(keys: pa.ChunkedArray, wanted: np.ndarray) -> pa.Array:
    """Where each wanted key stands among the sorted ones; null where it doesn't."""
    known = keys.to_numpy()
    at = np.searchsorted(known, wanted).clip(max=len(known) - 1)
    return pa.array(at, pa.int64(), mask=known[at] != wanted)


def _starts(log: Log) -> np.ndarray:
    """When each row's request began."""
    request, index = np.unique(log["request"], return_inverse=True)
    start = np.full(len(request), np.iinfo(np.int64).max)
    np.minimum.at(start, index, log["time_ms"])
    return start[index]


# ---- encoding ----------------------------------------------------------------------------------


def encode(kind: Feature, column: pa.Array) -> pa.Array:
    """A raw column as the spec's input: float32, missing as NaN; ids, missing as -1; or lists of the newest ids.

    >>> from towerspec.layers.features import Category, Number
    >>> encode(Category(values=("AD", "NORMAL")), pa.array(["NORMAL", None, "LIVE"])).to_pylist()
    [1, -1, 2]
    >>> encode(Number(), pa.array([3, None])).to_pylist()
    [3.0, nan]
    """
    if not isinstance(kind, Coded):
        return pc.fill_null(pc.cast(column, pa.float32()), float("nan"))
    if isinstance(kind, List):
        return _lists(column, kind.length)
    if kind.values is None or by_value(kind.values):
        ids = pc.fill_null(pc.cast(column, pa.int64()), PADDING)
        return pc.if_else(pc.less(ids, 0), PADDING, ids)
    # Texts by the spec's list; one that it doesn't list is unknown, which is the id after its last.
    texts = column if pa.types.is_string(column.type) else pc.cast(pc.cast(column, pa.int64()), pa.string())
    found = pc.index_in(texts, pa.array([str(value) for value in kind.values], pa.string()))
    return pc.cast(pc.if_else(pc.is_valid(texts), pc.fill_null(found, len(kind.values)), PADDING), pa.int64())


def _lists(column: pa.Array, length: int) -> pa.Array:
    """Lists with at most their last `length` items; a null one is empty."""
    column = pc.fill_null(pc.cast(column, pa.list_(pa.int64())), [])
    items, lengths = column.flatten(), pc.list_value_length(column).to_numpy()
    kept = np.minimum(lengths, length)
    ends = np.cumsum(lengths)
    picked = np.repeat(ends - np.cumsum(kept), kept) + np.arange(int(kept.sum()))
    offsets = np.concatenate([[0], np.cumsum(kept)]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, items.take(pa.array(picked, pa.int64())))


if __name__ == "__main__":
    main()
