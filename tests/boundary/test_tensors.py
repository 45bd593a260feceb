"""What a tensor must be: brought into order, or refused, before either target computes with it, in Python and C++."""

from __future__ import annotations

import json
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from towerspec.diagnostics import SpecError
from towerspec.runtime import read_inputs
from towerspec.runtime.inputs import Boundary

from .conftest import Answers, Documented, said
from .test_values import same, tensors_of

HELD = {
    "recent": torch.full([2, 3], -1),
    "tags": torch.full([2, 2], -1),
    "rooms": torch.full([2, 2], -1),
    "price": torch.tensor([0.5, -2]),
    "vector": torch.ones(2, 2),
    "pin": torch.tensor([3, 9]),
    "color": torch.tensor([0, 1]),
    "size": torch.tensor([10, 20]),
    "month": torch.tensor([1, 2]),
    "item": torch.tensor([5, 6]),
    "user": torch.tensor([7, 8]),
}


def freed(x: Tensor) -> Tensor:
    x = x.clone()
    x.untyped_storage().resize_(0)
    return x


def nested(x: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nested.nested_tensor([x, x])


def quantised(x: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(x.float(), 0.1, 0, torch.quint8)


REFUSED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "sparse": (lambda x: x.to_sparse(), "T704: is sparse"),
    "meta": (lambda x: x.to("meta"), "T704: is without memory, on the device `meta`"),
    "quantised": (quantised, "T704: is quantised"),
    "onednn": (lambda x: x.float().to_mkldnn(), "T704: is laid out for oneDNN"),
    "nested": (nested, "T704: is nested"),
    "complex": (lambda x: x.to(torch.complex64), "T704: has the type complex64"),
    "float8": (lambda x: x.to(torch.float8_e4m3fn), "T704: has the type float8_e4m3fn"),
    "scalar": (lambda x: x.sum(), "T705: has the shape []"),
    "freed": (freed, "T704: is larger than its memory"),
    "endless": (lambda x: x.reshape(-1)[:1].expand(2**60), "T706"),
}
RESOLVED: dict[str, Callable[[Tensor], Tensor]] = {
    "negative": lambda x: torch.imag(torch.complex(x.float(), x.float()).conj()),
    "grad": lambda x: x.float().clone().requires_grad_(),
    "strided": lambda x: torch.stack([x, x], -1)[..., 1],
    "float64": lambda x: x.double(),
}


def file_of(folder: Path) -> Path:
    save_file(HELD, folder / "inputs.safetensors")
    return folder / "inputs.safetensors"


@pytest.mark.parametrize("name", ["price", "pin"])
@pytest.mark.parametrize("kind", REFUSED)
def test_tensors_that_are_refused(
    documented: Documented, answers: Answers, name: str, kind: str, tmp_path: Path
) -> None:
    make, wanted = REFUSED[kind]
    code, _, what = wanted.partition(": ")
    with pytest.raises(SpecError) as raised:
        documented.bundle.surfaces["home"]({**HELD, name: make(HELD[name])})
    (ours,) = raised.value.diagnostics
    assert ours.code == code
    assert not what or ours.message == f"surface `home`: the input `{name}` {what}"
    answer = answers.ask("tensor", documented.build, "home", file_of(tmp_path), name, kind)
    assert said(answer).replace("  = ", " = ") == str(raised.value).replace("  = ", " = ").strip()


@pytest.mark.parametrize("name", ["price", "pin"])
@pytest.mark.parametrize("kind", RESOLVED)
def test_tensors_that_are_brought_into_order(
    documented: Documented, answers: Answers, name: str, kind: str, tmp_path: Path
) -> None:
    surface, made = documented.bundle.surfaces["home"], RESOLVED[kind](HELD[name])
    names = [e["name"] for e in surface.inputs]
    x = surface.boundary.prepare({**HELD, name: made})[names.index(name)]
    plain = made.detach().resolve_neg().clone()
    assert torch.equal(x, plain.to(x.dtype))
    assert x.is_contiguous()
    assert not x.is_neg()
    assert not x.requires_grad
    wanted = surface({**HELD, name: plain.contiguous()})
    for head, scores in surface({**HELD, name: made}).items():
        assert torch.equal(scores, wanted[head])
    answer = answers.ask("tensor", documented.build, "home", file_of(tmp_path), name, kind)
    assert same(tensors_of(answer)[names.index(name)], x.numpy())


def test_undefined_tensors(documented: Documented, answers: Answers, tmp_path: Path) -> None:
    """Which Python has none of."""
    answer = answers.ask("tensor", documented.build, "home", file_of(tmp_path), "pin", "undefined")
    assert said(answer).startswith("error[T704]: surface `home`: the input `pin` is undefined\n")


class Named(Tensor):
    """A subclass that computes as a tensor does."""


def test_subclasses(documented: Documented) -> None:
    surface = documented.bundle.surfaces["home"]
    wanted = surface(HELD)["click"]
    for x in (HELD["price"].as_subclass(Named), nn.Parameter(HELD["price"])):
        assert torch.equal(surface({**HELD, "price": x})["click"], wanted)
    with FakeTensorMode():
        fake = torch.ones(2)
    with pytest.raises(SpecError, match="the input `price` is a FakeTensor"):
        surface({**HELD, "price": fake})


def test_a_tensor_of_another_device() -> None:
    entries = [{"name": "x", "dtype": "float32", "shape": ["N"], "level": "candidate", "kind": "number"}]
    there = Boundary("home", entries, device="cuda:1")
    with pytest.raises(SpecError, match="the input `x` is on the device `cpu`, and the surface on `cuda:1`"):
        there.prepare({"x": torch.ones(2)})


class Broken:
    """What holds a value, and fails to give it."""

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise ValueError("nothing here")


@pytest.mark.parametrize(
    "value", [Broken(), object(), {1, 2}, lambda: 3, np.zeros((), "V8"), [object()], [[[]]], np.array(3)]
)
def test_anything_else_is_refused(documented: Documented, value: Any) -> None:
    for name in HELD:
        with pytest.raises(SpecError, match=r"T70[456]"):
            documented.bundle.surfaces["home"]({**HELD, name: value})
    with pytest.raises(SpecError, match="T704"):
        documented.bundle.surfaces["home"](value)


# ---- safetensors -------------------------------------------------------------------------------


def file_bytes(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


MALFORMED = {
    "nothing": b"",
    "short": b"1234567",
    "noise": b"\xff" * 64,
    "no json": file_bytes(b"{]"),
    "cut off": file_bytes({}, length=3),
    "a list": file_bytes([]),
    "no utf-8": file_bytes(b'{"\xff": 1}'),
    "twice": file_bytes(b'{"x": 1, "x": 1}'),
    "no entry": file_bytes({"price": 3}),
    "empty entry": file_bytes({"price": {}}),
    "no type": file_bytes({"price": entry(3)}, bytes(8)),
    "negative size": file_bytes({"price": entry(shape=[-2])}, bytes(8)),
    "negative sizes": file_bytes({"price": entry(shape=[-1, -2])}, bytes(8)),
    "endless": file_bytes({"price": entry(shape=[2**62])}, bytes(8)),
    "wraps to 2": file_bytes({"price": entry(shape=[2**63 + 2])}, bytes(8)),
    "wraps to 0": file_bytes({"price": entry(shape=[2**32, 2**32], offsets=[0, 0])}),
    "wraps to 8": file_bytes({"price": entry(shape=[2**61 + 1, 8])}, bytes(8)),
    "none of endless": file_bytes({"price": entry(shape=[0, 2**62, 2**62], offsets=[0, 0])}),
    "shape is a text": file_bytes({"price": entry(shape="2")}, bytes(8)),
    "size is a fraction": file_bytes({"price": entry(shape=[2.0])}, bytes(8)),
    "size is true": file_bytes({"price": entry(shape=[True], offsets=[0, 4])}, bytes(4)),
    "too short": file_bytes({"price": entry()}, bytes(7)),
    "left over": file_bytes({"price": entry()}, bytes(9)),
    "backwards": file_bytes({"price": entry(offsets=[8, 0])}, bytes(8)),
    "negative offset": file_bytes({"price": entry(offsets=[-8, 0])}, bytes(8)),
    "huge offset": file_bytes({"price": entry(offsets=[2**63, 2**63 + 8])}),
    "one offset": file_bytes({"price": entry(offsets=[0])}, bytes(8)),
    "gap": file_bytes({"price": entry(offsets=[4, 12])}, bytes(12)),
    "overlap": file_bytes({"price": entry(), "vector": entry()}, bytes(8)),
    "other width": file_bytes({"price": entry("F64")}, bytes(8)),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_safetensors(documented: Documented, answers: Answers, name: str, tmp_path: Path) -> None:
    file = tmp_path / "inputs.safetensors"
    file.write_bytes(MALFORMED[name])
    with pytest.raises(SpecError) as raised:
        read_inputs(file)
    assert str(raised.value).strip() == f"error[T704]: `{file}` is no safetensors file"
    assert said(answers.ask("inputs", documented.build, "home", file)) == str(raised.value).strip()


def test_a_type_that_no_input_takes(documented: Documented, answers: Answers, tmp_path: Path) -> None:
    file = tmp_path / "inputs.safetensors"
    file.write_bytes(file_bytes({"price": entry("F8_E4M3", offsets=[0, 2])}, bytes(2)))
    with pytest.raises(SpecError, match="holds `price` as F8_E4M3, which no input takes") as raised:
        read_inputs(file)
    assert said(answers.ask("inputs", documented.build, "home", file)) == str(raised.value).strip()


@pytest.mark.parametrize(
    "dtype",
    [
        "bool",
        "uint8",
        "int8",
        "uint16",
        "int16",
        "uint32",
        "int32",
        "uint64",
        "int64",
        "float16",
        "bfloat16",
        "float32",
        "float64",
    ],
)
def test_safetensors_of_every_type(documented: Documented, answers: Answers, dtype: str, tmp_path: Path) -> None:
    """As the format's own library writes them."""
    file = tmp_path / "inputs.safetensors"
    type_ = getattr(torch, dtype)
    made = {
        name: x.abs().to(type_) if dtype != "bool" or name in ("price", "vector") else x for name, x in HELD.items()
    }
    save_file(made, file, metadata={"made": "here"})
    read = read_inputs(file)
    assert {name: x.dtype for name, x in read.items()} == {name: x.dtype for name, x in made.items()}
    assert all(torch.equal(x.double(), made[name].double()) for name, x in read.items())
    ours = documented.bundle.surfaces["home"].boundary.prepare(read)
    theirs = tensors_of(answers.ask("inputs", documented.build, "home", file))
    assert all(same(x, y.numpy()) for x, y in zip(theirs, ours, strict=True))


def test_a_truth_is_one_whatever_its_byte(documented: Documented, answers: Answers, tmp_path: Path) -> None:
    file = tmp_path / "inputs.safetensors"
    save_file({**HELD, "price": torch.tensor([True, False])}, file)
    content = bytearray(file.read_bytes())
    header = json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])
    at = 8 + struct.unpack("<Q", content[:8])[0] + header["price"]["data_offsets"][0]
    assert content[at : at + 2] == b"\1\0"
    content[at] = 2
    file.write_bytes(content)
    names = [e["name"] for e in documented.bundle.surfaces["home"].inputs]
    ours = documented.bundle.surfaces["home"].boundary.prepare(read_inputs(file))[names.index("price")]
    assert ours.tolist() == [1.0, 0.0]
    assert same(tensors_of(answers.ask("inputs", documented.build, "home", file))[names.index("price")], ours.numpy())
