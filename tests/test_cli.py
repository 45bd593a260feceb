"""The command line as a user meets it: what it prints, what it writes, its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from towerspec.check import check
from towerspec.passes import PIPELINE

ROOT = Path(__file__).parent.parent
QUICK = ROOT / "specs" / "quickstart.tower"
SPECS = sorted((ROOT / "specs").glob("*.tower"))


def run(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "towerspec", *map(str, words)], cwd=cwd, capture_output=True, text=True
    )


@pytest.mark.parametrize("name", ["", "ads", "model", "class", "table", "My-Shop v2", "12", "é", "a" * 120])
def test_init_writes_a_sound_canonical_spec(name: str, tmp_path: Path) -> None:
    words = [f"{name}.tower"] if name else []
    done = run("init", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (made,) = tmp_path.iterdir()
    assert made.name == (f"{name}.tower" if name else "model.tower")
    check(made).sound()
    assert run("fmt", "--check", made).returncode == 0


def test_init_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "model.tower").write_text("mine")
    done = run("init", cwd=tmp_path)
    assert done.returncode == 1
    assert "error[T009]" in done.stderr
    assert (tmp_path / "model.tower").read_text() == "mine"


def test_exit_codes(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.tower"
    wrong.write_text("model")
    assert run("check", QUICK).returncode == 0
    assert run("check", wrong).returncode == 1
    assert run("compile", wrong, "-o", tmp_path / "b").returncode == 1
    assert run("check").returncode == 2
    assert run("chek", QUICK).returncode == 2
    assert "did you mean" in run("chek", QUICK).stderr
    assert run("explain", "T999").returncode == 2
    assert run("compile", QUICK).returncode == 2
    assert not (tmp_path / "b").exists()


def test_check_speaks_to_machines(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.tower"
    wrong.write_text(QUICK.read_text().replace("mmoe(", "mmeo("))
    found = json.loads(run("check", wrong, "--json").stdout)
    (mistake,) = found["diagnostics"] if isinstance(found, dict) else found
    assert mistake["code"] == "T202"
    line = run("check", wrong, "--format", "github").stdout
    assert line.startswith("::error file=")
    concise = run("check", wrong, "--format", "concise").stdout.splitlines()
    assert len(concise) == 1
    assert "T202" in concise[0]


@pytest.mark.parametrize("spec", SPECS, ids=lambda p: p.stem)
def test_every_spec_is_canonical_and_explained(spec: Path) -> None:
    assert run("fmt", "--check", spec).returncode == 0
    rows = json.loads(run("explain", spec, "--json").stdout)["surfaces"]
    assert list(rows) == list(check(spec).sound()[0].surfaces)
    assert all(r["parameters"] > r["own_parameters"] > 0 and r["flops"]["candidate"] > 0 for r in rows.values())


@pytest.mark.parametrize("command", ["init", "check", "fmt", "compile", "explain", "graph", "completion"])
def test_every_command_has_help_with_an_example(command: str) -> None:
    text = run(command, "--help").stdout
    assert "Examples:" in text
    assert f"towerspec {command}" in text


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script(shell: str) -> None:
    assert "_TOWERSPEC_COMPLETE" in run("completion", shell).stdout


def test_the_op_graph_prints_for_one_surface() -> None:
    text = run("compile", QUICK, "--emit", "ops", "--surface", "search").stdout
    assert "search" in text
    assert "linear" in text
    done = run("compile", QUICK, "--emit", "ops", "--surface", "serch")
    assert done.returncode == 1
    assert "did you mean `search`" in done.stderr


def test_passes_are_explained() -> None:
    text = run("compile", QUICK, "--explain-passes", "--surface", "search").stdout
    assert text.startswith("search\npass ")
    steps = json.loads(run("compile", QUICK, "--explain-passes", "--no-pass", "split", "--json").stdout)["surfaces"][
        "home"
    ]
    assert [s["pass"] for s in steps] == ["slice", *(p.name for p in PIPELINE if p.level <= 2 and p.name != "split")]
    first, last = steps[0]["flops"], steps[-1]["flops"]
    assert first["request"] == 0 < last["request"]
    assert last["candidate"] < first["candidate"]
