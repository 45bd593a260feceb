"""Fits calibrators: from raw logits and labels of held-out rows to each calibrator's parameters.

A head's own fit is by maximum likelihood, or by isotonic regression. With `by`, each value of the key has a cell of
parameters, and a cell with few rows is drawn towards the head's own fit by a prior that is worth `STRENGTH` rows of the
rarer class: a cell with as many of its own stands half-way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from towerspec.layers.calibrators import PROBABILITIES, Calibrator
from towerspec.layers.heads import Head
from towerspec.train.fitters import STRENGTH, Fitter, Params, Rows, fitter
from towerspec.train.metrics import Array

__all__ = ["STRENGTH", "Cell", "Fit", "fit"]
FITTED, NO_ROWS, ONE_CLASS = "fitted", "no rows", "one class"


@dataclass(frozen=True)
class Cell:
    """One value of a calibration's key: its rows, the mean of their labels, and how much of its fit is its own."""

    key: int
    rows: int
    mean: float | None
    own: float


@dataclass(frozen=True)
class Fit:
    """A fitted calibrator: parameters `[width]`, or `[keys + 1, width]` with the head's own fit in the last row.

    Without a row, or with rows of one class only, there is nothing to fit: it has no parameters then, and `status`
    says why.
    """

    params: Params
    status: str
    rows: int
    mean: float | None
    cells: tuple[Cell, ...] = ()


def fit(
    calibrator: Calibrator,
    head: Head,
    logits: Array,
    labels: Array,
    cells: Array | None = None,
    keys: int = 0,
    offset: float = 0.0,
    strength: float = STRENGTH,
) -> Fit | None:
    """Fits one calibrator to held-out rows; none if it has no parameters.

    `logits` are `[N]`, or `[N, K]` of a multiclass head, and `labels` `[N]`. `cells` `[N]` says which of the `keys`
    values of the key a row has; any other number is an unknown or missing one, which gets the head's own fit.
    `offset` is what thinned-out negatives add to the log-odds of the rows that are left: it is taken out again.
    """
    kind = fitter(calibrator, head.kind, offset, strength)
    if kind is None:
        return None
    z, y = np.asarray(logits, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    rows = Rows(z, np.eye(z.shape[1])[y.astype(np.int64)] if z.ndim > 1 else y, np.ones(len(y)))
    status = _status(y, head)
    if status != FITTED:
        return Fit({}, status, len(y), _mean(y, z))
    with threadpool_limits(1, user_api="blas"):  # fits are many and small: threads would only wait for each other
        return _fit(kind, rows, y, cells, keys)


def _fit(kind: Fitter, rows: Rows, y: Array, cells: Array | None, keys: int) -> Fit:
    """The head's own fit, and then each cell's."""
    z, own = rows.z, kind.own(rows)
    if cells is None:
        return Fit(own, FITTED, len(y), _mean(y, z))
    tables = {name: np.repeat(value[None], keys + 1, 0) for name, value in own.items()}
    prior = kind.synthetic(rows, own)
    worth = float(prior.w.sum())
    found = []
    for key, here in groups(cells, keys):
        for name, value in kind.cell(rows.take(here), own, prior).items():
            tables[name][key] = value
        found.append(Cell(key, len(here), _mean(y[here], z), len(here) / (len(here) + worth)))
    return Fit(tables, FITTED, len(y), _mean(y, z), tuple(found))


def _status(y: Array, head: Head) -> str:
    if not len(y):
        return NO_ROWS
    one = head.kind in {*PROBABILITIES, "multiclass"} and (y == y[0]).all()
    return ONE_CLASS if one else FITTED


def _mean(y: Array, z: Array) -> float | None:
    """The labels' mean; classes have none."""
    return float(y.mean()) if len(y) and z.ndim == 1 else None


def groups(cells: Array, keys: int) -> Iterator[tuple[int, Array]]:
    """The key's values that have rows, in ascending order, and those rows' positions."""
    order = np.argsort(cells, kind="stable")
    found, starts = np.unique(cells[order], return_index=True)
    for key, here in zip(found.tolist(), np.split(order, starts[1:]), strict=True):
        if 0 <= key < keys:
            yield key, here


def predict_fit(kind: Fitter, found: Fit, logits: Array, cells: Array | None = None) -> Array:
    """What a fit makes of logits, in float64: for tests and reports; a compiled model's numbers are its own."""
    if cells is None:
        return kind.predict(found.params, logits)
    last = len(next(iter(found.params.values()))) - 1
    out = np.empty(logits.shape)
    known = np.where((cells >= 0) & (cells < last), cells, last)
    for key in np.unique(known):
        here = known == key
        out[here] = kind.predict({name: table[key] for name, table in found.params.items()}, logits[here])
    return out
