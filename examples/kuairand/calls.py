"""Prepared rows as calls of a serving graph: requests with their candidates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

COUNTS = "candidates_per_request"
CANDIDATES = 2048  # the most that one call takes

Arrays = dict[str, np.ndarray]
Entries = Sequence[Mapping[str, Any]]  # a surface's inputs, as the manifest lists them


class Rows:
    """One surface's rows of a prepared table; the rows of a request stand together in it."""

    def __init__(self, surface: str, entries: Entries, table: pa.Table) -> None:
        own = table.filter(pa.array(np.asarray(table["surface"]) == surface))
        self.surface, self.entries, self.columns = surface, entries, arrays(entries, own)
        self.request = own["request"].to_numpy()

    def calls(self, alone: bool = False) -> Iterator[Arrays]:
        """Inputs by name, in call order, for whole requests at a time; `alone` makes each row a request of its own."""
        starts = np.flatnonzero(np.diff(self.request, prepend=-1))
        ends = np.append(starts[1:], len(self.request))
        first = 0
        while first < len(starts):
            last = max(first + 1, int(np.searchsorted(ends, starts[first] + CANDIDATES, side="right")))
            candidates = np.arange(starts[first], ends[last - 1])
            requests = candidates if alone else starts[first:last]
            yield self._call(requests, candidates)
            first = last

    def _call(self, requests: np.ndarray, candidates: np.ndarray) -> Arrays:
        """What the request knows is read from its first row."""
        rows = {"request": requests, "candidate": candidates}
        call = {e["name"]: self.columns[e["name"]][rows[e["level"]]] for e in self.entries if e["name"] != COUNTS}
        return {**call, COUNTS: np.diff(np.append(requests, candidates[-1] + 1))}


def arrays(entries: Entries, table: pa.Table) -> Arrays:
    """A table's columns as inputs: float32, int64, and lists that end in padding."""
    return {e["name"]: _array(e, table[e["name"]].combine_chunks()) for e in entries if e["name"] != COUNTS}


def _array(entry: Mapping[str, Any], column: pa.Array) -> np.ndarray:
    if len(entry["shape"]) == 1:
        return np.array(column, dtype=entry["dtype"])
    lengths = np.diff(column.offsets.to_numpy())
    padded = np.full((len(column), entry["shape"][1]), -1, dtype=np.int64)
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = column.flatten().to_numpy()
    return padded
