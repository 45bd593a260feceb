"""Every impression of 4 May through each artefact of a build of the spec."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import calls
import numpy as np
import pyarrow as pa
import pytest
import score

import towerspec
from towerspec.check.model import Model
from towerspec.runtime.samples import COUNTS


@pytest.fixture(scope="module")
def build(model: Model, splits: dict[str, pa.Table], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return score.untrained(model, splits["train"], tmp_path_factory.mktemp("kuairand"))


@pytest.fixture(scope="module")
def found(build: Path, splits: dict[str, pa.Table], cpp_program: Path) -> dict[str, score.Scores]:
    return score.score(build, splits["test"], cpp_program)


def test_all_artefacts_agree_on_every_impression(found: dict[str, score.Scores], splits: dict[str, pa.Table]) -> None:
    assert score.agree(found)
    scored = {surface: len(heads["is_click"]) for surface, heads in found["file"].items()}
    assert scored == {"tab_0": 1455, "tab_1": 13_745, "tab_2": 492, "tab_4": 912, "tab_6": 397, "other": 199}
    assert sum(scored.values()) == splits["test"].num_rows
    for heads in found["file"].values():
        for x in heads.values():
            assert ((x > 0.0) & (x < 1.0)).mean() > 0.999  # a rare count is far from its mean
            assert x.std() > 0.01  # a saturated model agrees with anything


@pytest.mark.parametrize("artefact", ["unified.pt", "model.py", "alone", "file"])
def test_a_difference_is_seen(found: dict[str, score.Scores], artefact: str) -> None:
    wrong = copy.deepcopy(found)
    wrong[artefact]["tab_2"]["long_view"][17] += 1e-4
    assert not score.agree(wrong)
    wrong[artefact]["tab_2"]["long_view"][17] = np.nan
    assert not score.agree(wrong)


def test_cpp_may_not_differ_in_a_bit(found: dict[str, score.Scores]) -> None:
    wrong = {**found, "C++": copy.deepcopy(found["file"])}
    assert score.agree(wrong)
    x = wrong["C++"]["other"]["is_click"]
    x[3] = np.nextafter(x[3], np.float32(1))
    assert not score.agree(wrong)


def test_the_report_has_a_line_for_each_surface(found: dict[str, score.Scores], splits: dict[str, pa.Table]) -> None:
    header, *lines = score.report(splits["test"], found).splitlines()
    assert "file - unified.pt" in header
    assert [line.split()[:3] for line in lines][:2] == [["tab_0", "1,455", "1,288"], ["tab_1", "13,745", "12,037"]]


def test_calls_hold_whole_requests(build: Path, splits: dict[str, pa.Table], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "CANDIDATES", 100)
    surface = towerspec.load(build).surfaces["tab_0"]
    rows = calls.Rows("tab_0", surface.inputs, splits["test"])
    made = list(rows.calls())
    counts = np.concatenate([call[COUNTS] for call in made])
    assert counts.tolist() == np.unique(rows.request, return_counts=True)[1].tolist()
    assert max(len(call["video_rows"]) for call in made) <= 100
    for call in made:
        assert len(call["hour"]) == len(call[COUNTS])
        assert list(call) == [entry["name"] for entry in surface.inputs]
    counted = np.concatenate([call["video_rows"] for call in made])
    assert counted.tolist() == rows.columns["video_rows"].tolist()
    assert len(list(rows.calls(alone=True))) == len(made)


def test_samples_can_be_drawn_from_the_data(build: Path, splits: dict[str, pa.Table]) -> None:
    surface = towerspec.load(build).surfaces["tab_4"]
    columns = splits["test"].slice(0, 500).to_pydict()
    sample = surface.sample_inputs(candidates=5, requests=3, data=columns)
    assert {len(x) for x in surface(sample).values()} == {15}


def test_the_command_line_takes_a_build(build: Path, data: Path) -> None:
    program = Path(score.__file__)
    done = subprocess.run([sys.executable, program, "--data", data, "--build", build], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "13,745" in done.stdout


def test_a_program_that_fails_is_not_hidden(build: Path, splits: dict[str, pa.Table], tmp_path: Path) -> None:
    program = tmp_path / "broken"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    with pytest.raises(subprocess.CalledProcessError):
        score.score(build, splits["test"].slice(0, 50), program)
