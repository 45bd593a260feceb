"""`towerspec calibrate`: the calibrators of a run's spec, fitted to held-out rows and put into its weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from towerspec.diagnostics import Diagnostic, SpecError
from towerspec.train.bootstrap import Labelled, measure
from towerspec.train.calibration import FITTED, Fit, fit, predict_fit
from towerspec.train.data import Log
from towerspec.train.files import write_text, write_weights
from towerspec.train.fitters import STRENGTH, fitter
from towerspec.train.predict import SIZE, Scores, load_model, predict
from towerspec.train.run import Run
from towerspec.weights import read_safetensors

LOSSES = ("log_loss", "poisson_deviance", "rmse")  # a head has one of these


def calibrate(run: Run, log: Log, data: Mapping[str, Any], strength: float = STRENGTH) -> dict[str, Any]:
    """Fits a run's calibrators to a log, writes them into its weights, and returns what its record says of them.

    A calibrator without rows to fit stays as it is. `data` says for the record where the log came from.

    Raises:
        SpecError: the spec declares no calibrator (T832), the log has no row with a label for one (T831), or the run
            can't be read (T801) or written (T821).
    """
    checked, module = load_model(run)
    model, _ = checked.sound()
    found = predict(model, module, log.batches(SIZE))
    fits = {path: fitted for path, scores in found.items() if (fitted := fit_scores(scores, strength)) is not None}
    if not fits:
        raise SpecError(
            Diagnostic(
                "T832",
                f"the spec of `{run.folder}` declares no calibrator that could be fitted",
                help="add one to a surface, such as `calibrate click with platt`",
            )
        )
    if not any(fitted.rows for fitted in fits.values()):
        raise no_rows(run)
    weights = read_safetensors(run.weights)
    for path, fitted in fits.items():
        for name, value in fitted.params.items():
            weights[f"{path}.calibrate.{name}"] = torch.from_numpy(value.astype(np.float32))
    heads = [summary(found[path], fitted, run) for path, fitted in fits.items()]
    record = {"data": dict(data), "strength": strength, "heads": heads}
    try:
        write_weights(run.weights, weights)
        write_text(run.folder / "run.json", json.dumps({**run.record, "calibration": record}, indent=2) + "\n")
    except OSError as error:
        raise run.unwritable(error) from error
    return record


def no_rows(run: Run) -> SpecError:
    """The error of a log that says nothing about a run's heads."""
    return SpecError(
        Diagnostic(
            "T831",
            f"the log has no row with a label for a head of `{run.folder}`",
            help="see what it holds with `towerspec data check`, and which rows `--from` and `--before` leave",
        )
    )


def fit_scores(scores: Scores, strength: float) -> Fit | None:
    """One head's calibrator fitted to its rows; none where it has none, or one without parameters."""
    stand = scores.stand
    if stand.head.calibrate is None:
        return None
    kind = stand.head.calibrate.kind
    args = (kind, stand.head.kind, scores.logits, scores.labels, scores.cells, stand.keys)
    return fit(*args, offset=stand.offset, strength=strength)


def summary(scores: Scores, fitted: Fit, run: Run) -> dict[str, Any]:
    """What was fitted, for people and machines: rows, the loss on them before and after, parameters or cells."""
    stand = scores.stand
    assert stand.head.calibrate is not None
    out: dict[str, Any] = {
        "surface": stand.surface,
        "task": stand.task,
        "path": f"{stand.path}.calibrate",
        "kind": stand.head.calibrate.kind.kind,
        "by": stand.by.name if stand.by else None,
        "status": fitted.status,
        "rows": fitted.rows,
        "mean": fitted.mean,
    }
    if fitted.status == FITTED:
        out |= {"loss": _losses(scores, fitted)}
        out |= {"parameters": {k: (v[-1] if stand.by else v).tolist() for k, v in fitted.params.items()}}
    if stand.by is not None:
        names = values_of(scores, run)
        out["cells"] = [
            {"value": names(c.key), "rows": c.rows, "mean": c.mean, "own": round(c.own, 4)} for c in fitted.cells
        ]
    return out


def _losses(scores: Scores, fitted: Fit) -> dict[str, Any]:
    """The loss on the rows of the fit, before and after it."""
    stand = scores.stand
    assert stand.head.calibrate is not None
    kind = fitter(stand.head.calibrate.kind, stand.head.kind.kind, stand.offset)
    assert kind is not None
    after = predict_fit(kind, fitted, scores.logits.astype(np.float64), scores.cells)
    found = {}
    for name, predictions in (("before", scores.uncalibrated), ("after", after)):
        rows = Labelled(scores.labels, predictions, np.arange(len(scores)), scores.weights, False)
        values = measure(stand.head.kind.kind, rows)(np.ones(len(scores)))
        found[name] = next(values[loss] for loss in LOSSES if loss in values)
    return found


def values_of(scores: Scores, run: Run) -> Callable[[int], Any]:
    """What the spec or the data call a value of a calibration's key."""
    by = scores.stand.by
    assert by is not None
    named = getattr(by.kind, "values", None)
    if scores.stand.ids == "fitted":
        named = run.read_vocabularies().get(scores.stand.table)
    return lambda key: named[key] if named and key < len(named) else key
