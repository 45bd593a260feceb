"""How good predictions are, by surface and task: AUC, and log loss and calibration errors before and after
calibration."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from methods import SURFACES, TASKS, Predictions, labels_of, rows_of

from towerspec.train import metrics

Measures = dict[str, dict[str, dict[str, Any]]]  # by surface and task


def measures(table: pa.Table, before: Predictions, after: Predictions) -> Measures:
    """Each surface's and task's metrics on its rows of a table; None where a surface's labels don't define one."""
    found: Measures = {}
    for surface in SURFACES:
        here = rows_of(table, surface)
        found[surface] = {
            task: _of(labels_of(table, task)[here], before[task][here], after[task][here]) for task in TASKS
        }
    return found


def _of(labels: np.ndarray, before: np.ndarray, after: np.ndarray) -> dict[str, Any]:
    return {
        "rows": len(labels),
        "positives": int(labels.sum()),
        "auc": metrics.auc(labels, before),
        **{f"log_loss_{when}": metrics.log_loss(labels, p) for when, p in (("before", before), ("after", after))},
        **{f"ece_{when}": metrics.ece(labels, p) for when, p in (("before", before), ("after", after))},
        "ece_by_chance": metrics.ece_by_chance(after),
        "squared_before": metrics.square_error_of_calibration(labels, before),
        "squared_after": metrics.square_error_of_calibration(labels, after),
    }


def mean_auc(found: Measures, task: str) -> float:
    """The mean of the surfaces' AUC, of those that have both labels."""
    known = [tasks[task]["auc"] for tasks in found.values() if tasks[task]["auc"] is not None]
    return float(np.mean(known))
