"""From a column as a file holds it to the numbers that the generated model takes, whole columns at a time.

Each function gives an array with a row for each of the column's, and raises `Malformed` at the first row that has no
meaning. Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from towerspec.ids import Raw, by_value
from towerspec.layers.features import PADDING
from towerspec.layers.heads import Count, Head, Multiclass, Regression
from towerspec.train.columns import Coding
from towerspec.train.fnv import fnv1a
from towerspec.train.lookup import Vocabulary, vocabulary_of
from towerspec.train.types import Malformed, instants, is_id, is_moment, is_text, plain

Array = np.ndarray[Any, Any]
_NUMBER = r"^[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?$"
_LARGEST = np.iinfo(np.int64).max
LARGEST_LABEL = 1e19  # the square of a larger one has no place in float32, so that no loss of it would be a number


# ---- numbers -----------------------------------------------------------------------------------


def numbers(column: pa.Array, width: int = 0) -> Array:
    """Numbers as float32, `[n]` or `[n, width]`; null is NaN.

    >>> numbers(pa.array([3, None])).tolist()
    [3.0, nan]
    """
    if not width:
        return _narrow(floats(column))
    column = plain(column)
    if pa.types.is_null(column.type):
        column = column.cast(pa.list_(pa.float64()))
    lengths, items = _lengths(column), floats(pc.list_flatten(column))
    whole = column.is_valid().to_numpy(zero_copy_only=False)
    wrong = np.flatnonzero(whole & (lengths != width))
    if len(wrong):
        raise Malformed(int(wrong[0]), column[int(wrong[0])].as_py(), f"a list of {width} numbers")
    out = np.full((len(column), width), np.nan, dtype=np.float32)
    out[whole] = _narrow(items).reshape(-1, width)
    return out


def _narrow(values: Array) -> Array:
    """In float32; what is too large for it is infinite, and so missing."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def floats(column: pa.Array) -> Array:
    """Numbers in float64; null is NaN."""
    return np.asarray(pc.fill_null(pc.cast(plain(column), pa.float64(), safe=False), float("nan")).to_numpy())


# ---- ids ---------------------------------------------------------------------------------------


def ids(column: pa.Array, coding: Coding, vocabulary: Vocabulary | None = None, cells: bool = False) -> Array:
    """Raw ids as int64 `[n]`; null is -1. Texts that are `cells` of CSV may stand for numbers among the values.

    >>> ids(pa.array(["NORMAL", None, "LIVE"]), Coding("direct", "", 2, ("AD", "NORMAL"))).tolist()
    [1, -1, 2]
    """
    column = plain(column)
    if coding.mode == "fitted":
        if vocabulary is None:
            raise ValueError(f"the table {coding.table} has no vocabulary yet")
        return looked_up(column, vocabulary, coding.rows, wrap=True)
    if not is_text(column.type) and len(column) and not is_id(column.type):
        raise Malformed(0, column[0].as_py(), "a whole number")
    if coding.values:
        return _by_values(column, coding.values, cells)
    if is_text(column.type):
        return fnv1a(column)
    return integers(column, wrap=coding.mode == "hash")


def integers(column: pa.Array, wrap: bool = False) -> Array:
    """Whole numbers of any type as int64, null as -1; with `wrap`, 64 unsigned bits keep their bits."""
    if pa.types.is_uint64(column.type):
        raw = pc.fill_null(column, 0).to_numpy().astype(np.uint64)
        whole = raw.view(np.int64).copy() if wrap else np.minimum(raw, np.uint64(_LARGEST)).astype(np.int64)
        whole[column.is_null().to_numpy(zero_copy_only=False)] = PADDING
        return np.asarray(whole)
    if pa.types.is_floating(column.type):
        return _from_floats(column)
    if pa.types.is_decimal(column.type):
        return _from_decimals(column, wrap)
    return np.asarray(pc.fill_null(pc.cast(column, pa.int64()), PADDING).to_numpy())


def _from_floats(column: pa.Array) -> Array:
    """Whole numbers from floats, as far as their type tells them apart: up to 2^53 in float64, 2^24 in float32."""
    values, bits = floats(column), {16: 11, 32: 24, 64: 53}[column.type.bit_width]
    wrong = np.flatnonzero(~np.isnan(values) & ((values != np.floor(values)) | (np.abs(values) > 2**bits)))
    if len(wrong):
        raise Malformed(int(wrong[0]), column[int(wrong[0])].as_py(), f"a whole number up to 2^{bits}")
    return np.where(np.isnan(values), PADDING, values).astype(np.int64)


def _from_decimals(column: pa.Array, wrap: bool) -> Array:
    """Whole numbers of at most 64 bits from decimals, with all of their digits."""
    try:
        return integers(pc.cast(column, pa.int64()))
    except pa.ArrowInvalid:  # one isn't whole, or has no place in 63 bits
        found = np.full(len(column), PADDING, dtype=np.int64)
    for row, value in enumerate(column.to_pylist()):
        if value is not None:
            if value != value.to_integral_value() or not -(2**63) <= value < 2**64:
                raise Malformed(row, value, "a whole number of at most 64 bits")
            beyond = int(value) - 2**64 if wrap else _LARGEST
            found[row] = beyond if value > _LARGEST else int(value)
    return found


def is_missing(column: pa.Array, wrap: bool = True) -> pa.Array:
    """Which texts, or numbers as int64, stand for no id: null and -1; with `wrap` also the text of -1's 64 bits."""
    if not is_text(column.type):
        return pc.equal(column, PADDING)
    none = [str(PADDING), str(PADDING + 2**64)][: 1 + wrap]
    return pc.or_(column.is_null(), pc.is_in(column, pa.array(none, column.type)))


def looked_up(column: pa.Array, vocabulary: Vocabulary, unknown: int, wrap: bool) -> Array:
    """The rows of raw ids, `unknown` for those that have none, and -1 for those that are missing."""
    column = column if is_text(column.type) else pa.array(integers(column, wrap))
    found = vocabulary.find(column)
    missing = is_missing(column, wrap).to_numpy(zero_copy_only=False)
    return np.where(missing, PADDING, np.where(found < len(vocabulary), found, unknown))


def _by_values(column: pa.Array, values: tuple[Raw, ...], cells: bool) -> Array:
    """Ids by the spec's list; what is not in it is unknown. In `cells` of CSV, texts may be numbers."""
    if cells and is_text(column.type):
        return _cells(column, values, lambda x: _by_values(x, values, cells=False))
    if by_value(values):
        return looked_up(column, vocabulary_of(values), len(values), wrap=False)
    if not is_text(column.type):
        return integers(column)
    return np.where(column.is_null().to_numpy(zero_copy_only=False), PADDING, vocabulary_of(values).find(column))


def _cells(column: pa.Array, values: tuple[Raw, ...], read: Callable[[pa.Array], Array]) -> Array:
    """A CSV file's cells as `read` reads them: values as they stand, and others as the numbers that they say."""
    found, trimmed = read(column), pc.utf8_trim_whitespace(column)
    written = pc.is_in(column, pa.array([str(value) for value in values], column.type))
    numbers = pc.and_not(pc.fill_null(pc.match_substring_regex(trimmed, _NUMBER), False), written)
    at = np.flatnonzero(numbers.to_numpy(zero_copy_only=False))
    if not len(at):
        return found
    texts = trimmed.take(pa.array(at))
    try:
        found[at] = read(next(filter(None, (_cast(texts, kind) for kind in (pa.int64(), pa.uint64(), pa.float64())))))
    except Malformed as error:
        row = int(at[error.row])
        raise Malformed(row, column[row].as_py(), error.wanted) from None
    return found


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array | None:
    try:
        return pc.cast(column, kind)
    except pa.ArrowInvalid:
        return None


# ---- lists -------------------------------------------------------------------------------------


def lists(
    column: pa.Array, length: int, coding: Coding, vocabulary: Vocabulary | None = None, cells: bool = False
) -> Array:
    """Lists of raw ids as int64 `[n, length]`: each one's newest, then padding; null is empty.

    >>> lists(pa.array([[1, 2, 3], None, [4]]), 2, Coding("direct", "", 9)).tolist()
    [[2, 3], [-1, -1], [4, -1]]
    """
    column = plain(column)
    if pa.types.is_null(column.type):
        column = column.cast(pa.list_(pa.int64()))
    lengths = _lengths(column)
    kept = np.minimum(lengths, length)
    total = int(kept.sum())
    first = np.cumsum(kept) - kept
    position = np.arange(total) - np.repeat(first, kept)
    picked = np.repeat(np.cumsum(lengths) - kept, kept) + position
    try:
        found = ids(plain(pc.list_flatten(column)).take(pa.array(picked, pa.int64())), coding, vocabulary, cells)
    except Malformed as error:
        row = int(np.repeat(np.arange(len(kept)), kept)[error.row])
        raise Malformed(row, error.value, f"a list of ids, each {error.wanted}") from None
    out = np.full((len(column), length), PADDING, dtype=np.int64)
    out[np.repeat(np.arange(len(column)), kept), position] = found
    return out


def _lengths(column: pa.Array) -> Array:
    return np.asarray(pc.fill_null(pc.list_value_length(column), 0).to_numpy()).astype(np.int64)


# ---- surfaces and requests ----------------------------------------------------------------------


def as_texts(column: pa.Array) -> pa.Array:
    """What a surface column holds as texts; a whole number is the same one in every type."""
    if pa.types.is_decimal(column.type):
        try:
            column = pc.cast(column, pa.int64())
        except pa.ArrowInvalid:  # not whole
            column = pc.cast(column, pa.float64())
    return pc.cast(column, pa.string())


def as_numbers(column: pa.Array) -> Array:
    """What a request column holds as a number each; raises `Malformed`."""
    if is_moment(column.type):
        return instants(column)
    return integers(column, wrap=True) if is_id(column.type) else fnv1a(column)


# ---- labels ------------------------------------------------------------------------------------


def labels(column: pa.Array, head: Head, counted: Array, cells: bool = False) -> Array:
    """A task's labels as float32 `[n]`: NaN where there is none, and where `counted` (`[n]` bool) is false.

    A multiclass label is one of the head's `values`, or, where none of those is a number, a class's index.
    """
    column = plain(column)
    column = pc.if_else(pa.array(counted), column, pa.scalar(None, column.type))
    values: tuple[Raw, ...] = getattr(head, "values", None) or ()
    try:
        found = _classes(column, values, cells) if values else floats(column)
    except Malformed as error:
        raise Malformed(error.row, error.value, wanted_label(head)) from None
    wrong = np.flatnonzero(~np.isnan(found) & ~_allowed(found, head))
    if len(wrong):
        raise Malformed(int(wrong[0]), column[int(wrong[0])].as_py(), wanted_label(head))
    return found.astype(np.float32)


def _classes(column: pa.Array, values: tuple[Raw, ...], cells: bool) -> Array:
    """The classes of labels by the head's list, one too many for what isn't in it; NaN where there is none."""
    if cells and is_text(column.type):
        return _cells(column, values, lambda x: _classes(x, values, cells=False))
    if not is_text(column.type) and not by_value(values):
        return floats(column)
    found = vocabulary_of(values).find(column if is_text(column.type) else pa.array(integers(column)))
    return np.where(column.is_null(nan_is_null=True).to_numpy(zero_copy_only=False), np.nan, found)


def _allowed(found: Array, head: Head) -> Array:
    if isinstance(head, Multiclass):
        return (found == np.floor(found)) & (found >= 0) & (found < head.width())
    if isinstance(head, Count):
        return (found >= 0) & (found <= LARGEST_LABEL)
    return np.abs(found) <= LARGEST_LABEL if isinstance(head, Regression) else (found == 0) | (found == 1)


def wanted_label(head: Head) -> str:
    """What a label of a kind of head has to be, in words."""
    if isinstance(head, Multiclass):
        names = ", ".join(str(value) for value in (head.values or ())[:8])
        more = "" if by_value(head.values or ()) else ", or its index"
        return f"one of {names}{more}" if names else f"a class from 0 to {head.width() - 1}"
    if isinstance(head, Count):
        return f"a number from 0 to {LARGEST_LABEL:g}"
    return f"a number of at most {LARGEST_LABEL:g} in size" if isinstance(head, Regression) else "0 or 1"
