"""The hash of texts: what the definition says of each, and no more than so much time for a long one."""

from __future__ import annotations

import time

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from towerspec.layers.features import PADDING
from towerspec.train import fnv
from towerspec.train.fnv import fnv1a


def plain(text: bytes) -> int:
    """FNV-1a as it is defined, a byte after the other."""
    found = 14695981039346656037
    for byte in text:
        found = (found ^ byte) * 1099511628211 % 2**64
    return found - 2**64 if found >= 2**63 else found


BYTES = st.binary(max_size=40) | st.integers(0, 3000).map(lambda n: b"ab\xff" * n) | st.none()


@settings(max_examples=150, deadline=None)
@given(few=st.lists(BYTES, max_size=20), copies=st.integers(1, 40), at=st.integers(0, 5))
def test_columns_of_any_lengths(few: list[bytes | None], copies: int, at: int) -> None:
    """More and fewer than `FEW` texts with a byte left, sliced or not."""
    rows = few * copies
    wanted = [PADDING if x is None else plain(x) for x in few] * copies
    for kind in (pa.binary(), pa.large_binary()):
        assert fnv1a(pa.array(rows, kind)[at:]).tolist() == wanted[at:]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=9) | st.none(), max_size=3 * fnv.FEW))
def test_texts_are_their_bytes(texts: list[str | None]) -> None:
    wanted = [PADDING if x is None else plain(x.encode()) for x in texts]
    assert fnv1a(pa.array(texts, pa.string())).tolist() == wanted


def test_a_long_text_costs_little_beside_many_short_ones() -> None:
    column = pa.array(["x" * 2_000_000, *(str(i) for i in range(30_000))])
    begin = time.process_time()
    fnv1a(column)
    assert time.process_time() - begin < 3, "a step of NumPy's for each byte takes 10"
