"""`towerspec diff`: what a change of a spec means, for people, for machines and for a CI."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from towerspec.check import check_text
from towerspec.cli import main
from towerspec.diff import diff

QUICK = (Path(__file__).parents[1] / "specs" / "quickstart.tower").read_text(encoding="utf-8")
THIRD = "surface related { tower { head click : binary } }\n"


def run(folder: Path, old: str, new: str, *options: str, code: int = 0) -> None:
    for name, text in (("old", old), ("new", new)):
        (folder / f"{name}.tower").write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit) as end:
        main(["diff", str(folder / "old.tower"), str(folder / "new.tower"), *options])
    assert (end.value.code or 0) == code


def test_the_same_spec_has_no_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, QUICK, "# a comment\n\n" + QUICK, "--exit-code")
    out = capsys.readouterr().out
    assert out.startswith("no difference\n")
    assert "changed" not in out


def test_a_third_surface_changes_no_other() -> None:
    found = diff(check_text(QUICK), check_text(QUICK + THIRD))
    assert {name: s.state for name, s in found.surfaces.items()} == {
        "home": "same",
        "search": "same",
        "related": "added",
    }
    assert set(found.parameters.added) == {
        "surfaces.related.tower.click.bias",
        "surfaces.related.tower.click.weight",
        "trunk.shared.gate.related.weight",
    }
    assert not found.parameters.lost
    assert not found.parameters.changed
    assert found.surfaces["related"].new is not None
    assert found.surfaces["related"].old is None


def test_what_a_change_of_one_surface_means() -> None:
    text = QUICK.replace("layers: [64, 32]", "layers: [64, 48]").replace("popularity : number", "price : number")
    text = text.replace("        head save  : binary\n", "")
    found = diff(check_text(QUICK), check_text(text))
    home, search = found.surfaces["home"], found.surfaces["search"]
    assert home.state == search.state == "changed"
    assert home.inputs.added == {"price": "candidate, float"}
    assert home.inputs.lost == {"popularity": "candidate, float"}
    assert home.outputs.lost == {"save": "binary"}
    assert found.parameters.changed["surfaces.search.tower.layers.1.weight"] == ([32, 64], [48, 64])
    assert "surfaces.home.tower.save.weight" in found.parameters.lost
    assert search.old is not None
    assert search.new is not None
    assert search.new["flops"]["candidate"] > search.old["flops"]["candidate"]


def test_a_change_without_another_parameter_is_one() -> None:
    found = diff(check_text(QUICK), check_text(QUICK.replace("layers: [32]", "layers: [32]\n        activation: gelu")))
    assert {name: s.state for name, s in found.surfaces.items()} == {"home": "changed", "search": "same"}
    assert not found.parameters


def test_machines_and_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, QUICK, QUICK + THIRD + "train { epochs: 3 }\n", "--json", "--exit-code", code=1)
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["different"]
    assert found["surfaces"]["related"]["state"] == "added"
    assert found["training"]["changed"] == {"epochs": {"old": 10, "new": 3}}
    assert found["parameters"]["kept"] == 41
    run(tmp_path, QUICK, QUICK + THIRD)
    run(tmp_path, QUICK, "model broken", code=1)


def test_it_never_loads_torch(tmp_path: Path) -> None:
    (tmp_path / "a.tower").write_text(QUICK, encoding="utf-8")
    code = f"""
import sys
from towerspec.cli import main
try:
    main(["diff", {str(tmp_path / "a.tower")!r}, {str(tmp_path / "a.tower")!r}])
except SystemExit as end:
    assert not end.code
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
