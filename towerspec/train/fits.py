"""The solvers behind calibration: logistic lines under bounds, isotonic regression, and monotone lines through knots.

Rows have a label `y` `[N]` and a weight `w` `[N]`; labels may lie between 0 and 1, as those of synthetic rows do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize, minimize_scalar, nnls
from scipy.special import expit, log_softmax
from sklearn.isotonic import IsotonicRegression

from towerspec.train.metrics import Array

LARGEST = 4096  # groups of neighbours that a least-squares line is fitted to, at most
TEMPERATURES = (-5.0, 5.0)  # logarithms


def logistic(features: Array, y: Array, w: Array, offset: float, low: Array) -> tuple[Array, float]:
    """The slopes `[K]` and the intercept that maximise the likelihood of `sigmoid(features @ slopes + c + offset)`.

    `features` are `[N, K]`, and each slope is at least its `low`. The problem is convex; L-BFGS-B solves it on
    standardised features, as their scales differ.
    """
    total = w.sum()
    centre = w @ features / total
    scale = np.sqrt(w @ np.square(features - centre) / total)
    scale = np.where(scale > 1e-12, scale, 1.0)
    x = (features - centre) / scale

    def loss(theta: Array) -> tuple[float, Array]:
        z = x @ theta[:-1] + theta[-1] + offset
        values = np.logaddexp(0.0, z) - y * z
        slope = w * (expit(z) - y)
        return float(w @ values / total), np.r_[slope @ x, slope.sum()] / total

    rate = float(np.clip(w @ y / total, 1e-9, 1 - 1e-9))
    start = np.r_[np.maximum(scale, low * scale), np.log(rate / (1 - rate)) - offset]
    bounds = [(float(at), None) for at in low * scale] + [(None, None)]
    options = {"maxiter": 2000, "maxfun": 20000, "ftol": 1e-15, "gtol": 1e-9}
    theta = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
    slopes = theta[:-1] / scale
    return slopes, float(theta[-1] - slopes @ centre)


def temperature(z: Array, y: Array, w: Array, offset: float) -> float:
    """The temperature that maximises the likelihood of labels, or, for `[N, K]` logits, of classes' shares `[N, K]`."""

    def loss(logarithm: float) -> float:
        scaled = z / np.exp(logarithm)
        if z.ndim > 1:
            return float(-w @ (y * log_softmax(scaled, -1)).sum(-1))
        scaled = scaled + offset
        return float(w @ (np.logaddexp(0.0, scaled) - y * scaled))

    found = minimize_scalar(loss, bounds=TEMPERATURES, method="bounded", options={"xatol": 1e-9})
    return float(np.exp(found.x))


# ---- monotone lines ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Points:
    """Points to draw a line through, in ascending `x`, each with its weight."""

    x: Array
    y: Array
    w: Array


def isotonic(x: Array, y: Array, w: Array) -> Points:
    """Isotonic regression: the value that it gives each row.

    Its solution maximises the likelihood of a probability and of a Poisson rate as well as it minimises the squared
    error: Robertson, Wright & Dykstra 1988, Order Restricted Statistical Inference, theorem 1.5.2.
    """
    order = np.argsort(x, kind="stable")
    x, w = x[order], w[order]
    return Points(x, IsotonicRegression(out_of_bounds="clip").fit(x, y[order], sample_weight=w).predict(x), w)


def neighbours(x: Array, y: Array, w: Array, most: int = LARGEST) -> Points:
    """Rows as at most so many groups of neighbours, each by its means."""
    order = np.argsort(x, kind="stable")
    starts = np.unique(np.arange(min(most, len(x))) * len(x) // min(most, len(x)))
    x, y, w = x[order], y[order], w[order]
    mass = np.add.reduceat(w, starts)
    return Points(np.add.reduceat(w * x, starts) / mass, np.add.reduceat(w * y, starts) / mass, mass)


def quantiles(x: Array, mass: Array, count: int) -> Array:
    """`count` values from the smallest to the largest, with equal mass between each two."""
    order = np.argsort(x, kind="stable")
    below = np.cumsum(mass[order])
    levels = np.linspace(0.0, below[-1], count) if below[-1] > 0 else np.zeros(count)
    return np.asarray(x[order][np.searchsorted(below, levels, side="left").clip(0, len(x) - 1)])


def distinct(knots: Array, count: int, low: float = -np.inf, high: float = np.inf) -> Array:
    """Ascending knots that differ in float32 too; where some meet, others stand in the widest gaps instead."""
    with np.errstate(over="ignore"):
        found = np.unique(np.asarray(knots, dtype=np.float32)).astype(np.float64)
    if len(found) == 1:
        room = 0.5 * min([1.0, *(abs(found[0] - end) for end in (low, high) if np.isfinite(end))])
        found = np.array([found[0] - room, found[0] + room]) if room > 0 else found
    near = 1e-5 * (found[-1] - found[0])
    found = found[np.r_[True, np.diff(found) > near]]
    while len(found) < count:
        at = int(np.argmax(np.diff(found)))
        found = np.insert(found, at + 1, (found[at] + found[at + 1]) / 2)
    return found


def segments(x: Array, knots: Array) -> Array:
    """`[N, K - 1]`: how far `x` goes along each segment between knots; the first and the last go on beyond."""
    ends = np.r_[-np.inf, knots[1:-1], np.inf]
    return np.clip(x[:, None], ends[:-1], ends[1:]) - knots[:-1]


def beyond(slopes: Array, start: float, knots: Array) -> Array:
    """The values at the knots of the line that has these slopes between them."""
    return start + np.r_[0.0, np.cumsum(slopes * np.diff(knots))]


def line(points: Points, knots: Array, steepness: float, lowest: float = -np.inf) -> Array:
    """The values at the knots of the ascending line that is nearest to the points, in squared distance.

    No segment is flatter than `steepness`, and no value below `lowest`.
    """
    points = neighbours(points.x, points.y, points.w)
    root = np.sqrt(points.w / points.w.sum())
    features = segments(points.x, knots)
    spans = np.diff(knots)
    # Unknowns are the first value and the rises above the least ones, so that all of them have the labels' scale; where
    # nothing bounds the first, it is the difference of two that are not below 0.
    free = not np.isfinite(lowest)
    first = np.ones((len(features), 1 + free)) * ([1.0, -1.0] if free else [1.0])
    design = np.column_stack([first, features / spans])
    target = points.y - features.sum(-1) * steepness - (0.0 if free else lowest)
    ridge = 1e-6 * np.eye(design.shape[1])  # a segment without points: any rise would do, take the least
    q, r = np.linalg.qr(np.vstack([design * root[:, None], ridge]))
    found, _ = nnls(r, q.T @ np.r_[target * root, np.zeros(len(ridge))])
    start = found[0] - found[1] if free else found[0] + lowest
    return beyond(found[1 + free :] / spans + steepness, start, knots)
