"""Tables past 2 and 4 GiB: they compile, and every byte of them counts."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import towerspec
from towerspec.emit.reuse import tensor_digest

SPEC = """model large
request { user : category { rows: 17_500_000, dim: 32 } }
candidate { price : number }
trunk { mixed = mlp(concat(request, candidate), hidden: [8]) }
surface home { tower { head click : binary } }
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
    assert peak < 6 * table
    home = towerspec.load(tmp_path / "build").surfaces["home"]
    first, last = home({"user": [0], "price": [0.5]}), home({"user": [17_499_999], "price": [0.5]})
    assert first["click"] != last["click"]
