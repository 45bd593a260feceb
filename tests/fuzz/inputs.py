"""Calls with inputs at the edges: unknown and missing ids, full and empty lists, numbers that no sensor gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tests.fuzz.draw import Draw

COUNTS = "candidates_per_request"
SHAPES = (
    (0,), (1,), (5,), (2, 0, 3), (1, 1, 1), (), (0,) * 9, (0, 0, 2), (1,), (0, 1), (3, 1), (4, 0, 0, 1),
)  # fmt: skip
TAME = (
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    2.0,
    -3.0,
    13.0,
    1e-40,
    -1e-45,
    1e-7,
    100.0,
    float("nan"),
    float("inf"),
    -float("inf"),
)
WILD = (1e9, -1e12, 1e30, 3.4028234e38, -3.4028234e38)
IDS = (-1, -2, -(2**31), -(2**63), 2**31, 2**40, 2**63 - 1)


NONE: Mapping[str, Sequence[int]] = {}


@dataclass(frozen=True)
class Call:
    """One call: inputs by name, how many candidates each request has, and which rows hold numbers beyond all scales."""

    inputs: dict[str, Tensor]
    counts: tuple[int, ...]
    wild: dict[str, Tensor]  # by level, whether each row holds a number of `WILD`

    @property
    def requests(self) -> list[int]:
        """The request of each candidate."""
        return [i for i, count in enumerate(self.counts) for _ in range(count)]


def draw_call(
    draw: Draw, entries: Sequence[Mapping[str, Any]], wild: bool, vocabularies: Mapping[str, Sequence[int]] = NONE
) -> Call:
    """Inputs for the entries of a manifest, as a caller gives them: ids of a vocabulary are raw ones."""
    counts = draw.choice(SHAPES)
    levels = {e["level"] for e in entries if e["name"] != COUNTS}
    if "candidate" not in levels:
        counts = (1,) * len(counts)  # every request is scored once
    elif "request" not in levels:
        counts = (sum(counts),)
    rows = {"request": len(counts), "candidate": sum(counts)}
    far = {level: torch.zeros(n, dtype=torch.bool) for level, n in rows.items()}
    inputs: dict[str, Tensor] = {}
    for entry in entries:
        if entry["name"] == COUNTS:
            inputs[COUNTS] = torch.tensor(counts, dtype=torch.int64)
        elif entry["dtype"] == "int64":
            known = _known(entry, vocabularies)
            ids = _ids(draw, entry, rows[entry["level"]])
            inputs[entry["name"]] = ids if known is None else _raw(ids, known)
        else:
            x = _numbers(draw, entry, rows[entry["level"]], wild)
            inputs[entry["name"]] = x
            if x.numel():
                far[entry["level"]] |= (x.isfinite() & (x.abs() > 1e6)).reshape(len(x), -1).any(1)
    return Call(inputs, counts, far)


def _known(entry: Mapping[str, Any], vocabularies: Mapping[str, Sequence[int]]) -> Sequence[Any] | None:
    """The raw ids of an entry's rows: a vocabulary's, or values among which numbers match; none where ids are rows."""
    return entry["values"] if entry.get("numbers") == "values" else vocabularies.get(entry.get("vocabulary", ""))


def _raw(ids: Tensor, known: Sequence[Any]) -> Tensor:
    """Rows' numbers as raw ids; one that no number stands for stays as it is, and is whatever that is among them."""
    raw = [known[i] if 0 <= i < len(known) and isinstance(known[i], int) else i for i in ids.reshape(-1).tolist()]
    return torch.tensor(raw, dtype=torch.int64).reshape(ids.shape)


def as_rows(
    call: Call, entries: Sequence[Mapping[str, Any]], vocabularies: Mapping[str, Sequence[int]]
) -> dict[str, Tensor]:
    """A call's inputs with rows' numbers in place of raw ids, as the graph takes them."""
    inputs = dict(call.inputs)
    for entry in entries:
        known = _known(entry, vocabularies)
        if known is not None:
            rows, unknown = {id_: i for i, id_ in enumerate(known)}, entry["range"][1] + 1
            x = inputs[entry["name"]]
            found = [-1 if id_ == -1 else rows.get(id_, unknown) for id_ in x.reshape(-1).tolist()]
            inputs[entry["name"]] = torch.tensor(found, dtype=torch.int64).reshape(x.shape)
    return inputs


def _numbers(draw: Draw, entry: Mapping[str, Any], rows: int, wild: bool) -> Tensor:
    shape = [rows, *entry["shape"][1:]]
    x = torch.tensor([_number(draw, wild) for _ in range(_count(shape))], dtype=torch.float32)
    return x.reshape(shape)


def _number(draw: Draw, wild: bool) -> float:
    kind = draw.random()
    if kind < 0.75:
        return draw.gauss(0.0, 1.0)
    return draw.choice(WILD) if wild and kind > 0.95 else draw.choice(TAME)


def _ids(draw: Draw, entry: Mapping[str, Any], rows: int) -> Tensor:
    shape = [rows, *entry["shape"][1:]]
    last = entry["range"][1] if "range" in entry else 2**62
    if len(shape) == 1:
        return torch.tensor([_id(draw, last) for _ in range(rows)], dtype=torch.int64)
    length = shape[1]
    lists = [_list(draw, last, length) for _ in range(rows)]
    return torch.tensor(lists, dtype=torch.int64).reshape(shape)


def _list(draw: Draw, last: int, length: int) -> list[int]:
    """A list as callers pad it, at the end; or with gaps, which a tensor can hold as well."""
    count = draw.choice([0, length, draw.randint(0, length)])
    ids = [_id(draw, last) for _ in range(count)] + [-1] * (length - count)
    if draw.chance(0.1):
        draw.shuffle(ids)
    return ids


def _id(draw: Draw, last: int) -> int:
    kind = draw.random()
    if kind < 0.75:
        return draw.randint(0, last)
    return draw.choice([0, last, last + 1, *IDS])


def _count(shape: Sequence[int]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


def alone(
    inputs: Mapping[str, Tensor], entries: Sequence[Mapping[str, Any]], request: int, candidate: int
) -> dict[str, Tensor]:
    """The inputs of one candidate by itself."""
    at = {"request": request, "candidate": candidate}
    return {e["name"]: inputs[e["name"]][at[e["level"]]][None] for e in entries if e["name"] != COUNTS}
