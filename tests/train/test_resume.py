"""A training that is killed and goes on gives the weights of one that was not, bit for bit."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from towerspec.cli import main
from towerspec.diagnostics import SpecError
from towerspec.train.run import Run

from .specs import tiny

OPTIONS = ["--time-column", "time", "--valid-from", "500", "--set", "epochs=6", "--set", "batch=50"]
OPTIONS += ["--set", "schedule=cosine", "--set", "balance=gradnorm", "--set", "patience=9", "--checkpoint-every", "4"]


def run(*arguments: object) -> None:
    with pytest.raises(SystemExit) as end:
        main(["train", *OPTIONS, *map(str, arguments)])
    assert not end.value.code


def kill_after(checkpoints: int, path: Path, arguments: list[str]) -> None:
    """Runs a training in a process of its own, and kills it once so many checkpoints were written."""
    process = subprocess.Popen(
        [sys.executable, "-m", "towerspec", "train", *arguments, *OPTIONS], stderr=subprocess.DEVNULL
    )
    seen: set[int] = set()
    while process.poll() is None and len(seen) < checkpoints:
        if path.exists():
            seen.add(path.stat().st_mtime_ns)
        time.sleep(0.001)
    process.kill()
    process.wait()


@pytest.mark.parametrize("checkpoints", [2, 5])
def test_a_killed_training_goes_on_as_if_nothing_had_been(tmp_path: Path, checkpoints: int) -> None:
    spec, log, _ = tiny(tmp_path)
    killed = Run(tmp_path / "killed")
    kill_after(checkpoints, killed.checkpoints / "last.ckpt", [str(spec), "--data", str(log), "-o", str(killed.folder)])
    with pytest.raises(SpecError, match="holds no usable run"):
        _ = killed.record
    (killed.checkpoints / ".last.ckpt.1").write_bytes(b"half of a checkpoint")
    run(spec, "--data", log, "-o", killed.folder, "--resume")
    whole = Run(tmp_path / "whole")
    run(spec, "--data", log, "-o", whole.folder)
    assert killed.weights.read_bytes() == whole.weights.read_bytes()
    assert killed.record["epochs"] == whole.record["epochs"]
    assert not list(killed.checkpoints.glob(".*")), "nothing half-written stays"


def test_a_finished_training_is_left_as_it_is(tmp_path: Path) -> None:
    """Calibrators may have been fitted since: to take it up again must not lose them."""
    spec, log, _ = tiny(tmp_path, 100)
    out = Run(tmp_path / "run")
    run(spec, "--data", log, "-o", out.folder, "--valid-from", "60", "--set", "epochs=1")
    with pytest.raises(SystemExit) as end:
        main(["calibrate", str(out.folder), "--data", str(log), "--time-column", "time", "--from", "60"])
    assert not end.value.code
    weights, record = out.weights.read_bytes(), out.record
    assert "calibration" in record
    run(spec, "--data", log, "-o", out.folder, "--valid-from", "60", "--set", "epochs=1", "--resume")
    assert out.weights.read_bytes() == weights
    assert out.record == record
