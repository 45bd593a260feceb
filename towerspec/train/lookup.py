"""Raw ids as the rows of a table: by a vocabulary that training fitted or the spec lists, or by a hash.

Nothing here needs torch.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from towerspec.ids import Raw, signed, whole
from towerspec.layers.features import PADDING

Array = np.ndarray[Any, Any]
_FNV_OFFSET, _FNV_PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)


class Vocabulary:
    """Raw ids in row order: whole numbers, texts, or some of each.

    A text that is the usual form of a whole number is that number, so that 100 and "100" are one id.
    """

    def __init__(self, raw: Sequence[Raw], wrap: bool = True) -> None:
        """From ids; with `wrap` numbers are 64 bits, with or without a sign."""
        self.raw, self.wrap = raw, wrap
        self._numbers = {id_: row for row, id_ in enumerate(raw) if not isinstance(id_, str)}
        self._words: dict[str, int] = {}
        for row, id_ in enumerate(raw):
            if isinstance(id_, str):
                number = whole(id_)
                if number is None:
                    self._words[id_] = row
                else:
                    self._numbers.setdefault(signed(number), row)

    def __len__(self) -> int:
        return len(self.raw)

    @property
    def unreachable(self) -> str | None:
        """A text that no number means and that says one all the same, such as `007`, if there is any."""
        return next((word for word in self._words if word.isdigit()), None)

    def find(self, column: pa.Array) -> Array:
        """The rows of texts, or of numbers as int64; as many as there are for null, and for what it doesn't have."""
        text = column.type != pa.int64()
        known, rows = self._texts if text else self._whole
        found = pc.index_in(pc.cast(column, pa.string()) if text else column, known)
        return np.append(rows, len(self))[pc.fill_null(found, len(rows)).to_numpy()]

    @functools.cached_property
    def _whole(self) -> tuple[pa.Array, Array]:
        return pa.array(self._numbers, pa.int64()), np.fromiter(self._numbers.values(), dtype=np.int64)

    @functools.cached_property
    def _texts(self) -> tuple[pa.Array, Array]:
        known = {str(number): row for number, row in self._numbers.items()}
        known |= {str(number + 2**64): row for number, row in self._numbers.items() if number < 0 and self.wrap}
        known |= self._words
        return pa.array(known, pa.string()), np.fromiter(known.values(), dtype=np.int64)


@functools.lru_cache(maxsize=1024)
def vocabulary_of(values: tuple[Raw, ...]) -> Vocabulary:
    """The vocabulary that a spec's `values` are."""
    return Vocabulary(values, wrap=False)


def fnv1a(column: pa.Array) -> Array:
    """Texts as 64-bit ids: FNV-1a of their UTF-8 bytes, as int64; null is -1.

    >>> hex(int(fnv1a(pa.array(["a"]))[0]) & 2**64 - 1)
    '0xaf63dc4c8601ec8c'
    """
    texts = pc.cast(column, pa.large_string())
    _, offsets, data = texts.buffers()
    at = np.frombuffer(offsets, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    content = np.frombuffer(data or b"", dtype=np.uint8)
    hashes = np.full(len(texts), _FNV_OFFSET, dtype=np.uint64)
    lengths = np.diff(at)
    order = np.argsort(-lengths, kind="stable")  # the longest first: those with a byte left are a prefix
    ends = np.searchsorted(-lengths[order], -np.arange(int(lengths.max(initial=0))), side="left")
    for position, count in enumerate(ends):
        rows = order[:count]
        hashes[rows] = (hashes[rows] ^ content[at[rows] + position]) * _FNV_PRIME
    whole = hashes.view(np.int64)
    whole[texts.is_null().to_numpy(zero_copy_only=False)] = PADDING
    return whole
