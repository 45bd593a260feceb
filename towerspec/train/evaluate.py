"""`towerspec evaluate`: how good a run is on a log, by surface and task and over all surfaces, before and after
calibration."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from towerspec import __version__
from towerspec.check.model import Model
from towerspec.diagnostics import Diagnostic
from towerspec.explain import explain_table
from towerspec.train import metrics
from towerspec.train.best import reachable
from towerspec.train.bootstrap import LEVEL, Estimate, Labelled, Probability, estimate, measure, reliability
from towerspec.train.calibrate import no_rows
from towerspec.train.data import Log
from towerspec.train.metrics import Array
from towerspec.train.predict import SIZE, Scores, load_model, predict
from towerspec.train.run import Run
from towerspec.train.survey import features_of, mostly_unknown, unknown_ids, watched

FORMAT = 1
TIMES = 200


def evaluate(run: Run, log: Log, data: Mapping[str, Any], times: int = TIMES, seed: int = 0) -> dict[str, Any]:
    """A run's metrics on a log, as `evaluation.json` holds them.

    `surfaces.<surface>.<task>` and, of tasks that several surfaces have, `overall.<task>` hold rows, the mean label,
    and under `before` and `after` calibration each metric's `value`, `low` and `high`; None is undefined. `change` is
    after less before, on the same resamples. Where the log is a split that `simulate` made, `best` is what its true
    probabilities reach on the same labels.

    Raises:
        SpecError: the log has no row with a label for a head (T831), or the run can't be read (T801, T601 to T605).
    """
    checked, module = load_model(run)
    model, _ = checked.sound()
    features = features_of(log)
    found = predict(model, module, watched(log.batches(SIZE), features))
    if not any(len(scores) for scores in found.values()):
        raise no_rows(run)
    surfaces: dict[str, dict[str, Any]] = {name: {} for name in model.surfaces}
    for (surface, task), parts in _by(found.values(), lambda s: (s.stand.surface, s.stand.task)).items():
        surfaces[surface][task] = {"calibration": calibrators(parts), **of_head(parts, times, seed)}
    for surface, tasks in reachable(data).items():
        for task, known in tasks.items():
            head = surfaces.get(surface, {}).get(task)
            if head is not None and "reached" in known and known["rows"] == head["rows"]:
                head["best"] = known["reached"]
    overall = {
        task: of_head(parts, times, seed)
        for task, parts in _by(found.values(), lambda s: s.stand.task).items()
        if len({part.stand.surface for part in parts}) > 1
    }
    record = run.record
    return {
        "format": FORMAT,
        "model": model.name,
        "towerspec": __version__,
        "data": dict(data),
        "rows": log.counts,
        "ids": unknown_ids(features),
        "warnings": [as_warning(problem) for problem in mostly_unknown(features.values())],
        "trained_on": record.get("data"),
        "epochs": len(record.get("epochs", ())),
        "best_epoch": record.get("best_epoch"),
        "calibrated_on": record.get("calibration", {}).get("data"),
        "bootstrap": {"times": times, "seed": seed, "level": LEVEL},
        "surfaces": surfaces,
        "overall": overall,
        "cost": explain_table(checked),
        "spec": facts(model),
    }


def as_warning(problem: Diagnostic) -> dict[str, Any]:
    """A warning as the document holds it."""
    return {"code": problem.code, "message": problem.message, "notes": list(problem.notes), "help": problem.help}


def _by(found: Iterable[Scores], key: Callable[[Scores], Any]) -> dict[Any, list[Scores]]:
    groups: dict[Any, list[Scores]] = {}
    for scores in found:
        groups.setdefault(key(scores), []).append(scores)
    return groups


def calibrators(parts: Sequence[Scores]) -> str | None:
    """How a head is calibrated, in the spec's words: `platt by view_type`."""
    stated = []
    for stand in (part.stand for part in parts):
        if stand.head.calibrate is not None and stand.head.calibrate.kind.kind != "none":
            by = f" by {stand.by.name}" if stand.by else ""
            stated.append(f"{stand.head.calibrate.kind.kind}{by}")
    return ", ".join(dict.fromkeys(stated)) or None


def of_head(parts: Sequence[Scores], times: int, seed: int) -> dict[str, Any]:
    """The metrics of a head's rows, from wherever it stands."""
    kind = parts[0].stand.head.kind.kind
    rows = {"before": _labelled(parts, "uncalibrated"), "after": _labelled(parts, "predictions")}
    measures = {name: measure(kind, labelled) for name, labelled in rows.items()}
    held = rows["after"]
    out: dict[str, Any] = {
        "kind": kind,
        "rows": len(held.labels),
        "requests": held.count if held.requests else None,
        "mean": metrics.mean(held.labels, held.weights) if kind != "multiclass" else None,
    }
    out |= {name: _as_json(values) for name, values in estimate(measures, times, seed).items()}
    after = measures["after"]
    if isinstance(after, Probability):
        out["positives"] = int(held.labels.sum())
        out["ece_by_chance"] = metrics.ece_by_chance(held.predictions)
        if (held.weights == 1).all():  # it is of rows, and not of weights
            out["calibration_error"] = {n: metrics.calibration_error(r.labels, r.predictions) for n, r in rows.items()}
        out["reliability"] = {name: reliability(labelled, times, seed) for name, labelled in rows.items()}
        if after.groups is not None:
            out["one_class_requests"] = after.groups.left_out
    return out


def _labelled(parts: Sequence[Scores], predictions: str) -> Labelled:
    """A head's rows with one of its predictions."""
    labels = np.concatenate([part.labels for part in parts])
    filled = [part.requests for part in parts if len(part)]
    known = [x for x in filled if x is not None]
    clusters: Array = np.arange(len(labels))
    if known and len(known) == len(filled):
        clusters = np.unique(np.concatenate(known), return_inverse=True)[1]
    values = np.concatenate([getattr(part, predictions) for part in parts])
    weights = np.concatenate([part.weights for part in parts])
    return Labelled(labels, values, clusters, weights, len(known) == len(filled) > 0)


def _as_json(found: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: value.as_json() for name, value in found.items()}


def facts(model: Model) -> dict[str, Any]:
    """What a report says of the spec."""
    return {
        "surfaces": len(model.surfaces),
        "features": len(model.features),
        "tables": len(model.tables),
        "tasks": list(dict.fromkeys(head for surface in model.surfaces.values() for head in surface.heads)),
        "text": model.text,
    }


def as_text(document: Mapping[str, Any]) -> str:
    """`evaluation.json`'s text; numbers that JSON can't hold don't occur."""
    return json.dumps(document, indent=2, allow_nan=False) + "\n"
