"""How good predictions are: ranking, likelihood and calibration, on NumPy arrays.

`labels`, `predictions` and `weights` are `[N]`; `groups` says which rows were shown together. A metric that the rows
don't define, such as an AUC of one class, is `None` and never a number that looks like one. Weights count a row as
several: so resampling, and negatives of which only a share was kept, need no metrics of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
EPSILON = float(np.finfo(np.float32).eps)  # predictions are float32: none is nearer to 0 or 1 in a logarithm
BINS = 15


def positive(x: Array) -> Array:
    """Predictions as probabilities whose logarithm is finite, in float64."""
    return np.clip(np.asarray(x, dtype=np.float64), EPSILON, 1 - EPSILON)


def mean(values: Array, weights: Array | None = None) -> float | None:
    """The weighted mean of `[N]`; none of no rows."""
    total = float(len(values) if weights is None else weights.sum())
    return float(values.sum() if weights is None else values @ weights) / total if total > 0 else None


# ---- ranking -----------------------------------------------------------------------------------


def starts_of(ordered: Array) -> Array:
    """Where each run of equal values begins in sorted values."""
    return np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(ordered) else np.zeros(0, dtype=np.int64)


def auc(labels: Array, predictions: Array, weights: Array | None = None) -> float | None:
    """The area under the ROC curve: how often a positive row is ahead of a negative one, ties counting half.

    >>> auc(np.array([0, 1, 0, 1]), np.array([0.1, 0.4, 0.4, 0.8]))
    0.875
    """
    order = np.argsort(predictions, kind="stable")
    w = np.ones(len(order)) if weights is None else weights[order]
    return auc_sorted(labels[order], starts_of(predictions[order]), w)


def auc_sorted(labels: Array, starts: Array, weights: Array) -> float | None:
    """`auc` of rows in the order of their predictions; `starts` is where each run of equal ones begins."""
    if not len(labels):
        return None
    up, down = weights * labels, weights * (1 - labels)
    if len(starts) < len(labels):
        up, down = np.add.reduceat(up, starts), np.add.reduceat(down, starts)
    below = np.cumsum(down)
    pairs = float(up.sum() * below[-1])
    return float(up @ (below - down / 2)) / pairs if pairs > 0 else None


@dataclass(frozen=True)
class Groups:
    """Each group's own AUC: `[G]`, NaN where it has one class only, and how many rows it has."""

    auc: Array
    rows: Array

    @property
    def left_out(self) -> int:
        """How many groups have one class only, and so no order to judge."""
        return int(np.isnan(self.auc).sum())

    def mean(self, weighting: str = "impressions", counts: Array | None = None) -> float | None:
        """The mean over groups with both classes, weighted by their rows (`impressions`) or alike (`groups`).

        By impressions it is the GAUC of Zhou et al. 2018, arXiv:1706.06978, section 6.3, with requests in the place of
        users. `counts` says how often a resample has each group.
        """
        there = ~np.isnan(self.auc)
        weights = (self.rows if weighting == "impressions" else np.ones(len(self.rows))) * there
        return mean(np.where(there, self.auc, 0.0), weights if counts is None else weights * counts)


def group_aucs(labels: Array, predictions: Array, groups: Array) -> Groups:
    """The AUC within each group; groups are in ascending order of their numbers."""
    if not len(labels):
        return Groups(np.zeros(0), np.zeros(0, dtype=np.int64))
    order = np.lexsort((predictions, groups))
    y, p, g = labels[order].astype(np.float64), predictions[order], groups[order]
    begins = starts_of(g)
    ties = np.flatnonzero(np.r_[True, (g[1:] != g[:-1]) | (p[1:] != p[:-1])])
    sizes = np.diff(np.r_[ties, len(y)])
    # Mid-ranks within the group, from 1: the Mann-Whitney form of the AUC.
    group_at = np.repeat(begins, np.diff(np.r_[begins, len(y)]))
    ranks = np.repeat(ties + (sizes + 1) / 2, sizes) - group_at
    rows, ups = np.diff(np.r_[begins, len(y)]), np.add.reduceat(y, begins)
    pairs = ups * (rows - ups)
    found = (np.add.reduceat(ranks * y, begins) - ups * (ups + 1) / 2) / np.where(pairs > 0, pairs, 1)
    return Groups(np.where(pairs > 0, found, np.nan), rows)


def grouped_auc(labels: Array, predictions: Array, groups: Array, weighting: str = "impressions") -> float | None:
    """The mean AUC within groups that have both classes; see `Groups.mean`, and `Groups.left_out` for the others.

    >>> grouped_auc(np.array([0, 1, 1, 0, 1]), np.array([0.1, 0.2, 0.4, 0.6, 0.5]), np.array([1, 1, 2, 2, 3]))
    0.5
    """
    return group_aucs(labels, predictions, groups).mean(weighting)


# ---- likelihood --------------------------------------------------------------------------------


def log_losses(labels: Array, predictions: Array) -> Array:
    """`-y ln p - (1 - y) ln(1 - p)` of each row, in nats."""
    p = positive(predictions)
    return np.asarray(-(labels * np.log(p) + (1 - labels) * np.log1p(-p)))


def log_loss(labels: Array, predictions: Array, weights: Array | None = None) -> float | None:
    """The mean log loss, in nats."""
    return mean(log_losses(labels, predictions), weights)


def entropy(rate: float | None) -> float | None:
    """The log loss of predicting the rate itself everywhere; none where one class is all there is."""
    if rate is None or not 0.0 < rate < 1.0:
        return None
    return float(-(rate * np.log(rate) + (1 - rate) * np.log1p(-rate)))


def normalised_entropy(labels: Array, predictions: Array, weights: Array | None = None) -> float | None:
    """The log loss over that of predicting the mean label: below 1 is better than knowing nothing of a row.

    He et al. 2014, doi:10.1145/2648584.2648589, section 2.
    """
    return over(log_loss(labels, predictions, weights), entropy(mean(labels, weights)))


def over(value: float | None, by: float | None) -> float | None:
    """A ratio; none where either side is, or the divisor is 0."""
    return None if value is None or not by else value / by


# ---- calibration -------------------------------------------------------------------------------


def calibration_ratio(labels: Array, predictions: Array, weights: Array | None = None) -> float | None:
    """The sum of predictions over that of labels: above 1 is too much; none without a positive label.

    The calibration of He et al. 2014, section 2, there as a ratio of counts.
    """
    return over(mean(predictions.astype(np.float64), weights), mean(labels, weights))


def equal_mass(ordered: Array, bins: int = BINS) -> Array:
    """Where each of up to `bins` bins of equally many rows begins in sorted predictions; no bin divides equal ones."""
    if not len(ordered):
        return np.zeros(0, dtype=np.int64)
    ties = starts_of(ordered)
    edges = np.arange(bins) * len(ordered) // bins
    return np.unique(ties[np.searchsorted(ties, edges, side="right") - 1])


def ece(labels: Array, predictions: Array, weights: Array | None = None, bins: int = BINS) -> float | None:
    """The expected calibration error: the mean distance of mean prediction and mean label in bins of equal mass.

    Naeini et al. 2015, AAAI 29(1), doi:10.1609/aaai.v29i1.9602, with bins of equal mass as in Nguyen & O'Connor 2015,
    arXiv:1508.05154.
    """
    order = np.argsort(predictions, kind="stable")
    w = np.ones(len(order)) if weights is None else weights[order]
    p = predictions[order].astype(np.float64)
    return ece_sorted(labels[order], p, equal_mass(p, bins), w)


def ece_sorted(labels: Array, predictions: Array, starts: Array, weights: Array) -> float | None:
    """`ece` of rows in the order of their predictions; `starts` is where each bin begins."""
    total = float(weights.sum())
    if not len(starts) or total <= 0:
        return None
    return float(np.abs(np.add.reduceat((predictions - labels) * weights, starts)).sum()) / total


def ece_by_chance(predictions: Array, bins: int = BINS) -> float | None:
    """The ECE that perfectly calibrated predictions would have of so many rows, by chance alone.

    A bin's mean label spreads around its mean prediction by `s = sqrt(sum p (1 - p)) / n`, and the mean distance of a
    normal variable from its mean is `s sqrt(2 / pi)`. An ECE near this says that nothing is left to calibrate.
    """
    p = np.sort(predictions.astype(np.float64))
    starts = equal_mass(p, bins)
    if not len(starts):
        return None
    return float(np.sqrt(np.add.reduceat(p * (1 - p), starts) * 2 / np.pi).sum()) / len(p)


def square_error_of_calibration(labels: Array, predictions: Array, bins: int = BINS) -> float | None:
    """The mean squared distance of mean prediction and mean label in bins of equal mass, less what chance adds to it.

    Chance adds the variance of a bin's mean label, `y (1 - y) / (n - 1)`; that is taken off, so that the estimate is
    right on average whatever the number of rows, and may be below 0. Its root is no less than the ECE of the same bins.
    Kumar, Liang & Ma 2019, arXiv:1909.10155, section 5; none where a bin has a single row.
    """
    order = np.argsort(predictions, kind="stable")
    p, y = predictions[order].astype(np.float64), labels[order].astype(np.float64)
    starts = equal_mass(p, bins)
    rows = np.diff(np.r_[starts, len(p)])
    if not len(starts) or rows.min() < 2:
        return None
    actual, predicted = np.add.reduceat(y, starts) / rows, np.add.reduceat(p, starts) / rows
    return float(rows @ ((actual - predicted) ** 2 - actual * (1 - actual) / (rows - 1))) / len(p)


def calibration_error(labels: Array, predictions: Array, bins: int = BINS) -> float | None:
    """The root of `square_error_of_calibration`, in the unit of a probability; 0 where chance explains it all."""
    found = square_error_of_calibration(labels, predictions, bins)
    return None if found is None else float(np.sqrt(max(0.0, found)))


# ---- other heads -------------------------------------------------------------------------------


def rmse(labels: Array, predictions: Array, weights: Array | None = None) -> float | None:
    """The root of the mean squared error."""
    found = mean(np.square(predictions.astype(np.float64) - labels), weights)
    return None if found is None else float(np.sqrt(found))


def poisson_deviances(labels: Array, predictions: Array) -> Array:
    """`2 (y ln(y / m) - y + m)` of each row. McCullagh & Nelder 1989, chapter 2."""
    m = np.maximum(predictions.astype(np.float64), EPSILON)
    return np.asarray(2 * (np.where(labels > 0, labels * np.log(np.where(labels > 0, labels, 1) / m), 0) - labels + m))


def poisson_deviance(labels: Array, predictions: Array, weights: Array | None = None) -> float | None:
    """The mean Poisson deviance of predicted rates."""
    return mean(poisson_deviances(labels, predictions), weights)


def class_losses(labels: Array, predictions: Array) -> Array:
    """`-ln p[y]` of each row, from classes `[N]` and probabilities `[N, K]`."""
    chosen = np.take_along_axis(predictions.astype(np.float64), labels.astype(np.int64)[:, None], 1)[:, 0]
    return np.asarray(-np.log(np.maximum(chosen, EPSILON)))


def class_log_loss(labels: Array, predictions: Array, weights: Array | None = None) -> float | None:
    """The mean log loss of classes, in nats."""
    return mean(class_losses(labels, predictions), weights)


def accuracy(labels: Array, predictions: Array, weights: Array | None = None) -> float | None:
    """How often the class with the highest probability is the row's own."""
    return mean((predictions.argmax(-1) == labels).astype(np.float64), weights)
