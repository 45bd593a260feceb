"""Tables past 2 and 4 GiB: they compile, every byte of them counts, and a build is the same however it was made."""

from __future__ import annotations

import hashlib
import json
import resource
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

import towerspec
from towerspec.check import check_text
from towerspec.diagnostics import SpecError
from towerspec.emit import constants, contents, torchscript
from towerspec.emit.build import Options, compile_spec
from towerspec.emit.reuse import tensor_digest
from towerspec.weights import read_safetensors

SPEC = """model large
request { user : category { rows: 17_500_000, dim: 32 } }
candidate { price : number }
trunk { mixed = mlp(concat(request, candidate), hidden: [8]) }
surface home { tower { head click : binary } }
"""
SMALL = """model small
request { u : category { rows: ROWS, dim: 16 }  b : bag { rows: ROWS, dim: 16, length: 3 } }
candidate { a : number }
trunk { z = concat(u, b, a) }
surface s { tower { layers: [4] head click : binary } }
"""


@pytest.mark.slow
def test_a_digest_covers_every_byte(tmp_path: Path) -> None:
    size = 2**32 + 12
    with (tmp_path / "zeros").open("wb") as file:
        file.truncate(size)
    x = torch.from_file(str(tmp_path / "zeros"), size=size, dtype=torch.uint8)
    found = [tensor_digest(x)]
    for place in (0, 11, 2**31, 2**32 + 3, size - 1):
        x[place] = 1
        found.append(tensor_digest(x))
        x[place] = 0
    assert len(set(found)) == len(found)


@pytest.mark.slow
def test_a_table_past_two_gib_compiles(tmp_path: Path) -> None:
    (tmp_path / "large.tower").write_text(SPEC)
    command = [sys.executable, "-m", "towerspec", "compile", "large.tower", "-o", "build"]
    subprocess.run(command, cwd=tmp_path, check=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    table = 17_500_002 * 32 * 4
    assert peak < 6.5 * table
    home = towerspec.load(tmp_path / "build").surfaces["home"]
    first, last = home({"user": [0], "price": [0.5]}), home({"user": [17_499_999], "price": [0.5]})
    assert first["click"] != last["click"]


@given(
    st.lists(st.integers(0, 6), max_size=3), st.sampled_from([torch.float32, torch.int64, torch.bool, torch.bfloat16])
)
def test_a_digest_is_of_all_bytes(shape: list[int], dtype: torch.dtype) -> None:
    x = (torch.arange(int(np.prod(shape))).reshape(shape) % 2).to(dtype)
    wanted = hashlib.sha256(x.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()
    assert tensor_digest(x) == wanted
    assert tensor_digest(x.t().t() if x.dim() == 2 else x) == wanted
    for at in range(x.numel()):
        other = x.clone()
        other.view(-1)[at] = 1 - other.view(-1)[at].int()
        assert tensor_digest(other) != wanted


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["F32", "I64", "BOOL", "F16"]), st.integers(0, 5)), max_size=6),
    st.integers(0, 9),
)
def test_a_weights_file_is_read_where_it_lies(
    tmp_path_factory: pytest.TempPathFactory, tensors: list[tuple[str, int]], gap: int
) -> None:
    """At any offset: the format doesn't promise that numbers lie where the CPU would have them."""
    types = {"F32": np.float32, "I64": np.int64, "BOOL": np.bool_, "F16": np.float16}
    arrays = {f"t{i}": (np.arange(count) % 2).astype(types[kind]) for i, (kind, count) in enumerate(tensors)}
    header, data = {}, b""
    for (name, x), (kind, count) in zip(arrays.items(), tensors, strict=True):
        header[name] = {"dtype": kind, "shape": [count], "data_offsets": [len(data), len(data) + x.nbytes]}
        data += x.tobytes()
    text = json.dumps(header).encode() + b" " * gap
    file = tmp_path_factory.mktemp("weights") / "w.safetensors"
    file.write_bytes(struct.pack("<Q", len(text)) + text + data)
    found = read_safetensors(file)
    file.unlink()
    assert {name: x.numpy().tolist() for name, x in found.items()} == {name: x.tolist() for name, x in arrays.items()}
    for x in found.values():
        x.zero_()  # what was read is the reader's own


def compiled(rows: int, out: Path, options: Options) -> dict[str, Tensor]:
    compile_spec(check_text(SMALL.replace("ROWS", str(rows))), out, options)
    served = towerspec.load(out).surfaces["s"]
    return {name: torch.as_tensor(x) for name, x in served(served.sample_inputs(candidates=4, seed=1)).items()}


@pytest.mark.parametrize("level", [0, 2, 3])
def test_a_large_file_is_the_same_as_a_small_one(level: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a compile does otherwise with large tables changes no bit of a build."""
    options = Options(level=level, cpu="any")
    found = compiled(9000, tmp_path / "small", options)
    for module, name in ((torchscript, "LARGE"), (contents, "LARGE"), (constants, "PIECE")):
        monkeypatch.setattr(module, name, 100)
    again = compiled(9000, tmp_path / "large", options)
    assert all(torch.equal(found[name], again[name]) for name in found)
    for path in ("manifest.json", "unified.pt", "surfaces/s.pt"):
        assert (tmp_path / "small" / path).read_bytes() == (tmp_path / "large" / path).read_bytes()


def test_a_cut_weights_file_is_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(4)}, tmp_path / "w.safetensors")
    whole = (tmp_path / "w.safetensors").read_bytes()
    for cut in (0, 4, 9, len(whole) - 1):
        (tmp_path / "cut.safetensors").write_bytes(whole[:cut])
        with pytest.raises(SpecError) as error:
            read_safetensors(tmp_path / "cut.safetensors")
        assert error.value.diagnostics[0].code == "T604"
