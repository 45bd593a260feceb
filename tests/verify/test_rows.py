"""Rows alone and in company: a module that looks beyond its row is refused, for every target."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.verify.plants import Planted
from towerspec.check import check_text
from towerspec.diagnostics import SpecError
from towerspec.emit.build import Options, compile_spec
from towerspec.ir.builder import Scope, Value
from towerspec.layers import base
from towerspec.layers.base import Layer, kinds

SPEC = """model rows
request { country : category { values: [de, fr, it], dim: 4 } }
candidate { item : category { rows: 20, dim: 4 }  price : number }
trunk { seen = outside(%s)  mixed = concat(request, candidate, seen) }
surface home {
    tower {
        branch by country { de { layers: [4]  head click : binary } else { head click : binary } }
    }
}
"""
MIXING = ["Centred", "Normalised", "Cumulative", "Shared"]


@pytest.fixture(params=MIXING)
def module(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    outside(request.param, monkeypatch)
    return str(request.param)


def outside(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer kind `outside` around one of the modules of this folder, for as long as the test lasts."""
    monkeypatch.setattr(base, "_REGISTRY", {**base._REGISTRY, "layer": dict(kinds("layer"))})

    class Outside(Layer):
        kind = "outside"
        example = "y = outside(x)"

        def lower(self, b: Scope, x: Value) -> Value:
            return b.module(f"tests.verify.modules:{name}", x, width=x.width, params={})


@pytest.mark.parametrize("of", ["item", "concat(item, country)", "country"])
def test_a_module_that_mixes_rows_is_refused(module: str, of: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError) as error:
        compile_spec(check_text(SPEC % of), tmp_path / "build")
    said = error.value.diagnostics[0]
    assert said.code == "T620"
    assert f"`{module}` mixes rows" in said.message
    assert said.span is not None
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("level", [0, 3])
def test_at_every_level(level: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside("Centred", monkeypatch)
    with pytest.raises(SpecError, match="T620"):
        compile_spec(check_text(SPEC % "item"), tmp_path / "build", Options(level=level, cpu="any"))


def test_one_that_does_not_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside("Plain", monkeypatch)
    compile_spec(check_text(SPEC % "item"), tmp_path / "build")
    assert (tmp_path / "build" / "manifest.json").exists()


@pytest.mark.parametrize("surface", ["app", "mail"])
def test_a_target_that_mixes_rows_is_refused(surface: str) -> None:
    """Right for the calls that the compile makes of many rows, and wrong for a row by itself."""
    planted = Planted(Path(__file__).parent.parent.parent / "specs" / "view_types.tower", surface)
    served = planted.narrow()

    def lonely(*inputs: Tensor) -> list[Tensor]:
        found = list(served(*inputs))
        alone = len(found[0]) == 1 and not all(map(torch.equal, inputs, first))
        return [x + 0.01 if alone else x for x in found]

    first = list(planted.verifier.cases(surface).small[1].inputs.values())
    with pytest.raises(SpecError, match="T606") as error:
        planted.verify(served, lonely)
    assert "of a row that is scored by itself" in error.value.diagnostics[0].notes[0]
