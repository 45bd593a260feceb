"""A compile into an earlier build: what nothing has changed for is taken over, and the result is as if all were new."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

import towerspec
from towerspec.check import check, check_text
from towerspec.emit import torchscript
from towerspec.emit.build import Options, compile_spec
from towerspec.watch import Watch

QUICK = Path(__file__).parent.parent / "specs" / "quickstart.tower"
RELATED = "\nsurface related {\n    tower {\n        layers: [8]\n        head click : binary\n    }\n}\n"


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The surfaces that were frozen since, by their classes' names."""
    found: list[str] = []
    freeze = torchscript.freeze

    def spy(model: Any) -> Any:
        found.append(type(model).__name__)
        return freeze(model)

    monkeypatch.setattr(torchscript, "freeze", spy)
    return found


@pytest.fixture
def build(tmp_path: Path, frozen: list[str]) -> Path:
    compile_spec(check(QUICK), tmp_path / "build")
    assert frozen == ["Home", "Search"]
    frozen.clear()
    return tmp_path / "build"


def contents(build: Path) -> dict[str, bytes]:
    return {str(p.relative_to(build)): p.read_bytes() for p in build.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    "change", [("layers: [64, 32]", "layers: [64, 16]"), ("\nsurface search", RELATED + "\nsurface search")]
)
def test_the_command_gives_a_fresh_compiles_bytes(change: tuple[str, str], tmp_path: Path) -> None:
    """In processes of their own: TorchScript numbers what it makes through a process."""
    spec = tmp_path / "quickstart.tower"
    for build, text in [("again", QUICK.read_text()), ("again", None), ("fresh", None)]:
        spec.write_text(text or QUICK.read_text().replace(*change))
        command = [sys.executable, "-m", "towerspec", "compile", str(spec), "-o", str(tmp_path / build)]
        subprocess.run(command, check=True, capture_output=True)
    assert contents(tmp_path / "again") == contents(tmp_path / "fresh")


def test_what_is_unchanged_is_not_compiled_again(build: Path, frozen: list[str]) -> None:
    before, watch = contents(build), Watch()
    compile_spec(check(QUICK), build, watch=watch)
    assert contents(build) == before
    assert not frozen
    assert not {"TorchScript", "reference", "verify"} & set(watch.seconds)


def test_only_an_added_surface_is_compiled(build: Path, frozen: list[str]) -> None:
    compile_spec(check_text(QUICK.read_text() + RELATED, str(QUICK)), build)
    assert frozen == ["Related"]
    inputs = towerspec.load(build).surfaces["related"].sample_inputs(candidates=3)
    assert towerspec.load(build).surfaces["related"](inputs)["click"].shape == (3,)


def test_only_a_changed_surface_is_compiled(build: Path, frozen: list[str]) -> None:
    text = QUICK.read_text().replace("layers: [64, 32]", "layers: [64, 16]")
    compile_spec(check_text(text, str(QUICK)), build)
    assert frozen == ["Search"]


@pytest.mark.parametrize(
    "options", [Options(level=1), Options(seed=1), Options(without=("join",)), Options(fresh=True)]
)
def test_other_options_compile_all_again(options: Options, build: Path, frozen: list[str]) -> None:
    compile_spec(check(QUICK), build, options)
    assert frozen == ["Home", "Search"]


def test_only_surfaces_of_changed_weights_are_compiled(build: Path, frozen: list[str], tmp_path: Path) -> None:
    module = torchscript.load_source((build / "model.py").read_text(), "model")
    weights = {k: v.detach().clone() for k, v in module.Quickstart(seed=0).state_dict().items()}
    save_file(weights, tmp_path / "same.safetensors")
    compile_spec(check(QUICK), build, Options(weights=tmp_path / "same.safetensors"))
    assert not frozen
    name = next(k for k in weights if ".gate.search." in k)
    save_file({**weights, name: weights[name] + 1}, tmp_path / "other.safetensors")
    compile_spec(check(QUICK), build, Options(weights=tmp_path / "other.safetensors"))
    assert frozen == ["Search"]


def test_a_damaged_file_is_made_again(build: Path, frozen: list[str]) -> None:
    (build / "surfaces" / "home.pt").write_bytes(b"damaged")
    compile_spec(check(QUICK), build)
    assert frozen == ["Home"]
    home = towerspec.load(build).surfaces["home"]
    assert home(home.sample_inputs(candidates=2))["click"].shape == (2,)
    (build / "unified.pt").unlink()
    compile_spec(check(QUICK), build)
    assert frozen == ["Home"]
    assert towerspec.load(build).unified().home.schema.name == "home"


@pytest.mark.parametrize("content", ["", "[]", '{"surfaces": 1}', '{"surfaces": {"home": 1}, "unified": []}'])
def test_a_damaged_manifest_gives_nothing(content: str, build: Path, frozen: list[str]) -> None:
    (build / "manifest.json").write_text(content)
    compile_spec(check(QUICK), build)
    assert frozen == ["Home", "Search"]


def test_a_surface_that_was_left_out_is_verified_in_the_unified_model(build: Path, frozen: list[str]) -> None:
    compile_spec(check(QUICK), build, Options(surfaces=("home",)))
    assert not frozen
    keys = [json.loads((build / "manifest.json").read_text())["unified"]["key"]]
    compile_spec(check(QUICK), build)
    keys.append(json.loads((build / "manifest.json").read_text())["unified"]["key"])
    assert keys[0] != keys[1]
    assert frozen == ["Search"]
