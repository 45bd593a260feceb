"""Models that amplify rounding: they compile, and a fault in them is found all the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import towerspec
from towerspec.check import check_text
from towerspec.diagnostics import SpecError
from towerspec.emit.build import Options, compile_spec
from towerspec.emit.verify import checks

SPEC = """model steep
candidate { a : number }
trunk { p = linear(a, width: 1)  q = linear(a, width: 1)  z = linear(concat(p, q), width: 1) }
surface home { tower { head click : binary } }
"""


def weights() -> dict[str, Tensor]:
    """Two numbers that are nearly equal, and 10,000 times their difference, which has no more than three digits."""
    _, graph = check_text(SPEC).sound()
    made = {p.path: torch.zeros(p.shape) for _, p in graph.params}
    given = {
        "trunk.p": [[0.7]],
        "trunk.q": [[0.70007]],
        "trunk.z": [[1e4, -1e4]],
        "surfaces.home.tower.click": [[10.0]],
    }
    for name, weight in given.items():
        made[f"{name}.weight"] = torch.tensor(weight)
    return made


def compiled(folder: Path) -> None:
    save_file(weights(), folder / "w.safetensors")
    compile_spec(check_text(SPEC), folder / "build", Options(weights=folder / "w.safetensors"))


def test_a_model_that_amplifies_rounding_compiles(tmp_path: Path) -> None:
    compiled(tmp_path)
    served = towerspec.load(tmp_path / "build").surfaces["home"]
    assert served({"a": [1.0]})["click"].shape == (1,)


def test_a_fault_in_it_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verify_file = checks.verify_file

    def spoilt(sliced: object, served: checks.Served, cases: object) -> float:
        return verify_file(sliced, lambda *x: [0.9 * y for y in served(*x)], cases)  # type: ignore[arg-type]

    monkeypatch.setattr(checks, "verify_file", spoilt)
    with pytest.raises(SpecError) as error:
        compiled(tmp_path)
    assert error.value.diagnostics[0].code == "T606"
