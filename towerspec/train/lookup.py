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

from towerspec.ids import Raw, usual

Array = np.ndarray[Any, Any]


class Vocabulary:
    """Raw ids in row order: whole numbers, texts, or some of each.

    A text that is the usual form of a whole number is that number, so that 100 and "100" are one id.
    """

    def __init__(self, raw: Sequence[Raw], wrap: bool = True) -> None:
        """From ids; with `wrap` numbers are 64 bits, with or without a sign."""
        self.raw, self.wrap = raw, wrap
        self._numbers: dict[int, int] = {}
        self._words: dict[str, int] = {}
        for row, id_ in enumerate(raw):
            form = usual(id_)
            if isinstance(form, str):
                self._words.setdefault(form, row)
            else:
                self._numbers.setdefault(form, row)

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
