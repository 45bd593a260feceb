"""Two processes make the weights that one does, up to the rounding of sums."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

from towerspec.train.run import Run
from towerspec.weights import read_safetensors

from .specs import PLAIN, tiny

OPTIONS = ["--time-column", "time", "--valid-from", "330", "--set", "epochs=2", "--set", "batch=50"]


def run(out: Path, *arguments: str) -> Run:
    done = subprocess.run(
        [sys.executable, "-m", "towerspec", "train", *arguments, "-o", str(out), *OPTIONS],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=80,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Run(out)


def test_two_processes_train_what_one_does(tmp_path: Path) -> None:
    spec, log, _ = tiny(tmp_path, 400, PLAIN)
    one = run(tmp_path / "one", str(spec), "--data", str(log))
    two = run(tmp_path / "two", str(spec), "--data", str(log), "--processes", "2")
    single, double = read_safetensors(one.weights), read_safetensors(two.weights)
    assert single.keys() == double.keys()
    for name, x in single.items():
        torch.testing.assert_close(double[name], x, atol=2e-5, rtol=1e-4, msg=name)
    for a, b in zip(one.record["epochs"], two.record["epochs"], strict=True):
        assert a.keys() == b.keys()
        assert all(abs(a[k] - b[k]) < 1e-4 for k in a), (a, b)
