"""Reading weights from safetensors files, a published format simple enough to read without a package.

A file is 8 bytes of header length, a JSON header, and the tensors' bytes; see the format's page in the
safetensors documentation.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from towerspec.diagnostics import Diagnostic, SpecError, did_you_mean, listing
from towerspec.ir.graph import Graph
from towerspec.ir.primitives import Param

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_LARGEST_HEADER = 100_000_000
# What loads without losing anything: narrower floats into float32, narrower integers into int64.
_LOSSLESS = {
    "float": {torch.float32, torch.float16, torch.bfloat16},
    "int": {torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8},
}


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, read as they are used; raises `SpecError` (T604) where it is no safetensors file.

    The file must stay as it is for as long as they live; to take its place with another is no change of it.
    """
    try:
        content = _mapped(path)
    except OSError as error:
        raise _unreadable(path, error.strerror or "it can't be read") from error
    if len(content) < 8:
        raise _unreadable(path, "it is too short")
    if content[:4] == b"PK\x03\x04":
        raise _unreadable(path, "it is a zip file, as `torch.save` writes")
    (length,) = struct.unpack("<Q", content[:8])
    if length > min(_LARGEST_HEADER, len(content) - 8):
        raise _unreadable(path, "its header is cut off")
    try:
        header = json.loads(content[8 : 8 + length])
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        return {name: _tensor(entry, memoryview(content)[8 + length :]) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _unreadable(path, f"its header is not valid ({type(error).__name__})") from error


def _mapped(path: Path) -> mmap.mmap | bytearray:
    """A file's content, of which each process may change a copy of its own."""
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:  # it is empty, or a pipe
            return bytearray(file.read())
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


def _tensor(entry: dict[str, object], data: memoryview) -> Tensor:
    dtype = _DTYPES[str(entry["dtype"])]
    shape = [int(size) for size in entry["shape"]]  # type: ignore[attr-defined]
    start, end = (int(at) for at in entry["data_offsets"])  # type: ignore[attr-defined]
    count = 1
    for size in shape:
        count *= size
    if min(shape, default=0) < 0 or not 0 <= start <= end <= len(data) or end - start != count * dtype.itemsize:
        raise ValueError("offsets")
    if not count:
        return torch.empty(shape, dtype=dtype)
    found = data[start:end]
    aligned = torch.frombuffer(data, dtype=torch.uint8).data_ptr() + start
    if aligned % dtype.itemsize:  # the format doesn't promise it
        found = memoryview(bytearray(found))
    return torch.frombuffer(found, dtype=dtype).reshape(shape)


def _unreadable(path: Path, why: str) -> SpecError:
    return SpecError(
        Diagnostic(
            "T604", f"the weights file `{path}` can't be read: {why}", help="give a file in the safetensors format"
        )
    )


def match(graph: Graph, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of the given tensors as the graph's parameters, each in its own type.

    Raises `SpecError` naming all that are missing (T601), left over (T602), misshapen (T603) or not finite (T605).
    """
    wanted = {param.path: param for _, param in graph.params}
    problems: list[Diagnostic] = []
    missing = [path for path in wanted if path not in tensors]
    extra = [name for name in tensors if name not in wanted]
    if missing:
        problems.append(
            Diagnostic(
                "T601",
                f"the weights lack {len(missing)} of {len(wanted)} parameters",
                notes=tuple(f"missing: `{path}` {list(wanted[path].shape)}" for path in missing[:20]),
                help=(
                    did_you_mean(missing[0], extra)
                    or "train or convert the missing ones; towerspec doesn't invent weights"
                ),
            )
        )
    if extra:
        problems.append(
            Diagnostic(
                "T602",
                f"the weights hold {len(extra)} tensor{'s' if len(extra) > 1 else ''} that the spec doesn't have",
                notes=(f"left over: {listing([f'`{name}`' for name in extra], 20)}",),
                help="remove them from the file, or compile the spec they belong to",
            )
        )
    found = {path: tensors[path] for path in wanted if path in tensors}
    problems += [p for path, tensor in found.items() if (p := _misfit(wanted[path], tensor))]
    if problems:
        raise SpecError(*problems)
    types = {"int": torch.int64, "float": torch.float32}
    return {path: tensor.to(types[wanted[path].dtype], copy=True) for path, tensor in found.items()}


def _misfit(param: Param, tensor: Tensor) -> Diagnostic | None:
    if tuple(tensor.shape) != param.shape:
        return Diagnostic(
            "T603",
            f"parameter `{param.path}` has the wrong shape in the weights",
            notes=(f"the spec says {list(param.shape)}, the file holds {list(tensor.shape)}",),
            help="compile the spec that these weights belong to, or train this one",
        )
    if tensor.dtype not in _LOSSLESS[param.dtype]:
        kind = str(tensor.dtype).removeprefix("torch.")
        return Diagnostic(
            "T603",
            f"parameter `{param.path}` has the wrong type in the weights",
            notes=(
                f"it becomes {'int64' if param.dtype == 'int' else 'float32'}, and {kind} doesn't fit without loss",
            ),
            help="convert the tensor before saving it",
        )
    if tensor.is_floating_point() and (count := _not_finite(tensor)):
        return Diagnostic(
            "T605",
            f"parameter `{param.path}` is not finite",
            notes=(f"{count} of {tensor.numel()} numbers are NaN or infinite",),
            help="take an earlier checkpoint",
        )
    return None


def _not_finite(tensor: Tensor) -> int:
    """How many of a tensor's numbers are NaN or infinite; piece by piece, as a table may be as large as memory."""
    return sum(int((~torch.isfinite(piece)).sum()) for piece in tensor.reshape(-1).split(2**24))
