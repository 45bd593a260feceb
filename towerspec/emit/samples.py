"""Valid inputs for a surface, made from what its manifest or its graph says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

COUNTS = "candidates_per_request"


def sample(inputs: Sequence[Mapping[str, Any]], candidates: int, requests: int, seed: int) -> dict[str, Tensor]:
    """Inputs by name for `requests` requests with `candidates` candidates each.

    `inputs` are entries of a manifest: name, dtype, shape, level, and for ids their range. Most values are
    ordinary; some ids are unknown, some are missing, lists end in padding, and some numbers are NaN.
    """
    generator = torch.Generator().manual_seed(seed)
    levels = {entry["level"] for entry in inputs}
    rows = {"request": requests, "candidate": candidates * requests if "request" in levels else candidates}
    made: dict[str, Tensor] = {}
    for entry in inputs:
        if entry["name"] == COUNTS:
            made[COUNTS] = torch.full([requests], candidates, dtype=torch.int64)
            continue
        shape = [rows[entry["level"]], *entry["shape"][1:]]
        made[entry["name"]] = _ids(entry, shape, generator) if entry["dtype"] == "int64" else _numbers(shape, generator)
    return made


def _numbers(shape: list[int], generator: torch.Generator) -> Tensor:
    x = torch.randn(shape, generator=generator)
    missing = torch.rand(shape, generator=generator) < 0.05
    return torch.where(missing, torch.full_like(x, float("nan")), x)


def _ids(entry: Mapping[str, Any], shape: list[int], generator: torch.Generator) -> Tensor:
    low, high = entry["range"]
    ids = torch.randint(low, high + 1, shape, generator=generator)
    odd = torch.rand(shape, generator=generator)
    if len(shape) > 1:  # a list: a random part of it is padding
        kept = torch.rand([shape[0], 1], generator=generator) * (shape[1] + 1)
        padding = torch.arange(shape[1]) >= kept
        return torch.where(padding, torch.full_like(ids, -1), torch.where(odd < 0.02, torch.full_like(ids, high + 7), ids))
    ids = torch.where(odd < 0.03, torch.full_like(ids, high + 7), ids)
    return torch.where(odd > 0.97, torch.full_like(ids, -1), ids)
