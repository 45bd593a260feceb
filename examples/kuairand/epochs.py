"""How long to train: more epochs are tried while they help on a validation day."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from methods import TASKS, Fitted, labels_of, rows_of

from towerspec.train.metrics import auc

EPOCHS = (2, 3, 4, 6)


def best_epochs(
    fit: Callable[[int, Path], Fitted], valid: pa.Table, folder: Path, tries: Sequence[int] = EPOCHS
) -> int:
    """The first number of epochs that no longer training was better than, by the mean AUC on the validation rows."""
    best, score = tries[0], -1.0
    for epochs in tries:
        found = mean_of_aucs(fit(epochs, folder / str(epochs)), valid)
        if found <= score:
            break
        best, score = epochs, found
    return best


def mean_of_aucs(fitted: Fitted, table: pa.Table) -> float:
    """The mean AUC over the tasks and surfaces that have both labels in the table."""
    p, _ = fitted.predict(table)
    found = []
    for surface in sorted(set(table["surface"].to_pylist()) - {"other"}):
        here = rows_of(table, surface)
        found += [auc(labels_of(table, task)[here], p[task][here]) for task in TASKS]
    return float(np.mean([x for x in found if x is not None]))
