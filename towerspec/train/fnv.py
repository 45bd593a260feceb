"""FNV-1a, the hash of texts as ids: the same in Python, C++ and here, for whole columns at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from towerspec.layers.features import PADDING

Array = np.ndarray[Any, Any]
OFFSET, PRIME = 0xCBF29CE484222325, 0x100000001B3
FEW = 64  # texts, from which on one after the other is as fast as a byte of each at a time


def fnv1a(column: pa.Array) -> Array:
    """Texts, or bytes, as 64-bit ids: FNV-1a of their UTF-8 bytes, as int64; null is -1.

    Fowler, Noll, Vo & Eastlake 2019, draft-eastlake-fnv.

    >>> hex(int(fnv1a(pa.array(["a"]))[0]) & 2**64 - 1)
    '0xaf63dc4c8601ec8c'
    """
    texts = pc.cast(column, pa.large_binary())
    _, offsets, data = texts.buffers()
    at = np.frombuffer(offsets, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    content = np.frombuffer(data or b"", dtype=np.uint8)
    hashes = np.full(len(texts), OFFSET, dtype=np.uint64)
    order = np.argsort(-np.diff(at), kind="stable")  # the longest first: those with a byte left are a prefix
    done = _together(content, at, order, hashes)
    for row in order[:FEW]:
        hashes[row] = _alone(int(hashes[row]), content[at[row] + done : at[row + 1]].tobytes())
    whole = hashes.view(np.int64)
    whole[texts.is_null().to_numpy(zero_copy_only=False)] = PADDING
    return whole


def _together(content: Array, at: Array, order: Array, hashes: Array) -> int:
    """Hashes a byte of every text at a time while more than `FEW` have one; the result is how many bytes of each."""
    lengths = np.diff(at)[order]
    done = int(lengths[FEW]) if len(order) > FEW else 0
    counts = np.searchsorted(-lengths, -np.arange(done), side="left")
    for position, count in enumerate(counts):
        rows = order[:count]
        hashes[rows] = (hashes[rows] ^ content[at[rows] + position]) * np.uint64(PRIME)
    return done


def _alone(found: int, rest: bytes) -> int:
    for byte in rest:
        found = (found ^ byte) * PRIME & 0xFFFFFFFFFFFFFFFF
    return found
