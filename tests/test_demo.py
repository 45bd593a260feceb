"""The demo learns from a simulated log always, and from KuaiRand where it is at hand, and says which."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def demo() -> Any:
    spec = importlib.util.spec_from_file_location("demo", ROOT / "examples" / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("there", [False, True])
def test_the_real_log_is_learned_from_where_it_is_at_hand(
    demo: Any, there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "kuairand").mkdir()
    monkeypatch.setenv("KUAIRAND_DIR", str(tmp_path / ("kuairand" if there else "nowhere")))
    called: list[tuple[Any, ...]] = []
    monkeypatch.setattr(demo, "run", lambda *words: called.append(words))
    monkeypatch.setattr(demo, "learn", lambda *words: called.append(words))
    monkeypatch.setattr(demo, "REAL", tmp_path / "build")
    demo.real()
    said = capsys.readouterr().out
    assert ("left out" in said) is not there
    assert [words[0] for words in called] == (["python", demo.KUAIRAND] if there else [])


def test_its_commands_serve_what_they_learned(
    demo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    demo.run("towerspec", "simulate", demo.QUICK, "-o", log, "--rows", 3000)
    demo.learn(demo.QUICK, log, tmp_path, "search", "--set", "epochs=1")
    said = capfd.readouterr().out
    for name in ("simulate", "train", "calibrate", "evaluate", "compile"):
        assert f"$ towerspec {name} " in said
    assert len(said.splitlines()[-1].split()) == 1 + 5, "a prediction for each of five candidates"
