"""What `compare.py` compares: each method is fitted to a table of rows, and then predicts those of others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from towerspec.layers.calibrators import Platt
from towerspec.layers.heads import Binary
from towerspec.train.calibration import fit, predict_fit
from towerspec.train.fitters import fitter

SURFACES = ["tab_0", "tab_1", "tab_2", "tab_4", "tab_6"]
TASKS = ["is_click", "long_view", "is_like", "is_profile_enter"]

Predictions = dict[str, np.ndarray]  # by task: each row's probability `[N]`; NaN where a method has none


class Fitted(Protocol):
    """A method that has been fitted."""

    def calibrate(self, held_out: pa.Table) -> None:
        """Fits the calibration to rows that were not trained on."""

    def predict(self, table: pa.Table) -> tuple[Predictions, Predictions]:
        """The probabilities before and after calibration."""


@dataclass(frozen=True)
class Method:
    """How one of them is fitted: `fit(train, seed, epochs, folder)`.

    `epochs` maps what is chosen on a validation day to the methods' own units: passes over the rows, or, of trees, each
    task's number. `choose(train, valid, folder)` chooses them.
    """

    name: str
    title: str
    fit: Callable[[pa.Table, int, Any, Path], Fitted]
    choose: Callable[[pa.Table, pa.Table, Path], Any] | None = None  # by default, `compare.choose_epochs`


def rows_of(table: pa.Table, surface: str) -> np.ndarray:
    """`[N]`: which rows are a surface's."""
    return np.asarray(table["surface"]) == surface


def labels_of(table: pa.Table, task: str) -> np.ndarray:
    """`[N]`: a task's labels."""
    return np.asarray(table[task].to_numpy(), dtype=np.float64)


@dataclass
class Platted:
    """A model that can't calibrate itself, with a line on the logit for each surface and task: as the specs have it."""

    probabilities: Callable[[pa.Table], Predictions]
    lines: dict[tuple[str, str], Callable[[np.ndarray], np.ndarray]] = field(default_factory=dict)

    def calibrate(self, held_out: pa.Table) -> None:
        """See `Fitted`."""
        for task, p in self.probabilities(held_out).items():
            y = labels_of(held_out, task)
            for surface in SURFACES:
                here = rows_of(held_out, surface)
                self.lines[surface, task] = _line(logit(p[here]), y[here])

    def predict(self, table: pa.Table) -> tuple[Predictions, Predictions]:
        """See `Fitted`."""
        before = self.probabilities(table)
        after: Mapping[str, np.ndarray] = {task: p.copy() for task, p in before.items()}
        for (surface, task), line in self.lines.items():
            here = rows_of(table, surface)
            after[task][here] = line(logit(before[task][here]))
        return before, dict(after)


def _line(z: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Platt scaling by the same code that `towerspec calibrate` runs."""
    found, kind = fit(Platt(), Binary(), z, y), fitter(Platt(), "binary", 0.0)
    assert found is not None
    assert kind is not None
    if found.status != "fitted":
        return lambda z: 1 / (1 + np.exp(-z))
    return lambda z: np.asarray(predict_fit(kind, found, z))


def logit(p: np.ndarray) -> np.ndarray:
    """`[N]`: log-odds, finite."""
    p = np.clip(p.astype(np.float64), 1e-7, 1 - 1e-7)
    return np.asarray(np.log(p) - np.log1p(-p))
