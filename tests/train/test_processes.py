"""Two processes make the weights that one does, up to the rounding of sums, and go on after a kill."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from towerspec.check import check
from towerspec.cli import main
from towerspec.train.run import Run
from towerspec.weights import read_safetensors

from .memory import learnable
from .specs import PLAIN, tiny, write_log, write_spec

OPTIONS = ["--time-column", "time", "--set", "epochs=2"]

# Batch normalisation in the trunk, for each surface, in a tower, and in the arms of a branch; and batches so small that
# a process at times has no row of an arm, or all of its rows in one.
NORMED = """model normed

request {
    user : category { rows: 40, dim: 8 }
    kind : category { values: [a, b, c] }
}

candidate {
    item  : category { rows: 60, dim: 8 }
    price : number
}

trunk {
    mixed  = batchnorm(concat(request, candidate))
    shared = batchnorm(mlp(mixed, hidden: [16], norm: batch), per_surface: true)
}

surface home {
    tower {
        branch by kind {
            a {
                layers: [8]
                norm: batch
                head click : binary
            }
            else {
                layers: [8]
                norm: batch
                head click : binary
                head save  : binary
            }
        }
    }
}

surface search {
    tower {
        layers: [8]
        norm: batch
        head click : binary
    }
}
"""


def run(out: Path, *arguments: object) -> Run:
    """One process, here."""
    with pytest.raises(SystemExit) as end:
        main(["train", *map(str, arguments), "-o", str(out), *OPTIONS])
    assert not end.value.code
    return Run(out)


def two(out: Path, *arguments: object) -> list[str]:
    """The command line of two processes: the first starts the second."""
    command = [sys.executable, "-m", "towerspec", "train", *map(str, arguments), "-o", str(out), *OPTIONS]
    return [*command, "--processes", "2"]


def run_two(out: Path, *arguments: object) -> Run:
    done = subprocess.run(two(out, *arguments), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return Run(out)


def assert_alike(one: Run, other: Run, atol: float = 2e-5, rtol: float = 1e-4) -> None:
    single, double = read_safetensors(one.weights), read_safetensors(other.weights)
    assert single.keys() == double.keys()
    for name, x in single.items():
        torch.testing.assert_close(double[name], x, atol=atol, rtol=rtol, msg=lambda m, name=name: f"{name}: {m}")
    for a, b in zip(one.record["epochs"], other.record["epochs"], strict=True):
        assert a.keys() == b.keys()
        assert all(abs(a[k] - b[k]) < 1e-3 for k in a), (a, b)


def test_two_processes_train_what_one_does(tmp_path: Path) -> None:
    spec, log, _ = tiny(tmp_path, 400, PLAIN)
    words = [spec, "--data", log, "--valid-from", "330", "--set", "batch=50"]
    assert_alike(run(tmp_path / "one", *words), run_two(tmp_path / "two", *words))


@pytest.mark.slow
def test_two_machines_train_what_one_does(tmp_path: Path) -> None:
    """Each with one process; both are this machine, and meet at its own address."""
    spec, log, _ = tiny(tmp_path, 400, PLAIN)
    words = [spec, "--data", log, "--valid-from", "330", "--set", "batch=50"]
    command = [sys.executable, "-m", "towerspec", "train", *map(str, words), "-o", str(tmp_path / "two"), *OPTIONS]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    machines = [
        subprocess.Popen(
            [*command, "--nodes", "2"], env={**os.environ, **address, "NODE_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    said = [machine.communicate(timeout=300)[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], said
    assert_alike(run(tmp_path / "one", *words), Run(tmp_path / "two"))
    assert said[1] == "", "one of them speaks"


def test_machines_need_a_place_to_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would wait for the other without an end."""
    spec, log, _ = tiny(tmp_path, 40, PLAIN)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(SystemExit) as end:
        main(["train", str(spec), "--data", str(log), "-o", str(tmp_path / "run"), "--nodes", "2"])
    assert end.value.code == 2


@pytest.mark.slow
@pytest.mark.parametrize("balance", ["fixed", "gradnorm"])
def test_they_normalise_by_the_rows_of_both(tmp_path: Path, balance: str) -> None:
    spec = write_spec(tmp_path, NORMED, "normed.tower")
    checked = check(spec)
    log = write_log(tmp_path / "log.parquet", checked, learnable(checked, 121))
    # Plain descent: an optimiser that divides by a gradient's size makes a step of its rounding where it is zero.
    given = ["batch=16", "optimizer=sgd", "embedding_optimizer=sgd", "learning_rate=0.05", f"balance={balance}"]
    words = [spec, "--data", log, "--valid-from", "110", *(x for option in given for x in ("--set", option))]
    assert_alike(run(tmp_path / "one", *words), run_two(tmp_path / "two", *words), 1e-3, 1e-3)


@pytest.mark.slow
def test_killed_processes_go_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    spec, log, _ = tiny(tmp_path, 600)
    words = [spec, "--data", log, "--set", "batch=20", "--checkpoint-every", "5"]
    killed = Run(tmp_path / "killed")
    process = subprocess.Popen(two(killed.folder, *words), stderr=subprocess.DEVNULL, start_new_session=True)
    while process.poll() is None and not (killed.checkpoints / "last.ckpt").exists():
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (killed.folder / "run.json").exists(), "it was killed before its end"
    run_two(killed.folder, *words, "--resume")
    whole = run_two(tmp_path / "whole", *words)
    assert killed.weights.read_bytes() == whole.weights.read_bytes()
    assert killed.record["epochs"] == whole.record["epochs"]
