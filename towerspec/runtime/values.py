"""One input's value at a call, whatever holds it, as the tensor that the graph takes; docs/inputs.md has the rules.

`measured` gives a tensor of the manifest's shape, in any accepted type. `converted`, called once the rows of all inputs
fit together, makes it int64 or float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import torch
from torch import Tensor

from towerspec.ids import MISSING, whole
from towerspec.runtime.entries import Input
from towerspec.runtime.vocabulary import text_id

_INT64, _UINT64 = range(-(2**63), 2**63), range(2**63, 2**64)
_EXACT = {torch.float64: 53, torch.float32: 24, torch.float16: 11, torch.bfloat16: 8}  # bits of a whole number
_IDS = {getattr(torch, f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)} | set(_EXACT)
_NUMBERS = _IDS | {torch.bool}


class Unfit(Exception):
    """What is wrong with an input's value, as the end of a sentence, and the code of the error."""

    def __init__(self, code: str, what: str) -> None:
        super().__init__(what)
        self.code, self.what = code, what


def measured(input: Input, value: Any, device: torch.device) -> Tensor:
    """A value as a tensor of an input's shape, in any accepted type, on the device; raises `Unfit`."""
    held = value if isinstance(value, Tensor) else _held(value)
    if isinstance(held, list):
        return _listed(input, held).to(device)
    x = plain(held, device) if held is value else held.to(device)
    if x.dtype not in (_IDS if input.whole else _NUMBERS):
        raise Unfit("T704", f"has the type {str(x.dtype).removeprefix('torch.')}")
    shape = tuple(x.shape)
    if shape == (0,) and input.sizes:  # no rows have the right width, whatever it is
        return x.reshape(0, *input.sizes)
    if not shape or shape[1:] != input.sizes:
        raise Unfit("T705", f"has the shape {list(shape)}")
    return x


# ---- what holds a value ------------------------------------------------------------------------


def _held(value: Any) -> Tensor | list[Any]:
    """A value's rows: a tensor of numbers, or a list of whatever they are. No package is asked for by its name."""
    if isinstance(value, (list, tuple)):
        return list(value)
    if hasattr(value, "filled"):  # NumPy's masked arrays
        return list(value.tolist())
    if hasattr(value, "__array__"):
        gaps = _gaps(value)
        if gaps is False or _is_floating(value):  # a gap among floats is NaN
            array = value.__array__()
            if array.dtype.kind in "iufb":
                return _from_numpy(array)
            if array.dtype.kind not in "OUST":
                raise Unfit("T704", f"has the type {array.dtype}")
        return _items(value, gaps)
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray)):
        return list(value)
    raise Unfit("T704", "is not a list")


def _gaps(value: Any) -> Any:
    """Which rows are missing (pandas), or whether any is (Arrow, Polars)."""
    if hasattr(value, "isna"):
        gaps = value.isna().__array__()
        return gaps if gaps.any() else False
    nulls = getattr(value, "null_count", 0)
    return bool(nulls() if callable(nulls) else nulls)


def _is_floating(value: Any) -> bool:
    named = str(getattr(value, "dtype", None) or getattr(value, "type", "")).lower()
    return named.startswith(("float", "double", "halffloat"))


def _items(value: Any, gaps: Any) -> list[Any]:
    for method in ("to_pylist", "to_list", "tolist"):
        if hasattr(value, method):
            items = list(getattr(value, method)())
            return items if isinstance(gaps, bool) else [None if gap else x for x, gap in zip(items, gaps, strict=True)]
    array = value.__array__().astype(object)  # a pandas table
    if not isinstance(gaps, bool):
        array[gaps] = None
    return list(array.tolist())


def _from_numpy(array: Any) -> Tensor:
    if not array.dtype.isnative or not array.flags.carray:  # neither reversed, nor read-only, nor misaligned
        array = array.astype(array.dtype.newbyteorder("="), order="C", copy=True)
    try:
        return torch.from_numpy(array)
    except TypeError:
        raise Unfit("T704", f"has the type {array.dtype}") from None


def plain(x: Tensor, device: torch.device) -> Tensor:
    """A tensor whose memory is what its shape says; raises `Unfit` where that can't be had, as of a sparse one."""
    if x.is_nested:
        what = "nested"
    elif type(x).__torch_dispatch__ is not Tensor.__torch_dispatch__:
        what = f"a {type(x).__name__}"
    elif x.is_quantized:
        what = "quantised"
    elif x.is_meta:
        what = "without memory, on the device `meta`"
    elif x.layout != torch.strided:
        what = "sparse" if "sparse" in str(x.layout) else "laid out for oneDNN"
    elif x.device.type != device.type or device.index not in (None, x.device.index):
        what = f"on the device `{x.device}`, and the surface on `{device}`"
    elif _reaches(x) > x.untyped_storage().nbytes():
        what = "larger than its memory"
    else:
        x = x.detach() if x.requires_grad else x
        return x.resolve_neg() if x.is_neg() else x
    raise Unfit("T704", f"is {what}")


def _reaches(x: Tensor) -> int:
    """How many bytes of its storage a tensor's rows reach to."""
    if not x.numel():
        return 0
    if x.is_contiguous():
        last = x.numel()
    else:
        last = 1 + sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True))
    return int(x.storage_offset() + last) * x.element_size()


# ---- lists -------------------------------------------------------------------------------------


def _listed(input: Input, rows: list[Any]) -> Tensor:
    """Rows of ids or numbers, texts as ids, and ragged lists as padded ones."""
    if not input.whole:
        return _numbers(rows, input.sizes, None)
    if not input.listed:
        return torch.tensor(_ids(input, rows, None), dtype=torch.int64)
    length, padded = input.sizes[0], []
    for row, items in enumerate(rows):
        ids = _ids(input, (_list(items, row) or [])[-length:], row)
        padded.append(ids + [MISSING] * (length - len(ids)))
    return torch.tensor(padded, dtype=torch.int64).reshape(len(rows), length)


def _list(items: Any, row: int) -> list[Any] | None:
    """A row that is to be a list; none where it is missing."""
    if isinstance(items, list) or _is_missing(items):
        return None if _is_missing(items) else items
    found = list(items) if isinstance(items, tuple) else items
    if hasattr(items, "tolist") and getattr(items, "ndim", True):
        if isinstance(items, Tensor):
            plain(items, items.device)
        found = items.tolist()
    if not isinstance(found, list):
        raise Unfit("T705", f"holds no list in row {row}")
    return found


def _ids(input: Input, items: list[Any], row: int | None) -> list[int]:
    if set(map(type, items)) == {int} and min(items) in _INT64 and max(items) in _INT64:
        return items
    return [_id(input, item, at if row is None else row) for at, item in enumerate(items)]


def _id(input: Input, item: Any, row: int) -> int:
    item = _single(item, row)
    if item is None or item != item:
        if input.kind == "counts":
            raise Unfit("T704", f"holds a missing value in row {row}")
        return MISSING
    if isinstance(item, (str, bytes)):
        item = _text(input, item, row)
    if isinstance(item, bool):
        raise Unfit("T704", f"holds a truth value in row {row}")
    if isinstance(item, float):
        if abs(item) > 2**53:
            raise Unfit("T704", f"holds a floating-point id beyond 2^53 in row {row}")
        if item != math.floor(item):
            raise Unfit("T704", f"holds a fraction in row {row}")
    found = int(item)
    if found in _UINT64:  # all 64 bits are an id's, with or without a sign; a row has at most 63
        return found - 2**64 if input.takes_any else 2**63 - 1
    if found not in _INT64:
        raise Unfit("T704", f"holds a whole number beyond 64 bits in row {row}")
    return found


def _text(input: Input, item: str | bytes, row: int) -> int:
    """A text as an id; of a vocabulary and among values, "100" is 100."""
    if not input.takes_texts:
        raise Unfit("T704", f"holds a text in row {row}")
    try:
        text = item.decode() if isinstance(item, bytes) else item
        text.encode()
    except UnicodeError:
        raise Unfit("T704", f"holds a text that is not UTF-8 in row {row}") from None
    if not input.raw:
        return text_id(text) if input.hashed else input.places.get(text, len(input.values))
    number = whole(text)
    return text_id(text) if number is None else number


def _numbers(items: list[Any], sizes: Sequence[int], row: int | None) -> Tensor:
    """Numbers in float64, from which float32 is rounded once, `[n, *sizes]`; a missing row is all missing."""
    if not sizes:
        if set(map(type, items)) <= {int, float, bool}:
            try:
                return torch.tensor(items, dtype=torch.float64)
            except (OverflowError, RuntimeError):  # one is too large, and found below
                pass
        return torch.tensor([_number(x, at if row is None else row) for at, x in enumerate(items)], dtype=torch.float64)
    parts = []
    for at, item in enumerate(items):
        place = at if row is None else row
        held = _list(item, place)
        if held is not None and len(held) != sizes[0]:
            raise Unfit("T705", f"holds a list of {len(held)} in row {place}")
        missing = torch.full(list(sizes), math.nan, dtype=torch.float64)
        parts.append(missing if held is None else _numbers(held, sizes[1:], place))
    return torch.stack(parts) if parts else torch.empty([0, *sizes], dtype=torch.float64)


def _number(item: Any, row: int) -> float:
    item = _single(item, row)
    if item is None:
        return math.nan
    if isinstance(item, (str, bytes)):
        raise Unfit("T704", f"holds a text in row {row}")
    try:
        return float(item)
    except OverflowError:
        raise Unfit("T704", f"holds a number beyond float64 in row {row}") from None


def _single(item: Any, row: int) -> Any:
    """A number, a truth, a text, or none for what is missing, as Python has them."""
    if isinstance(item, (int, float, str, bytes)):  # a bool is an int
        return item
    if isinstance(item, Decimal):
        return _decimal(item)
    if _is_missing(item):
        return None
    if isinstance(item, (list, tuple)) or getattr(item, "ndim", False):
        raise Unfit("T705", f"holds a list in row {row}")
    if isinstance(item, Tensor):
        plain(item, item.device)
    found = item.item() if hasattr(item, "item") else item
    if isinstance(found, (int, float)):
        return found
    raise Unfit("T704", f"holds {'an object' if isinstance(item, dict) else f'a {type(item).__name__}'} in row {row}")


def _decimal(item: Decimal) -> int | float:
    if item.is_nan():
        return math.nan
    if item.adjusted() > 400:  # too large for anything, and not to be written out
        return 10**400
    return int(item) if item == item.to_integral_value() else float(item)


def _is_missing(item: Any) -> bool:
    return item is None or type(item).__name__ == "NAType"  # pandas' own, in a list


# ---- what the graph takes ----------------------------------------------------------------------


def converted(input: Input, x: Tensor) -> Tensor:
    """A measured tensor as int64 or float32, contiguous; raises `Unfit`."""
    if not input.whole:
        if x.dtype == torch.bool:
            x = x.contiguous().view(torch.uint8) != 0  # whatever the byte is
        if x.dtype in (torch.int64, torch.uint64):  # rounded as training rounds them
            x = x.to(torch.float64)
        return (x if x.dtype == torch.float32 else x.to(torch.float32)).contiguous()
    if x.dtype in _EXACT:
        x = _whole(input, x)
    elif x.dtype == torch.uint64:
        x = x.contiguous().view(torch.int64)
        x = x if input.takes_any else torch.where(x < 0, 2**63 - 1, x)
    return (x if x.dtype == torch.int64 else x.to(torch.int64)).contiguous()


def _whole(input: Input, x: Tensor) -> Tensor:
    """Whole numbers from floats; NaN is missing."""
    bits = _EXACT[x.dtype]
    nan = x.isnan()
    refused = [(~nan & (x.abs() > 2**bits), f"holds a floating-point id beyond 2^{bits}")]
    refused.append((~nan & (x != x.floor()), "holds a fraction"))
    if input.kind == "counts":
        refused.append((nan, "holds a missing value"))
    for rows, what in refused:
        if bool(rows.any()):
            raise Unfit("T704", f"{what} in row {int(rows.nonzero()[0, 0])}")
    return torch.where(nan, MISSING, x).to(torch.int64)
