"""What a column is read as, whatever type its writer gave it: numbers, texts, times, lists of those, or nothing.

`plain_type` says it of a type and `plain` does it to rows. What stands behind another type, such as a dictionary's
values or a UUID's text, is decided here alone.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


class Malformed(Exception):
    """A row without a meaning: its position in the column, what it holds, and what a row has to be."""

    def __init__(self, row: int, value: object, wanted: str) -> None:
        super().__init__(f"row {row} holds {value!r}, not {wanted}")
        self.row, self.value, self.wanted = row, value, wanted


# ---- of plain types ----------------------------------------------------------------------------


def is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_list(kind: pa.DataType) -> bool:
    return any(getattr(pa.types, f"is_{name}")(kind) for name in _LISTS)


def is_number(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_decimal(kind)
        or types.is_boolean(kind)
        or types.is_null(kind)
    )


def is_id(kind: pa.DataType) -> bool:
    """Whether a column of numbers may hold ids: true and false are none."""
    return is_number(kind) and not pa.types.is_boolean(kind)


def is_moment(kind: pa.DataType) -> bool:
    """Whether it is a date, a time of day, or both; a length of time is none."""
    return bool(pa.types.is_date(kind) or pa.types.is_time(kind) or pa.types.is_timestamp(kind))


# ---- plain types -------------------------------------------------------------------------------

_LISTS = ("list", "large_list", "fixed_size_list", "list_view", "large_list_view")
_NANOSECONDS = {"D": 86_400 * 10**9, "s": 10**9, "ms": 10**6, "us": 1000, "ns": 1}
_EXTENSIONS = {"arrow.bool8": pa.bool_(), "arrow.uuid": pa.string(), "arrow.json": pa.string()}


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type that `plain` gives a column of a type; a type that it doesn't know stays."""
    types = pa.types
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return _EXTENSIONS.get(kind.extension_name, kind)
    if types.is_decimal32(kind) or types.is_decimal64(kind):
        return pa.decimal128(38, kind.scale)
    if types.is_large_binary(kind):
        return pa.large_string()
    if types.is_string_view(kind) or _is_bytes(kind):
        return pa.string()
    if is_list(kind):
        return pa.list_(plain_type(kind.value_type))
    return kind


def plain(column: pa.Array) -> pa.Array:
    """A column in its plain type: bytes are texts in UTF-8, a UUID is its text; raises `Malformed` at other bytes."""
    column = storage(column)
    if is_list(column.type) and column.type.value_type != plain_type(column.type.value_type):
        try:
            return with_items(column, plain)
        except Malformed as error:
            lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
            row = int(np.searchsorted(np.cumsum(lengths), error.row, side="right"))
            raise Malformed(row, error.value, f"a list, each item {error.wanted}") from None
    if not _is_bytes(column.type):
        return column
    try:
        return pc.cast(column, plain_type(column.type))
    except pa.ArrowInvalid:
        raise _no_text(column) from None


def storage(column: pa.Array) -> pa.Array:
    """A column as Arrow's functions take it, bytes as they are: without views, dictionaries, runs and extensions."""
    kind, types = column.type, pa.types
    if types.is_run_end_encoded(kind):
        ends = column.run_ends.to_numpy()
        at = np.searchsorted(ends, np.arange(len(column)) + column.offset, side="right")
        return storage(column.values).take(pa.array(at))
    if types.is_dictionary(kind):
        return storage(column.dictionary).take(column.indices)
    if isinstance(kind, pa.BaseExtensionType):
        return _of_extension(column)
    if types.is_decimal32(kind) or types.is_decimal64(kind) or types.is_string_view(kind):
        return pc.cast(column, plain_type(kind))
    if types.is_binary_view(kind) or types.is_fixed_size_binary(kind):
        return pc.cast(column, pa.binary())
    if not is_list(kind) or (types.is_list(kind) and kind.value_type == plain_type(kind.value_type)):
        return column
    return with_items(column, storage)


def instants(column: pa.Array) -> np.ndarray[Any, Any]:
    """Dates and times as int64 nanoseconds, modulo 2^64, so that a moment is the same in every unit; null is any."""
    kind = column.type
    unit = "D" if pa.types.is_date32(kind) else "ms" if pa.types.is_date64(kind) else kind.unit
    raw = column.view(pa.int32() if kind.bit_width == 32 else pa.int64())
    return np.asarray(pc.fill_null(raw, 0).to_numpy().astype(np.int64) * np.int64(_NANOSECONDS[unit]))


def _of_extension(column: pa.Array) -> pa.Array:
    kind = plain_type(column.type)
    if column.type.extension_name == "arrow.uuid":
        return pa.array([None if x is None else str(uuid.UUID(bytes=x)) for x in column.storage.to_pylist()], kind)
    return column if kind == column.type else pc.cast(storage(column.storage), kind)


def with_items(column: pa.Array, change: Callable[[pa.Array], pa.Array]) -> pa.Array:
    """Lists of any type as plain lists, with their items changed."""
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    return pa.ListArray.from_arrays(offsets, change(pc.list_flatten(column)), mask=column.is_null())


def _is_bytes(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
        or types.is_fixed_size_binary(kind)
    )


def _no_text(column: pa.Array) -> Malformed:
    """The first bytes that are no UTF-8."""
    for row, value in enumerate(column.to_pylist()):
        try:
            (value or b"").decode()
        except UnicodeDecodeError:
            return Malformed(row, value, "a text in UTF-8")
    raise AssertionError("all of them are")
