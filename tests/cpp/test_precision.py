"""The C++ program on files in fewer bits: the same bits as in Python."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.numpy import save_file

import towerspec
from towerspec.check import check
from towerspec.cpu import KINDS
from towerspec.emit.build import Options, compile_spec

from .test_program import assert_same_bits, run, scores

SPEC = """model large
request { user : category { rows: 80_000, dim: 32 }  about : number { width: 500 } }
candidate { item : category { rows: 5000, dim: 8 }  look : number { width: 300 } }
trunk { crossed = cross(concat(request, candidate), layers: 2)  shared = mlp(crossed, hidden: [256, 64]) }
surface home { tower { layers: [128]  head click : binary  head watch : regression } }
"""


@pytest.mark.parametrize("cpu", list(KINDS))
def test_same_bits(cpp_program: Path, cpu: str, tmp_path: Path) -> None:
    (tmp_path / "large.tower").write_text(SPEC)
    compile_spec(check(tmp_path / "large.tower"), tmp_path / "build", Options(level=3, cpu=cpu, max_error=0.2))
    surface = towerspec.load(tmp_path / "build").surfaces["home"]
    for requests, candidates in ((1, 1), (1, 64), (3, 2)):
        inputs = surface.sample_inputs(candidates, requests, seed=candidates)
        save_file({k: x.numpy() for k, x in inputs.items()}, tmp_path / "inputs.safetensors")
        done = run(cpp_program, tmp_path / "build", "home", tmp_path / "inputs.safetensors")
        assert_same_bits(surface(inputs), scores(done))
