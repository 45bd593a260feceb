"""The run folder while it is made: prepared before the first step, and a run only once its record is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from towerspec import __version__
from towerspec.check import Checked
from towerspec.diagnostics import Diagnostic, SpecError
from towerspec.layers.blocks import Train
from towerspec.syntax.files import sources
from towerspec.train.callbacks import BEST, Best
from towerspec.train.carry import Carried
from towerspec.train.files import write_text, write_weights
from towerspec.train.run import FORMAT, Run
from towerspec.weights import read_safetensors

Say = Callable[[str], None]


@dataclass(frozen=True)
class Setup:
    """How a training runs, apart from what it computes."""

    resume: bool = False
    processes: int = 1
    nodes: int = 1
    checkpoint_every: int = 1000  # steps
    tensorboard: bool = False
    bar: bool = False
    say: Say = lambda line: None
    init_from: Run | None = None
    data: Mapping[str, Any] = field(default_factory=dict)  # for the record: what the log was read from


@dataclass(frozen=True)
class Made:
    """A module that is ready to be trained, and what it was made of."""

    module: nn.Module
    vocabularies: Mapping[str, Any]
    carried: Carried | None
    frozen: list[str]


def _plan(checked: Checked, options: Train, setup: Setup) -> dict[str, Any]:
    """What a training that goes on must have in common with the one that began."""
    assert checked.model is not None
    return {
        "spec": checked.model.text,
        "options": options.model_dump(mode="json"),
        "data": dict(setup.data),
        "init_from": str(setup.init_from.folder) if setup.init_from else None,
    }


def claim(run: Run, checked: Checked, options: Train, setup: Setup) -> None:
    """Finds the training in the folder that is to go on, or sees that a new one may begin there.

    Raises:
        SpecError: the folder holds something else (T821), another training (T822), or nothing to go on from (T801).
    """
    if setup.resume and run.plan.is_file():
        old = run.read_plan()
        # Sums depend on how many threads add them up.
        torch.set_num_threads(old.pop("threads"))
        if old != json.loads(json.dumps(_plan(checked, options, setup))):
            raise SpecError(
                Diagnostic(
                    "T822",
                    f"`{run.folder}` holds the training of another spec, other options or other data",
                    help="give the same ones as before, or another folder",
                )
            )
    elif run.folder.exists() and (not run.folder.is_dir() or any(run.folder.iterdir())):
        more = "" if setup.resume else ", or `--resume` to go on with the training there"
        why = ", and holds no training to go on with" if setup.resume else " already"
        raise SpecError(Diagnostic("T821", f"`{run.folder}` exists{why}", help=f"give another folder{more}"))


def prepare(run: Run, checked: Checked, options: Train, setup: Setup) -> None:
    """Makes the folder: what the training must have in common with one that goes on with it, and the spec."""
    assert checked.model is not None
    plan = {**_plan(checked, options, setup), "threads": torch.get_num_threads()}
    try:
        for half in run.checkpoints.glob(".*"):  # what a kill left of a file that was being written
            half.unlink()
        write_text(run.plan, json.dumps(plan, indent=2) + "\n")
        _copy_spec(run, Path(checked.model.path))
    except OSError as error:
        raise run.unwritable(error) from error


def _copy_spec(run: Run, spec: Path) -> None:
    """The spec and all that it includes, as they are now, in the same places to each other."""
    root = spec.resolve().parent
    for path in sources(spec):
        target = run.folder / "spec" / path.resolve().relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def finish(
    run: Run,
    checked: Checked,
    made: Made,
    options: Train,
    setup: Setup,
    best: Best,
    steps: int,
) -> None:
    """The best weights, the vocabularies, and last of all the record that makes the folder a run."""
    assert checked.model is not None
    write_weights(run.weights, read_safetensors(run.checkpoints / BEST))
    write_text(run.vocabularies, json.dumps(made.vocabularies) + "\n")
    record = {
        "format": FORMAT,
        "model": checked.model.name,
        "spec": Path(checked.model.path).name,
        "data": dict(setup.data),
        "options": options.model_dump(mode="json"),
        "steps": steps,
        "epochs": best.history,
        "best_epoch": best.best_epoch,
        "init_from": made.carried.as_json() if made.carried else None,
        "frozen": made.frozen,
        "versions": {"towerspec": __version__, "torch": torch.__version__, "lightning": version("lightning")},
    }
    write_text(run.folder / "run.json", json.dumps(record, indent=2) + "\n")
