"""Valid inputs for a surface, made from what its manifest or its graph says of them."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

COUNTS = "candidates_per_request"


def sample(inputs: Sequence[Mapping[str, Any]], counts: Sequence[int], seed: int) -> dict[str, Tensor]:
    """Inputs by name for as many requests as there are counts, each with that many candidates.

    `inputs` are entries of a manifest: name, dtype, shape, level, and for ids their range. Most values are
    ordinary; some ids are unknown, some are missing, lists end in padding, and some numbers are NaN.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = {"request": len(counts), "candidate": sum(counts)}
    made: dict[str, Tensor] = {}
    for entry in inputs:
        if entry["name"] == COUNTS:
            made[COUNTS] = torch.tensor(list(counts), dtype=torch.int64)
            continue
        shape = [rows[entry["level"]], *entry["shape"][1:]]
        made[entry["name"]] = _ids(entry, shape, generator) if entry["dtype"] == "int64" else _numbers(shape, generator)
    return made


def _numbers(shape: list[int], generator: torch.Generator) -> Tensor:
    x = torch.randn(shape, generator=generator)
    missing = torch.rand(shape, generator=generator) < 0.05
    return torch.where(missing, torch.full_like(x, float("nan")), x)


def _ids(entry: Mapping[str, Any], shape: list[int], generator: torch.Generator) -> Tensor:
    if entry.get("ids") == "hash":  # any 64 bits
        low, high = torch.randint(0, 2**32, [2, *shape], generator=generator).unbind()
        last, ids = 2**40, (high << 32) | low
    else:
        first, last = entry["range"]
        ids = torch.randint(first, last + 1, shape, generator=generator)
    odd = torch.rand(shape, generator=generator)
    if len(shape) > 1:  # a list: a random part of it is padding
        kept = torch.rand([shape[0], 1], generator=generator) * (shape[1] + 1)
        padding = torch.arange(shape[1]) >= kept
        return torch.where(
            padding, torch.full_like(ids, -1), torch.where(odd < 0.02, torch.full_like(ids, last + 7), ids)
        )
    ids = torch.where(odd < 0.03, torch.full_like(ids, last + 7), ids)
    return torch.where(odd > 0.97, torch.full_like(ids, -1), ids)


def draw(inputs: Sequence[Mapping[str, Any]], data: Any, candidates: int, requests: int, seed: int) -> dict[str, Any]:
    """Inputs by name from the rows of a data set: a row for each request, and rows for its candidates."""
    if isinstance(data, (str, os.PathLike)):
        import pyarrow.parquet as pq

        data = pq.read_table(data).to_pydict()
    generator = torch.Generator().manual_seed(seed)
    names = [e["name"] for e in inputs if e["name"] != COUNTS]
    columns = {name: data[name].tolist() if hasattr(data[name], "tolist") else list(data[name]) for name in names}
    length = min(len(column) for column in columns.values())
    picked = {
        "request": torch.randint(0, length, [requests], generator=generator).tolist(),
        "candidate": torch.randint(0, length, [requests * candidates], generator=generator).tolist(),
    }
    drawn: dict[str, Any] = {}
    for entry in inputs:
        if entry["name"] == COUNTS:
            drawn[COUNTS] = [candidates] * requests
        else:
            column = columns[entry["name"]]
            rows = [column[i] for i in picked[entry["level"]]]
            drawn[entry["name"]] = [math.nan if x is None else x for x in rows] if entry["dtype"] == "float32" else rows
    return drawn
