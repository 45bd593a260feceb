"""What was known of users, videos and authors when a request began: counters of the log so far, and of the histories.

A counter is as of the start of the hour in which the request began: it holds the impressions that were logged, with
their outcomes, in earlier hours. So neither a row's own outcome nor a later one is in it, in any split.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

HOUR = 3_600_000
UTC_PLUS_8 = 8 * HOUR
COUNTED = ["is_click", "long_view", "is_like", "is_profile_enter"]
KEYS = {  # a counter's name, and the columns whose equal values it counts together
    "user": ["user_id"],
    "user_tab": ["user_id", "tab"],
    "user_tag": ["user_id", "first_tag"],
    "video": ["video_id"],
    "video_tab": ["video_id", "tab"],
    "author": ["author"],
}
OWN = {  # what of the user's own history has the candidate, or its author
    "own_video_watches": ("video", "watch"),
    "own_author_watches": ("author", "watch"),
    "own_author_long_watches": ("author", "long_watch"),
    "own_author_likes": ("author", "like"),
}
DOUBT = 100.0  # how many impressions in a place the rate of all places counts for in its own
NAMES = (
    *(f"{name}_{what}" for name in KEYS for what in ("rows", *(f"{outcome}_lift" for outcome in COUNTED))),
    *(f"{name}_{what}" for name in ("video", "author") for what in ("watches", "long_watch_lift", "like_lift")),
    *("user_long_watch_lift", "user_like_lift", "tag_watch_lift", "tag_long_watch_lift"),
    *OWN,
)

Log = Mapping[str, np.ndarray]
Columns = dict[str, np.ndarray]


# ---- the log so far ----------------------------------------------------------------------------


def counters(log: Log) -> Columns:
    """For each counter `NAME_rows`, and for each outcome `NAME_OUTCOME_lift`, by row of the log."""
    shown, logged = shown_hour(log), logged_hour(log)
    rows = np.ones((len(shown), 1))
    outcomes = np.column_stack([log[name] for name in COUNTED]).astype(float)
    usual = _usual(log["tab"], shown, logged, outcomes)
    found = {}
    for name, columns in KEYS.items():
        sums = before(codes(log, columns), shown, logged, np.hstack([rows, outcomes, usual]))
        seen, expected = np.split(sums[:, 1:], 2, axis=1)
        found[f"{name}_rows"] = sums[:, 0]
        found |= {f"{name}_{outcome}_lift": x for outcome, x in zip(COUNTED, lift(seen, expected).T, strict=True)}
    return found


def _usual(tab: np.ndarray, shown: np.ndarray, logged: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
    """`[N, outcomes]`: how often each outcome came so far in a row's place, in doubt as often as anywhere."""
    sums = np.hstack([np.ones((len(shown), 1)), outcomes])
    everywhere = before(np.zeros(len(shown), dtype=np.int64), shown, logged, sums)
    here = before(tab, shown, logged, sums)
    overall = (everywhere[:, 1:] + 1) / (everywhere[:, :1] + 10)
    return np.asarray((here[:, 1:] + DOUBT * overall) / (here[:, :1] + DOUBT))


def lift(seen: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """How much more often than expected, as the logarithm of a ratio that one event more of each draws to 0."""
    return np.log((seen + 1) / (expected + 1))


def shown_hour(log: Log) -> np.ndarray:
    """The hour in which each row was shown, counted from 1970 in the app's own time."""
    return (log["time_ms"] + UTC_PLUS_8) // HOUR


def logged_hour(log: Log) -> np.ndarray:
    """The hour in which each row was logged, likewise; `hourmin` is 1500 for what was logged from three to four."""
    dates, index = np.unique(log["date"], return_inverse=True)
    days = np.array([np.datetime64(f"{d // 10000}-{d // 100 % 100:02}-{d % 100:02}") for d in dates.tolist()])
    return days.astype("datetime64[D]").astype(np.int64)[index] * 24 + log["hourmin"] // 100


def codes(log: Log, columns: Sequence[str]) -> np.ndarray:
    """`[N]`: equal numbers for rows that are equal in the columns."""
    joined = np.zeros(len(log[columns[0]]), dtype=np.int64)
    for name in columns:
        joined = joined * (int(log[name].max()) + 1) + log[name]
    return np.asarray(np.unique(joined, return_inverse=True)[1])


def before(keys: np.ndarray, shown: np.ndarray, logged: np.ndarray, values: np.ndarray) -> np.ndarray:
    """`[N, K]`: for each row the sum of `values` `[N, K]` over rows of its key that were logged before its hour.

    >>> before(np.array([7, 7, 8]), np.array([1, 3, 3]), np.array([2, 3, 3]), np.array([[1.0], [1.0], [1.0]])).tolist()
    [[0.0], [1.0], [0.0]]
    """
    first, span = min(shown.min(), logged.min()), max(shown.max(), logged.max()) + 1
    span -= first
    order = np.lexsort((logged, keys))
    stamps = keys[order] * span + (logged[order] - first)  # ascending by key, then hour
    sums = np.vstack([np.zeros(values.shape[1]), np.cumsum(values[order], axis=0)])
    start = np.searchsorted(stamps, keys * span)
    return np.asarray(sums[np.searchsorted(stamps, keys * span + (shown - first))] - sums[start])


# ---- the histories -----------------------------------------------------------------------------


def histories(log: Log, sequences: pa.Table, author: np.ndarray, tag: np.ndarray, known: np.ndarray) -> Columns:
    """How often videos and authors were watched, to the end and liked in all histories, and the user's own taste,
    down to how often this very video or author was in it.

    `author` and `tag` give each video's, by its id; `known` `[N]` says which rows have a history that ended before
    their request. All histories end at most an hour after the log begins: earlier rows see none of them.
    """
    ended = log["time_ms"] > sequences["last_time_ms"].to_numpy().max()
    lists = {name: _flat(sequences[f"{name}_seq"]) for name in ("watch", "long_watch", "like")}
    found: Columns = {}
    for name, group in (("video", np.arange(len(author))), ("author", author)):
        counts = {of: np.bincount(group[items], minlength=group.max() + 1) for of, (_, items) in lists.items()}
        for column, value in _lifts(name, counts):
            found[column] = np.where(ended, value[group[log["video_id"]]], np.nan)
    row = np.searchsorted(sequences["user_id"].to_numpy(), log["user_id"]).clip(max=sequences.num_rows - 1)
    for name, value in _taste(lists, sequences, row, tag, tag[log["video_id"]]):
        found[name] = np.where(known, value, np.nan)
    for name, value in _own(lists, row, author, log["video_id"]):
        found[name] = np.where(known, value, np.nan)
    return found


def _own(
    lists: Mapping[str, tuple[np.ndarray, np.ndarray]], row: np.ndarray, author: np.ndarray, video: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """Of a user's history, how often the candidate is in it, and how often its author."""
    groups = {"video": np.arange(len(author)), "author": author}
    for name, (what, of) in OWN.items():
        group, (users, items) = groups[what], lists[of]
        size = int(group.max()) + 1
        pairs, counts = np.unique(users * size + group[items], return_counts=True)
        asked = row * size + group[video]
        at = np.searchsorted(pairs, asked).clip(max=len(pairs) - 1)
        yield name, np.where(pairs[at] == asked, counts[at], 0)


def _flat(lists: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Each item's row and the item."""
    column = lists.combine_chunks()
    return np.repeat(np.arange(len(column)), np.diff(column.offsets.to_numpy())), column.flatten().to_numpy()


def _lifts(name: str, counts: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    watched = counts["watch"]
    yield f"{name}_watches", watched.astype(float)
    for of in ("long_watch", "like"):
        yield f"{name}_{of}_lift", lift(counts[of], watched * (counts[of].sum() / watched.sum()))


def _taste(
    lists: Mapping[str, tuple[np.ndarray, np.ndarray]],
    sequences: pa.Table,
    row: np.ndarray,
    tag: np.ndarray,
    wanted: np.ndarray,
) -> Iterator[tuple[str, np.ndarray]]:
    """Of a user's history, how much was watched to the end and liked, and how much has the candidate's tag."""
    length = sequences["history_len"].to_numpy()
    for of in ("long_watch", "like"):
        own = sequences[f"{of}_len"].to_numpy()
        yield f"user_{of}_lift", lift(own, length * (own.sum() / length.sum()))[row]
    tags = int(tag.max()) + 1
    for of in ("watch", "long_watch"):
        users, items = lists[of]
        counts = np.bincount(users * tags + tag[items], minlength=sequences.num_rows * tags).reshape(-1, tags)
        usual = counts.sum(axis=0) / counts.sum()
        yield f"tag_{of}_lift", lift(counts[row, wanted], counts.sum(axis=1)[row] * usual[wanted])
