"""A surface's inputs as its manifest describes them, checked before anything relies on them."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from towerspec.diagnostics import Diagnostic, SpecError
from towerspec.ids import Raw
from towerspec.runtime.samples import COUNTS

LARGEST = 2**31 - 1  # numbers or ids that a row may have
_INT64 = range(-(2**63), 2**63)
_ROWS = {"request": "R", "candidate": "N"}
_AXES = {"category": (1,), "sequence": (2,), "bag": (2,), "counts": (1,)}  # of the kinds that are whole numbers


@dataclass(frozen=True)
class Input:
    """One input of a surface: `rows` is `R`, one a request, or `N`, one a candidate; `sizes` are of the other axes."""

    name: str
    kind: str
    level: str
    rows: str
    sizes: tuple[int, ...]
    whole: bool  # int64; otherwise float32
    optional: bool = False
    range: tuple[int, int] | None = None  # ids with a row of their own
    values: tuple[Raw, ...] = ()  # what ids stand for, in order
    by_value: bool = False  # whether a number is one of the values, and not the place of one
    hashed: bool = False  # any 64-bit id has a row
    vocabulary: str | None = None  # the table whose raw ids the build knows

    @property
    def listed(self) -> bool:
        """Whether a row is a list of ids."""
        return self.whole and len(self.sizes) == 1

    @functools.cached_property
    def places(self) -> Mapping[Raw, int]:
        """The ids of the values."""
        return {value: at for at, value in enumerate(self.values)}

    @property
    def raw(self) -> bool:
        """Whether it takes raw ids, which are looked up before the graph is called."""
        return self.by_value or self.vocabulary is not None

    @property
    def takes_any(self) -> bool:
        """Whether it takes any 64-bit id, and any text."""
        return self.hashed or self.vocabulary is not None

    @property
    def takes_texts(self) -> bool:
        return self.takes_any or self.by_value or bool(self.values)

    @property
    def takes(self) -> str:
        """What a value may be, in words."""
        if not self.whole:
            return "numbers"
        return "whole numbers or texts" if self.takes_texts else "whole numbers"

    @property
    def shape(self) -> str:
        return f"[{', '.join(map(str, (self.rows, *self.sizes)))}]"

    @property
    def wanted(self) -> str:
        rows = "one row a request" if self.rows == "R" else "one row a candidate"
        return f"give {'int64' if self.whole else 'float32'} of shape {self.shape}, {rows}"


def read_entries(surface: str, entries: object) -> tuple[Input, ...]:
    """The inputs that a manifest's list describes.

    Raises:
        SpecError: an entry lacks something, or its parts disagree (T701).
    """
    try:
        if not isinstance(entries, (list, tuple)):
            raise _Wrong("they are no list")
        inputs = tuple(_input(at, entry) for at, entry in enumerate(entries))
        _check_together(inputs)
    except _Wrong as wrong:
        message = f"surface `{surface}`: the manifest describes its inputs wrongly: {wrong}"
        raise SpecError(Diagnostic("T701", message, help="make the build anew with `towerspec compile`")) from None
    return inputs


class _Wrong(Exception):
    """What is wrong with an entry."""


def _input(at: int, entry: object) -> Input:
    if not isinstance(entry, Mapping):
        raise _Wrong(f"entry {at} is no object")
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        raise _Wrong(f"entry {at} has no name")
    said: list[Any] = [entry.get(key) for key in ("kind", "level", "dtype", "shape")]
    kind, level, dtype, shape = said
    _require(isinstance(kind, str), name, "has no kind")
    _require(isinstance(level, str) and level in _ROWS, name, "has a level that is not `request` or `candidate`")
    _require(
        isinstance(dtype, str) and dtype in ("int64", "float32"), name, "has a dtype that is not `int64` or `float32`"
    )
    _require(_is_shape(shape, _ROWS[level]), name, f"has a shape that is not `{_ROWS[level]}` and sizes from 1 up")
    whole, axes = dtype == "int64", len(shape)
    fits = axes in _AXES.get(kind, (1, 2)) if whole else kind not in _AXES
    _require(fits, name, f"has the kind `{kind}`, and {dtype} of {axes} ax{'i' if axes == 1 else 'e'}s")
    optional = entry.get("optional", False)
    _require(isinstance(optional, bool), name, "has an `optional` that is not true or false")
    return Input(name, kind, level, shape[0], tuple(shape[1:]), whole, optional, **_ids(name, kind, whole, entry))


def _is_shape(shape: Any, rows: str) -> bool:
    return (
        isinstance(shape, (list, tuple))
        and list(shape[:1]) == [rows]
        and all(_is_whole(size) and 1 <= size <= LARGEST for size in shape[1:])
        and math.prod(shape[1:]) <= LARGEST
    )


def _ids(name: str, kind: str, whole: bool, entry: Mapping[str, Any]) -> dict[str, Any]:
    """What an entry says of its ids."""
    keys = ("range", "values", "numbers", "ids", "vocabulary")
    bounds, values, numbers, ids, vocabulary = (entry.get(key) for key in keys)
    said = any(x is not None for x in (bounds, values, numbers, ids, vocabulary))
    _require(not said or (whole and kind != "counts"), name, "has a range, values or a vocabulary, and takes no ids")
    if bounds is not None:
        _require(_is_range(bounds), name, "has a range that is not two whole numbers, the lower one first")
    _require(ids in (None, "direct", "hash", "fitted"), name, "has `ids` that are not `direct`, `hash` or `fitted`")
    needed = whole and kind != "counts" and ids != "hash"
    _require(bounds is not None or not needed, name, "has no range")
    _require(numbers in (None, "values"), name, "has `numbers` that are not `values`")
    _require(numbers is None or values is not None, name, "has `numbers` that are values, and no values")
    what = "texts" if numbers is None else "texts and whole numbers"
    _require(
        values is None or _are_values(values, numbers is not None), name, f"has values that are not different {what}"
    )
    named = vocabulary is None or (isinstance(vocabulary, str) and vocabulary != "")
    _require(named, name, "has a vocabulary that is no table's name")
    _require(vocabulary is None or ids != "hash", name, "has both hashed ids and a vocabulary")
    return {
        "range": None if bounds is None else (bounds[0], bounds[1]),
        "values": tuple(values or ()),
        "by_value": numbers is not None,
        "hashed": ids == "hash",
        "vocabulary": vocabulary,
    }


def _are_values(values: object, numbers: bool) -> bool:
    if not isinstance(values, list):
        return False
    fits = all(isinstance(x, str) or (numbers and _is_whole(x)) for x in values)
    return fits and len(set(values)) == len(values)


def _is_whole(x: object) -> bool:
    return isinstance(x, int) and not isinstance(x, bool) and x in _INT64


def _is_range(x: Any) -> bool:
    return isinstance(x, (list, tuple)) and len(x) == 2 and all(map(_is_whole, x)) and x[0] <= x[1]


def _check_together(inputs: Sequence[Input]) -> None:
    """What entries have to be beside each other: one of each name, and counts last, where both levels are."""
    names: set[str] = set()
    for at, input in enumerate(inputs):
        _require(input.name not in names, input.name, "is there twice")
        names.add(input.name)
        counts = input.kind == "counts"
        _require(not counts or input.name == COUNTS, input.name, f"has counts and is not named `{COUNTS}`")
        _require(input.optional == counts, input.name, f"is {'not ' if counts else ''}optional")
        last = at == len(inputs) - 1 and {x.rows for x in inputs[:at]} == {"R", "N"} and input.rows == "R"
        _require(not counts or last, input.name, "is not the last one of inputs of both levels")


def _require(fine: bool, name: str, why: str) -> None:
    if not fine:
        raise _Wrong(f"`{name}` {why}")
