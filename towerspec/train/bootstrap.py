"""Metrics of one head's rows with bootstrap confidence intervals, before and after calibration on the same resamples.

A resample draws as many requests as there are, each with all its rows (the cluster bootstrap: Field & Welsh 2007,
doi:10.1111/j.1467-9868.2007.00593.x): rows of one request are not independent. Without requests it draws rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from towerspec.train import metrics
from towerspec.train.metrics import Array

LEVEL = 0.95
RARER = 12  # rows of the rarer class in a bin of a diagram
KINDS = {"binary": "probability", "product": "probability"}  # other kinds of heads have a measure of their own name
Found = dict[str, float | None]


@dataclass(frozen=True)
class Labelled:
    """Rows of one head with a label.

    `predictions` are `[N]` or `[N, K]`, `clusters` `[N]` from 0 say which are resampled together, `weights` `[N]` how
    many rows each stands for; `requests` says whether clusters are requests, so that there are grouped metrics.
    """

    labels: Array
    predictions: Array
    clusters: Array
    weights: Array
    requests: bool

    @cached_property
    def count(self) -> int:
        return int(self.clusters.max()) + 1 if len(self.clusters) else 0


@dataclass(frozen=True)
class Estimate:
    """A metric's value and the ends of its interval; none where it is undefined."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def as_json(self) -> dict[str, float | None]:
        return {"value": self.value, "low": self.low, "high": self.high}


class Measure:
    """All metrics of a head's rows, at any number of times that each cluster is drawn; the rows are sorted once."""

    def __init__(self, rows: Labelled) -> None:
        self.rows = rows

    def weights(self, counts: Array) -> Array:
        return np.asarray(counts[self.rows.clusters] * self.rows.weights)

    def __call__(self, counts: Array) -> Found:
        """The metrics where cluster `i` is there `counts[i]` times."""
        raise NotImplementedError


class Probability(Measure):
    """Of predicted probabilities of a label that is 0 or 1."""

    def __init__(self, rows: Labelled, bins: int = metrics.BINS) -> None:
        order = np.argsort(rows.predictions, kind="stable")
        p, y = rows.predictions[order].astype(np.float64), rows.labels[order].astype(np.float64)
        super().__init__(Labelled(y, p, rows.clusters[order], rows.weights[order], rows.requests))
        self.ties, self.bins = metrics.starts_of(p), metrics.equal_mass(p, bins)
        self.losses = metrics.log_losses(y, p)
        self.groups = metrics.group_aucs(y, p, self.rows.clusters) if rows.requests else None
        self.there = np.unique(self.rows.clusters)  # in the order of `groups`

    def __call__(self, counts: Array) -> Found:
        w, y, p = self.weights(counts), self.rows.labels, self.rows.predictions
        rate, loss = metrics.mean(y, w), metrics.mean(self.losses, w)
        return {
            "auc": metrics.auc_sorted(y, self.ties, w),
            **({"grouped_auc": self.groups.mean(counts=counts[self.there])} if self.groups else {}),
            "log_loss": loss,
            "normalised_entropy": metrics.over(loss, metrics.entropy(rate)),
            "calibration_ratio": metrics.over(metrics.mean(p, w), rate),
            "ece": metrics.ece_sorted(y, p, self.bins, w),
        }

    def reliability(self, counts: Array) -> tuple[Array, Array]:
        """Of each bin of equal mass: the mean prediction and the mean label, NaN where nothing was drawn."""
        w = self.weights(counts)
        mass = np.add.reduceat(w, self.bins)
        there = np.where(mass > 0, mass, np.nan)
        sums = (np.add.reduceat(x * w, self.bins) for x in (self.rows.predictions, self.rows.labels))
        predicted, actual = (x / there for x in sums)
        return predicted, actual


class Number(Measure):
    """Of a regression's predictions."""

    def __call__(self, counts: Array) -> Found:
        rows, w = self.rows, self.weights(counts)
        return {
            "rmse": metrics.rmse(rows.labels, rows.predictions, w),
            "calibration_ratio": metrics.calibration_ratio(rows.labels, rows.predictions, w),
        }


class Rate(Measure):
    """Of predicted rates of a count."""

    def __call__(self, counts: Array) -> Found:
        rows, w = self.rows, self.weights(counts)
        return {
            "poisson_deviance": metrics.poisson_deviance(rows.labels, rows.predictions, w),
            "rmse": metrics.rmse(rows.labels, rows.predictions, w),
            "calibration_ratio": metrics.calibration_ratio(rows.labels, rows.predictions, w),
        }


class Classes(Measure):
    """Of predicted probabilities `[N, K]` of classes; its ECE is that of the most likely class (Guo et al. 2017)."""

    def __call__(self, counts: Array) -> Found:
        rows, w = self.rows, self.weights(counts)
        right = (rows.predictions.argmax(-1) == rows.labels).astype(np.float64)
        return {
            "log_loss": metrics.class_log_loss(rows.labels, rows.predictions, w),
            "accuracy": metrics.accuracy(rows.labels, rows.predictions, w),
            "ece": metrics.ece(right, rows.predictions.max(-1), w) if len(right) else None,
        }


MEASURES: Mapping[str, type[Measure]] = {
    "probability": Probability,
    "regression": Number,
    "count": Rate,
    "multiclass": Classes,
}


def measure(kind: str, rows: Labelled) -> Measure:
    """The metrics for a head's kind."""
    return MEASURES[KINDS.get(kind, kind)](rows)


def resamples(count: int, times: int, seed: int) -> Iterator[Array]:
    """How often each of `count` clusters is drawn, `[count]`, in each of `times` resamples."""
    rng = np.random.default_rng(seed)
    for _ in range(times):
        yield np.bincount(rng.integers(0, count, count), minlength=count).astype(np.float64)


def estimate(measures: Mapping[str, Measure], times: int, seed: int) -> dict[str, dict[str, Estimate]]:
    """Each measure's metrics with their intervals, and under `change` the last measure's less the first one's.

    All measures are of the same rows in the same clusters, and see the same resamples. The intervals hold the middle
    95% of the resamples. An ECE is larger in resamples than in the rows themselves, as they repeat rows; so its
    interval is moved by the mean of that, and begins at 0 or later.
    """
    count = max((m.rows.count for m in measures.values()), default=0)
    values = {name: m(np.ones(count)) for name, m in measures.items()}
    drawn: dict[str, list[Found]] = {name: [] for name in measures}
    for counts in resamples(count, times if count > 1 else 0, seed):  # of one request all resamples are the same
        for name, m in measures.items():
            drawn[name].append(m(counts))
    out = {name: {k: interval(k, v, [d[k] for d in drawn[name]]) for k, v in values[name].items()} for name in measures}
    if len(measures) > 1:
        first, *_, last = measures
        out["change"] = _changes((values[first], values[last]), list(zip(drawn[first], drawn[last], strict=True)))
    return out


def _changes(values: tuple[Found, Found], drawn: list[tuple[Found, Found]]) -> dict[str, Estimate]:
    found = {}
    for name in values[0]:
        pairs = [_less(before[name], after[name]) for before, after in drawn]
        found[name] = interval("change", _less(values[0][name], values[1][name]), pairs)
    return found


def _less(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


def interval(name: str, value: float | None, drawn: list[float | None]) -> Estimate:
    """A metric's interval from its resamples; none where it, or most of them, are undefined.

    Nor has the mean over requests one where all resamples agree: then only one of its requests has both classes.
    """
    known = np.array([x for x in drawn if x is not None])
    if value is None or len(known) * 2 <= len(drawn) or (name == "grouped_auc" and np.ptp(known) == 0):
        return Estimate(value)
    if name == "ece":
        known = np.maximum(known - max(float(known.mean()) - value, 0.0), 0.0)
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, float(low), float(high))


def reliability(rows: Labelled, times: int, seed: int) -> list[dict[str, Any]]:
    """A reliability diagram's bins of equal mass: mean prediction, mean label and its interval, and rows.

    There are fewer bins where the rarer class has few rows, as a bin without any says little.
    """
    if not len(rows.labels):
        return []
    rarer = min(float(rows.labels.sum()), float((1 - rows.labels).sum()))
    m = Probability(rows, int(np.clip(rarer / RARER, 5, metrics.BINS)))
    predicted, actual = m.reliability(np.ones(rows.count))
    drawn = np.array([m.reliability(counts)[1] for counts in resamples(rows.count, times, seed)])
    sizes = np.diff(np.r_[m.bins, len(rows.labels)])
    found = []
    for i, size in enumerate(sizes):
        estimate = interval("rate", float(actual[i]), [float(x) for x in drawn[:, i] if x == x] if times else [])
        found.append({"predicted": float(predicted[i]), "actual": estimate.as_json(), "rows": int(size)})
    return found
