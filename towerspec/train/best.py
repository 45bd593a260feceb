"""The best that any model can reach, from the true probabilities alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from towerspec.layers.heads import Count, Multiclass, Regression
from towerspec.train.columns import LabelColumn
from towerspec.train.encode import Array
from towerspec.train.rows import Encoder


class Best:
    """Collects truths by surface and task."""

    def __init__(self, encoder: Encoder) -> None:
        self.labels, self.surfaces = encoder.labels, encoder.surfaces
        self.found: dict[tuple[str, str], list[tuple[Array, Array]]] = {}

    def add(self, surface: Array, truth: Mapping[str, Array], labels: Mapping[str, Array]) -> None:
        """More rows; only those with a label count."""
        for name, label in self.labels.items():
            for index in label.surfaces:
                here = (surface == index) & ~np.isnan(labels[name])
                pair = (truth[name][here], labels[name][here])
                self.found.setdefault((self.surfaces[index], name), []).append(pair)

    def result(self) -> dict[str, dict[str, Any]]:
        """By surface and task: rows, the labels' mean, and for probabilities what the truth expects and what it got."""
        out: dict[str, dict[str, Any]] = {}
        for (surface, name), pairs in self.found.items():
            truth = np.concatenate([t for t, _ in pairs])
            labels = np.concatenate([y for _, y in pairs])
            out.setdefault(surface, {})[name] = _summary(self.labels[name], truth, labels)
        return out


def reachable(data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What `simulate` says of its own split, by surface and task; nothing of other rows, or of a part of a split."""
    paths = [Path(path) for path in data.get("data", ())]
    if len(paths) != 1 or any(data.get(bound) is not None for bound in ("from", "before")):
        return {}
    truth = paths[0].with_name("truth.json")
    if not truth.is_file() or not paths[0].with_name(f"truth_{paths[0].name}").is_file():
        return {}
    return dict(json.loads(truth.read_text(encoding="utf-8")).get(paths[0].stem, {}))


def _summary(label: LabelColumn, truth: Array, labels: Array) -> dict[str, Any]:
    found: dict[str, Any] = {"rows": len(labels), "mean": float(labels.mean()) if len(labels) else None}
    if len(labels) and not isinstance(label.kind, (Count, Multiclass, Regression)):
        expected = {
            "mean": float(truth.mean()),
            "log_loss": expected_log_loss(truth),
            "auc": expected_auc(truth, truth),
        }
        reached = {"log_loss": log_loss(truth, labels), "auc": expected_auc(truth, labels)}
        found |= {"expected": expected, "reached": reached}
    return found


def log_loss(p: Array, y: Array) -> float:
    """The mean log loss of predictions `p` on labels `y`."""
    p = p.clip(1e-15, 1 - 1e-15)
    return float(-(y * np.log(p) + (1 - y) * np.log1p(-p)).mean())


def expected_log_loss(p: Array) -> float:
    """The log loss that true probabilities expect of themselves: their mean entropy, in nats."""
    return log_loss(p, p)


def expected_auc(score: Array, positive: Array) -> float | None:
    """The AUC of scores where each row is positive by the given share: 0 and 1 for labels, probabilities for the truth.

    >>> expected_auc(np.array([0.1, 0.9, 0.8]), np.array([0.0, 1.0, 0.0]))
    1.0
    """
    _, group = np.unique(score, return_inverse=True)
    up, down = np.bincount(group, positive), np.bincount(group, 1 - positive)
    if not up.sum() or not down.sum():
        return None
    below = np.cumsum(down) - down
    return float((up * (below + down / 2)).sum() / (up.sum() * down.sum()))
