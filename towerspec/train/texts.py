"""The cells of a CSV file, which are all texts, as the values that they stand for."""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from towerspec.train.types import Malformed, is_list, is_text, with_items

_NUMBERS = r"^[-+0-9.eE|;, \[\]]*$"
# What cells may be; where a meaning has several types, in the order in which they are tried.
_TYPES: dict[str, tuple[pa.DataType, ...]] = {
    "int": (pa.int64(), pa.uint64(), pa.float64()),
    "float": (pa.float64(),),
    "bool": (pa.bool_(),),
}
WORDS = {"int": "a whole number", "float": "a number", "bool": "true or false"}


@dataclass(frozen=True)
class Reads:
    """The columns that a spec reads: which hold lists, which numbers, and which ids that may be texts.

    `nulls` are texts that stand for a missing value. Cells of those that are `verbatim` are texts, whatever they look
    like.
    """

    names: frozenset[str] = frozenset()
    listed: frozenset[str] = frozenset()
    numbers: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()
    nulls: tuple[str, ...] = ()
    verbatim: frozenset[str] = frozenset()


def guess(column: pa.Array, reads: Reads, name: str) -> str:
    """What the cells of a column hold, from its first ones: `int`, `float`, `bool` or `text`, each a cell or an item.

    A number may have a point later on though it has none in the first cells, and may be true or false.
    """
    column = without(column, reads.nulls).drop_null()
    if name in reads.listed:
        try:
            column = pc.list_flatten(split(column, "text" if _has_texts(column, reads.nulls) else "int"))
        except Malformed:  # said again, with its row, when the column is read
            return "text"
    column = without(pc.utf8_trim_whitespace(column), reads.nulls).drop_null()
    number = name in reads.numbers
    for name, kinds in (("float", _TYPES["float"]), ("bool", _TYPES["bool"])) if number else _WHOLE_FIRST:
        if any(_casts(column, kind) for kind in kinds):
            return name
    return "text"


_PADDED = r"^\s*[-+]?0[0-9]"


def padded(column: pa.Array, listed: bool = False) -> pa.Array:
    """Which cells begin with a nought that a whole number would lose, as 007 does; null is none.

    Of lists, those whose items only `|` can separate.
    """
    first = pc.match_substring_regex(column, r"(^|\|)\s*[-+]?0[0-9]" if listed else _PADDED)
    alone = pc.invert(pc.match_substring_regex(column, r"[;,\[\]]|[0-9] +[-+0-9]")) if listed else first
    return pc.fill_null(pc.and_(first, alone), False)


_WHOLE_FIRST = (("int", (pa.int64(), pa.uint64())), ("float", _TYPES["float"]))


def _casts(column: pa.Array, kind: pa.DataType) -> bool:
    try:
        pc.cast(column, kind)
        return True
    except pa.ArrowInvalid:
        return False


def _has_texts(lists: pa.Array, nulls: Sequence[str]) -> bool:
    """Whether an item of some cell is a text, and not only a number or a word for a missing one."""
    for word in sorted(nulls, key=len, reverse=True):
        lists = pc.replace_substring(lists, word, "") if word else lists
    return pc.all(pc.match_substring_regex(lists, _NUMBERS)).as_py() is False


def without(texts: pa.Array, nulls: Sequence[str]) -> pa.Array:
    """Texts, or lists of them, with null where one is a word for a missing value."""
    if not nulls:
        return texts
    if is_list(texts.type):
        return with_items(texts, lambda items: without(items, nulls)) if is_text(texts.type.value_type) else texts
    if not is_text(texts.type):
        return texts
    return pc.if_else(pc.is_in(texts, pa.array(nulls, texts.type)), pa.scalar(None, texts.type), texts)


def odd(column: pa.Array, nulls: Sequence[str]) -> tuple[int, str] | None:
    """The first cell that is no number: its row and what it says."""
    try:
        from_text(column, "float", nulls=nulls)
    except Malformed as error:
        return error.row, str(error.value)
    return None


def split(column: pa.Array, item: str) -> pa.Array:
    """Cells as lists of texts: items between `|`, and numbers also between `;`, commas or spaces, or in brackets.

    A cell in brackets is a list as JSON or Python write it.
    """
    pattern = r" *\| *"
    if item != "text":
        column, pattern = pc.utf8_trim(column, characters=" []"), r"[|;, ]+"
    lists = pc.split_pattern_regex(column, pattern)
    lists = pc.if_else(pc.fill_null(pc.equal(column, ""), False), pa.scalar([], lists.type), lists)
    if item != "text":
        return lists
    written = pc.fill_null(pc.match_substring_regex(column, r"^\s*\[.*\]\s*$"), False)
    return _with_written(column, lists, written) if pc.any(written).as_py() else lists


def _with_written(column: pa.Array, lists: pa.Array, written: pa.Array) -> pa.Array:
    """The lists with those cells read that are `written` out in brackets."""
    cells, found = column.to_pylist(), lists.to_pylist()
    for row in pc.indices_nonzero(written).to_pylist():
        found[row] = _literal(row, cells[row])
    return pa.array(found, lists.type)


def _literal(row: int, cell: str) -> Sequence[str | None]:
    for read in (json.loads, ast.literal_eval):
        try:
            items = read(cell.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(items, list) and all(x is None or isinstance(x, (str, int)) for x in items):
            return [None if x is None else str(x) for x in items]
    raise Malformed(row, cell, 'a list, such as `a|b` or `["a", "b"]`')


def from_text(column: pa.Array, item: str, listed: bool = False, nulls: Sequence[str] = ()) -> pa.Array:
    """A column of texts as the type that its cells hold, `nulls` as null; raises `Malformed`."""
    column = without(column, nulls)
    if listed:
        column = without(split(column, item), nulls)
    if item == "text":
        return column
    cells = column if listed else without(pc.utf8_trim_whitespace(column), ["", *nulls])
    for kind in _TYPES[item]:
        kind = pa.list_(kind) if listed else kind
        if _casts(cells, kind):
            return pc.cast(cells, kind)
    row = _first_wrong(cells, kind)
    raise Malformed(row, column[row].as_py(), f"a list, each {WORDS[item]}" if listed else WORDS[item])


def _first_wrong(cells: pa.Array, kind: pa.DataType) -> int:
    """The first cell that has not the type, found by halving."""
    low, high = 0, len(cells)
    while high - low > 1:
        middle = (low + high) // 2
        if _casts(cells.slice(low, middle - low), kind):
            low = middle
        else:
            high = middle
    return low
