"""Tensors of a call from safetensors, a format simple enough to read without a package, as strictly as its own does.

A file is 8 bytes of header length, a JSON header, and the tensors' bytes, one tensor after another without a gap.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import torch
from torch import Tensor

from towerspec.runtime import json_text

_DTYPES = {
    **{f"F{dtype.itemsize * 8}": dtype for dtype in (torch.float64, torch.float32, torch.float16)},
    **{f"I{dtype.itemsize * 8}": dtype for dtype in (torch.int64, torch.int32, torch.int16, torch.int8)},
    **{f"U{dtype.itemsize * 8}": dtype for dtype in (torch.uint64, torch.uint32, torch.uint16, torch.uint8)},
    "BF16": torch.bfloat16,
    "BOOL": torch.bool,
}
_LARGEST_HEADER = 100_000_000


class Malformed(ValueError):
    """What is wrong with a file, as the end of a sentence."""

    def __init__(self, what: str = "is no safetensors file") -> None:
        super().__init__(what)


def parse(content: bytes) -> dict[str, Tensor]:
    """The tensors of a file's content by name; raises `Malformed` before anything is allocated for them."""
    length = int(struct.unpack("<Q", content[:8])[0]) if len(content) >= 8 else len(content)
    if length > min(_LARGEST_HEADER, len(content) - 8):
        raise Malformed
    data = memoryview(content)[8 + length :]
    try:
        header = json_text.parse(content[8 : 8 + length])
    except json_text.Malformed:
        raise Malformed from None
    if not isinstance(header, dict):
        raise Malformed
    header.pop("__metadata__", None)
    parts = {name: _Part(name, entry) for name, entry in header.items()}
    end = 0
    for part in sorted(parts.values(), key=lambda part: (part.start, part.end)):
        if part.start != end:
            raise Malformed
        end = part.end
    if end != len(data):
        raise Malformed
    return {name: part.tensor(data) for name, part in parts.items()}


class _Part:
    """Where a tensor lies, and what it is."""

    def __init__(self, name: str, entry: Any) -> None:
        entry = entry if isinstance(entry, dict) else {}
        dtype, shape, offsets = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
        if not isinstance(dtype, str) or not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
            raise Malformed
        if dtype not in _DTYPES:
            raise Malformed(f"holds `{name}` as {dtype}, which no input takes")
        self.dtype, self.shape, (self.start, self.end) = _DTYPES[dtype], shape, offsets
        if math.prod(max(size, 1) for size in shape) >= 2**62:
            raise Malformed
        if self.end - self.start != math.prod(shape) * self.dtype.itemsize:
            raise Malformed

    def tensor(self, data: memoryview) -> Tensor:
        if self.start == self.end:
            return torch.empty(self.shape, dtype=self.dtype)
        return torch.frombuffer(bytearray(data[self.start : self.end]), dtype=self.dtype).reshape(self.shape)


def _are_sizes(x: Any) -> bool:
    whole = isinstance(x, list) and all(isinstance(size, int) and not isinstance(size, bool) for size in x)
    return whole and all(0 <= size < 2**63 for size in x)
