"""Requests of every shape and type to loaded surfaces: an answer that is right, or an error that says what is wrong."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor

import towerspec
from tests.fuzz.draw import Draw
from tests.fuzz.inputs import COUNTS, draw_call
from tests.fuzz.oracle import gap
from tests.fuzz.trial import ROUNDED, Failure
from tests.fuzz.workers import Result
from towerspec.check import check_text
from towerspec.diagnostics import SpecError
from towerspec.emit.build import Options, compile_spec

# One of each kind of input, at both levels.
SPEC = """model served
request {
  k : category { values: [grid, closeup], dim: 3 }
  h : category { rows: 7, dim: 3, ids: hash }
  s : sequence { rows: 5, dim: 3, length: 3 }
  w : number { width: 2 }
}
candidate {
  c : category { rows: 6, dim: 3 }
  b : bag { rows: 9, dim: 3, length: 4 }
  p : number { normalize: standard }
}
trunk { z = mlp(concat(request, candidate, din(c, s, hidden: [4])), hidden: [6]) }
surface both { tower { branch by k { grid { head y : binary } else { head y : binary  head n : count } } } }
surface items { tower from alone { head y : binary } }
"""
SPEC = SPEC.replace("trunk { ", "trunk { alone = linear(candidate, width: 4)  ")
CODES = ("T702", "T703", "T704", "T705", "T706", "T707")


@functools.cache
def bundle() -> Any:
    """The build that is asked, made once a process."""
    folder = tempfile.TemporaryDirectory(prefix="towerspec-requests-")
    compile_spec(check_text(SPEC), Path(folder.name) / "build", Options(seed=3))
    loaded = towerspec.load(Path(folder.name) / "build")
    assert len(list(loaded.surfaces.values())) == 2  # all are loaded before the folder goes
    return loaded


def asked(seed: int) -> Result:
    """Spoils one request, or says it in another way."""
    draw, random = Draw(f"request {seed}"), Random(seed)
    name = random.choice(list(bundle().surfaces))
    surface = bundle().surfaces[name]
    call = draw_call(draw, surface.inputs, wild=False)
    right = surface(call.inputs)
    entry = random.choice(surface.inputs)
    given = dict(call.inputs)
    ways = SAME if random.random() < 0.5 else HOSTILE
    way = random.choice(list(ways))
    try:
        given = ways[way](random, given, entry)
        found = surface(given, strict=random.random() < 0.1)
    except Skip:
        return Result(seed, "ok", note=f"not for this input: {way}")
    except SpecError as error:
        codes = {d.code for d in error.diagnostics}
        if not codes <= set(CODES):
            return Result(seed, f"request: {way}", f"{codes}: {error}")
        return Result(seed, "ok", note=f"refused, {way}")
    except Exception as error:
        return Result(seed, f"request: {way}: {type(error).__name__}", f"{entry}\n{error!r}\n{_shown(given)}")
    try:
        _check(found, right, ways is SAME, call.counts, surface)
    except Failure as failure:
        return Result(seed, f"request: {way}: {failure.kind}", f"{entry}\n{failure.detail}\n{_shown(given)}")
    return Result(seed, "ok", note=f"answered, {way}")


class Skip(Exception):
    """This way to spoil a request isn't one for this input."""


def _check(
    found: Mapping[str, Any], right: Mapping[str, Any], same: bool, counts: tuple[int, ...], surface: Any
) -> None:
    """The answer has a row a candidate; where the request says the same, it is the same."""
    for output in surface.entry["outputs"]:
        x = torch.as_tensor(found[output["name"]])
        if list(x.shape[1:]) != output["shape"][1:]:
            raise Failure("shape", f"{output['name']} is {list(x.shape)}")
        if same and gap(x, right[output["name"]]) > ROUNDED:
            raise Failure("answer", f"{output['name']} is {x.tolist()}, not {right[output['name']].tolist()}")


def _shown(given: Mapping[str, Any]) -> str:
    return "\n".join(f"{k} = {str(v)[:300]}" for k, v in given.items())


# ---- the same request, said in another way ---------------------------------------------------

Way = Callable[[Random, dict[str, Any], Mapping[str, Any]], dict[str, Any]]


def _one(change: Callable[[Tensor], Any]) -> Way:
    """Changes one input."""

    def way(random: Random, given: dict[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
        if entry["name"] not in given:
            raise Skip
        return {**given, entry["name"]: change(given[entry["name"]])}

    return way


def _integers(dtype: Any) -> Callable[[Tensor], Any]:
    def change(x: Tensor) -> Any:
        if x.is_floating_point() or (
            x.numel() and (int(x.min()) < np.iinfo(dtype).min or int(x.max()) > np.iinfo(dtype).max)
        ):
            raise Skip
        return x.numpy().astype(dtype)

    return change


def _floats(change: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
    def way(x: Tensor) -> Any:
        if not x.is_floating_point():
            raise Skip
        return change(x)

    return way


def _pandas(x: Tensor) -> Any:
    import pandas

    if x.dim() != 1:
        raise Skip
    return pandas.Series(x.numpy(), index=range(100, 100 + len(x)))


SAME: dict[str, Way] = {
    "a list": _one(lambda x: x.tolist()),
    "an array": _one(lambda x: x.numpy()),
    "a reversed view of the reverse": _one(lambda x: x.numpy()[::-1].copy()[::-1]),
    "every second row": _one(lambda x: x.repeat_interleave(2, 0)[::2]),
    "a column-major array": _one(lambda x: np.asfortranarray(x.numpy())),
    "the other byte order": _one(lambda x: x.numpy().astype(x.numpy().dtype.newbyteorder())),
    "an array of objects": _one(lambda x: x.numpy().astype(object)),
    "a tuple of tuples": _one(lambda x: tuple(tuple(r) if isinstance(r, list) else r for r in x.tolist())),
    "float64": _one(_floats(lambda x: x.double())),
    "negated twice": _one(_floats(lambda x: torch._neg_view(-x))),
    "requires a gradient": _one(_floats(lambda x: x.clone().requires_grad_())),
    "read-only memory": _one(lambda x: _frozen(x.numpy())),
    "int32": _one(_integers(np.int32)),
    "uint64": _one(_integers(np.uint64)),
    "uint32": _one(_integers(np.uint32)),
    "uint8": _one(_integers(np.uint8)),
    "a series": _one(_pandas),
    "another order of names": lambda random, given, entry: dict(random.sample(list(given.items()), len(given))),
}


def _frozen(x: Any) -> Any:
    x = x.copy()
    x.flags.writeable = False
    return x


# ---- requests that say nothing sensible --------------------------------------------------------


def _without(random: Random, given: dict[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in given.items() if k != entry["name"]}


def _counts(random: Random, given: dict[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """Counts that are negative, too many, or too large to add up."""
    if COUNTS not in given:
        raise Skip
    counts = given[COUNTS].clone()
    for _ in range(random.randint(1, 4) if len(counts) else 0):
        counts[random.randrange(len(counts))] = random.choice([-1, 2**62, 2**63 - 1, -(2**63), 999, 0, 1])
    return {
        **given,
        COUNTS: random.choice([counts, counts.tolist(), counts[:-1], counts.double(), counts.reshape(1, -1)]),
    }


ODD: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, float("nan"), 10**30, "", "text", b"bytes", [], [[]], [[[]]], {}, {"a": 1}, [None], ["a"],
    [1.5], [10**30], [float("inf")], [True], [[1], [1, 2]], [[1], 2], [{}], object(), (), set(), range(3), [-(2**64)],
    np.zeros(3, "datetime64[s]"), np.zeros(3, "U4"), np.array([None, 1], object), np.zeros((2, 2, 2, 2)),
    np.zeros(0), np.zeros((0, 7)), np.zeros(3, "complex64"), np.array(3), np.zeros(2, [("a", "i4")]), np.float32(1),
    np.zeros(3, "float16"), np.array(["2020-01-01"], "datetime64[D]"), np.ma.masked_array([1, 2], [True, False]),
)  # fmt: skip
TENSORS: dict[str, Callable[[Tensor], Any]] = {
    "meta": lambda x: x.to("meta"),
    "sparse": lambda x: x.to_sparse(),
    "quantized": lambda x: torch.quantize_per_tensor(x.float().nan_to_num(), 0.1, 0, torch.quint8),
    "bool": lambda x: x.bool(),
    "complex": lambda x: x.to(torch.complex64),
    "conj": lambda x: x.to(torch.complex64).conj(),
    "bfloat16": lambda x: x.bfloat16(),
    "float8": lambda x: x.float().to(torch.float8_e5m2),
    "a row more": lambda x: torch.cat([x, x.new_zeros(1, *x.shape[1:])]),
    "a row less": lambda x: x[:-1],
    "an axis more": lambda x: x.unsqueeze(-1),
    "no axis": lambda x: x.sum(),
    "another width": lambda x: x.unsqueeze(-1).repeat(*[1] * x.dim(), 3).flatten(1),
    "expanded": lambda x: x[:1].expand(10**6, *x.shape[1:]) if len(x) else x,
    "a parameter": lambda x: torch.nn.Parameter(x.float()),
    "nested": lambda x: torch.nested.nested_tensor([x.float(), x.float()]),
    "uint16": lambda x: x.to(torch.uint16),
    "mkldnn": lambda x: x.float().to_mkldnn(),
}
HOSTILE: dict[str, Way] = {
    "an input missing": _without,
    "an input too many": lambda random, given, entry: {**given, random.choice(["", "x", "y", "n", 3, None]): 0},
    "odd counts": _counts,
    "something else": lambda random, given, entry: {**given, entry["name"]: random.choice(ODD)},
    "something else in a list": lambda random, given, entry: {
        **given,
        entry["name"]: [
            random.choice([*given.get(entry["name"], torch.zeros(1)).tolist(), random.choice(ODD)])
            for _ in range(random.randint(1, 4))
        ],
    },
    "nothing at all": lambda random, given, entry: random.choice([{}, {"": None}]),
    **{f"a tensor: {name}": _one(change) for name, change in TENSORS.items()},
}
