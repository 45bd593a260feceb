"""Two processes make the weights that one does, up to the rounding of sums."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from towerspec.cli import main
from towerspec.train.run import Run
from towerspec.weights import read_safetensors

from .specs import PLAIN, tiny

OPTIONS = ["--time-column", "time", "--valid-from", "330", "--set", "epochs=2", "--set", "batch=50"]


def run(out: Path, *arguments: object) -> Run:
    """One process, here."""
    with pytest.raises(SystemExit) as end:
        main(["train", *map(str, arguments), "-o", str(out), *OPTIONS])
    assert not end.value.code
    return Run(out)


def run_two(out: Path, *arguments: object) -> Run:
    """Two processes: the first starts the second by its own command line."""
    command = [sys.executable, "-m", "towerspec", "train", *map(str, arguments), "-o", str(out), *OPTIONS]
    done = subprocess.run([*command, "--processes", "2"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return Run(out)


def test_two_processes_train_what_one_does(tmp_path: Path) -> None:
    spec, log, _ = tiny(tmp_path, 400, PLAIN)
    one = run(tmp_path / "one", spec, "--data", log)
    two = run_two(tmp_path / "two", spec, "--data", log)
    single, double = read_safetensors(one.weights), read_safetensors(two.weights)
    assert single.keys() == double.keys()
    for name, x in single.items():
        torch.testing.assert_close(double[name], x, atol=2e-5, rtol=1e-4, msg=name)
    for a, b in zip(one.record["epochs"], two.record["epochs"], strict=True):
        assert a.keys() == b.keys()
        assert all(abs(a[k] - b[k]) < 1e-4 for k in a), (a, b)
