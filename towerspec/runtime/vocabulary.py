"""Raw ids at the boundary: texts as 64-bit numbers, and the vocabulary that a table's rows were fitted to."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from towerspec.diagnostics import Diagnostic, SpecError
from towerspec.ids import MISSING, signed, usual, whole


def text_id(text: str | bytes) -> int:
    """A text as a 64-bit id: FNV-1a of its UTF-8 bytes, as a signed number.

    Fowler, Noll & Vo; draft-eastlake-fnv, section 6, has the constants.

    >>> hex(text_id("foobar") % 2**64)
    '0x85944171f73967e8'
    """
    found = 0xCBF29CE484222325
    for byte in text.encode() if isinstance(text, str) else text:
        found = (found ^ byte) * 0x100000001B3 % 2**64
    return signed(found)


def raw_id(text: str) -> int:
    """A text as a raw id of a vocabulary: the whole number that it is the usual form of, or its `text_id`.

    >>> raw_id("100"), raw_id("007") == text_id("007")
    (100, True)
    """
    form = usual(text)
    return text_id(form) if isinstance(form, str) else form


class Vocabulary:
    """The raw ids of a table's rows in row order: whole numbers, or texts; all others get the row `unknown`.

    A text that is the usual form of a whole number is that number, so that 100 and "100" are one id.
    """

    def __init__(self, ids: object, unknown: int) -> None:
        """From a build's list; raises `SpecError` (T701) where it is none, or longer than the table."""
        if not isinstance(ids, list) or len(ids) > unknown:
            raise _malformed(f"is no list of at most {unknown} ids")
        self.ids = torch.tensor([_raw(id_) for id_ in ids], dtype=torch.int64)
        # Callers may hash texts by themselves, numbers among them.
        hashed = [(text_id(id_), row) for row, id_ in enumerate(ids) if isinstance(id_, str) and whole(id_) is not None]
        keys = torch.cat([self.ids, torch.tensor([key for key, _ in hashed], dtype=torch.int64)])
        rows = torch.cat([torch.arange(len(ids)), torch.tensor([row for _, row in hashed], dtype=torch.int64)])
        self.sorted, order = torch.sort(keys, stable=True)  # of two that are one number, the first counts
        self.rows = rows[order]
        self.unknown = unknown

    def look_up(self, ids: Tensor) -> Tensor:
        """The rows of raw ids, texts as their numbers; -1 stays -1, which is missing."""
        if not len(self.sorted):
            return torch.where(ids == MISSING, ids, torch.full_like(ids, self.unknown))
        at = torch.searchsorted(self.sorted, ids).clamp(max=len(self.sorted) - 1)
        found = torch.where(self.sorted[at] == ids, self.rows[at], torch.full_like(ids, self.unknown))
        return torch.where(ids == MISSING, ids, found)

    def raw(self, rows: Tensor) -> Tensor:
        """Raw ids of rows; a row that has none gets one that the vocabulary doesn't know."""
        known = (rows >= 0) & (rows < len(self.ids))
        taken = set(self.sorted.tolist())
        other = torch.full_like(rows, next(id_ for id_ in itertools.count(7) if id_ not in taken))
        at = rows.clamp(0, max(len(self.ids) - 1, 0))
        return torch.where(known, self.ids[at] if len(self.ids) else rows, torch.where(rows < 0, rows, other))


def _raw(id_: object) -> int:
    if isinstance(id_, str):
        return raw_id(id_)
    if not isinstance(id_, int) or isinstance(id_, bool) or not -(2**63) <= id_ < 2**63:
        raise _malformed("holds what is neither a text nor a whole number of 64 bits")
    return id_


def _malformed(why: str) -> SpecError:
    help = "make the build anew with `towerspec compile`"
    return SpecError(Diagnostic("T701", f"a vocabulary of the build {why}", help=help))
