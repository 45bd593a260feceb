"""Specs as methods: `towerspec train`, `calibrate` and what `evaluate` predicts, called in Python."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from epochs import best_epochs
from methods import SURFACES, Predictions, rows_of

from towerspec.check import check
from towerspec.train.calibrate import calibrate
from towerspec.train.data import Log, open_log
from towerspec.train.predict import SIZE, load_model, predict
from towerspec.train.run import Run
from towerspec.train.settings import settings
from towerspec.train.trainer import train

LONGER = (2, 4, 8, 16, 32)  # epochs that a surface's own model is tried with


@dataclass(frozen=True)
class Trained:
    """A run of a spec."""

    run: Run

    def calibrate(self, held_out: pa.Table) -> None:
        """Fits the calibrators that the spec declares; see `Fitted`."""
        calibrate(self.run, _log(self.run.folder / "spec" / self.run.record["spec"], held_out, "calibrate"), {})

    def predict(self, table: pa.Table) -> tuple[Predictions, Predictions]:
        """See `Fitted`."""
        checked, module = load_model(self.run)
        model, _ = checked.sound()
        log = _log(self.run.folder / "spec" / self.run.record["spec"], table, "predict")
        before: Predictions = {}
        after: Predictions = {}
        for scores in predict(model, module, log.batches(SIZE)).values():
            here = rows_of(table, scores.stand.surface) if len(model.surfaces) > 1 else slice(None)
            for found, values in ((before, scores.uncalibrated), (after, scores.predictions)):
                found.setdefault(scores.stand.task, np.full(len(table), np.nan))[here] = values
        return before, after


def fit_spec(spec: Path, table: pa.Table, seed: int, epochs: int, folder: Path) -> Trained:
    """Trains a spec on a table of rows, for so many epochs."""
    checked = check(spec)
    model, _ = checked.sound()
    options = settings(model.train, [f"epochs={epochs}", f"seed={seed}"])
    return Trained(train(checked, _log(spec, table, "train", folder), None, folder / "run", options))


def _log(spec: Path, table: pa.Table, name: str, folder: Path | None = None) -> Log:
    """A table as a file that a spec's log is read from; a spec of one surface takes the rows of all."""
    checked = check(spec)
    model, _ = checked.sound()
    path = (folder or spec.parents[1]) / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table if len(model.surfaces) > 1 else table.drop_columns("surface"), path)
    return open_log(checked, [path])


# ---- a model for each surface ------------------------------------------------------------------


def spec_of(text: str, surface: str) -> str:
    """A spec's text with one of its surfaces alone.

    >>> print(spec_of("model m\\nsurface a = t()\\nsurface b {\\n}\\ntrain {\\n}\\n", "b"))
    model m
    surface b {
    }
    train {
    }
    """
    parts = re.split(r"(?m)^(?=surface |train )", text)
    return "".join(p for p in parts if not p.startswith("surface ") or re.match(rf"surface {surface}\b", p)).rstrip()


@dataclass(frozen=True)
class Separate:
    """A run for each surface."""

    runs: Mapping[str, Trained]

    def calibrate(self, held_out: pa.Table) -> None:
        """See `Fitted`."""
        for surface, own in self.runs.items():
            own.calibrate(held_out.filter(pa.array(rows_of(held_out, surface))))

    def predict(self, table: pa.Table) -> tuple[Predictions, Predictions]:
        """See `Fitted`."""
        made: tuple[Predictions, Predictions] = ({}, {})
        for surface, own in self.runs.items():
            here = rows_of(table, surface)
            for all_rows, rows in zip(made, own.predict(table.filter(pa.array(here))), strict=True):
                for task, values in rows.items():
                    all_rows.setdefault(task, np.full(len(table), np.nan))[here] = values
        return made


def fit_separate(spec: Path, table: pa.Table, seed: int, epochs: Mapping[str, int], folder: Path) -> Separate:
    """Trains a model for each surface on its own rows, with the spec's trunk, tower and options."""
    return Separate({s: _fit_own(spec, table, s, seed, epochs[s], folder / s) for s in SURFACES})


def choose_separate(spec: Path, train: pa.Table, valid: pa.Table, folder: Path) -> dict[str, int]:
    """How many epochs each surface's model is trained: few rows take many."""
    return {
        s: best_epochs(
            lambda epochs, own, s=s: Separate({s: _fit_own(spec, train, s, 0, epochs, own)}),  # type: ignore[misc]
            valid.filter(pa.array(rows_of(valid, s))),
            folder / s,
            LONGER,
        )
        for s in SURFACES
    }


def _fit_own(spec: Path, table: pa.Table, surface: str, seed: int, epochs: int, folder: Path) -> Trained:
    own = folder / f"{surface}.tower"
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text(spec_of(spec.read_text(encoding="utf-8"), surface), encoding="utf-8")
    return fit_spec(own, table.filter(pa.array(rows_of(table, surface))), seed, epochs, folder)
