"""Surfaces that one C++ process loads hold a shared table once, and predict what they do alone."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch

import towerspec
from towerspec.check import check
from towerspec.emit.build import compile_spec

TABLE = 400_000 * 16 * 4  # bytes
SURFACES = ("a", "b", "c", "d")
TOWER = " { tower { layers: [4]  head click : binary } }"


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sharing") / "build"
    spec = out.with_suffix(".tower")
    surfaces = "\n".join(f"surface {name}{TOWER}" for name in SURFACES)
    features = "candidate { pin : category { rows: 400_000, dim: 16 } }\ntrunk { x = linear(pin, width: 4) }"
    spec.write_text(f"model m\n{features}\n{surfaces}")
    compile_spec(check(spec), out)
    return out


def run(program: Path, build: Path, inputs: Path, *surfaces: str) -> tuple[str, int]:
    """What the program prints, and the most bytes that it held."""
    words = [word for name in surfaces for word in (name, str(inputs))]
    process = subprocess.Popen([program, build, *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    assert status == 0
    return text, usage.ru_maxrss * 1024


def test_a_table_is_held_once(cpp_program: Path, build: Path, tmp_path: Path) -> None:
    bundle, inputs = towerspec.load(build), {"pin": torch.tensor([0, 7, 399_999, -1])}
    (tmp_path / "inputs.json").write_text(json.dumps({"pin": inputs["pin"].tolist()}))
    one, alone = run(cpp_program, build, tmp_path / "inputs.json", "a")
    text, together = run(cpp_program, build, tmp_path / "inputs.json", *SURFACES)
    assert together - alone < 1.5 * TABLE  # a file's own, while it is read; three more tables without sharing
    found = [json.loads("{" + part) for part in text.split("{")[1:]]
    assert found[0] == json.loads(one)
    for name, scores in zip(SURFACES, found, strict=True):
        assert torch.equal(torch.tensor(scores["click"]), bundle.surfaces[name](inputs)["click"])
