"""How each kind of calibrator is fitted to raw logits and labels: one class a kind, by its name in `FITTERS`.

A prior is a set of synthetic rows: spread as the head's rows are, labelled with what an earlier fit says of them, and
worth a stated number of rows together. That is the catalytic prior of Huang, Stein, Rubin & Kou 2020,
doi:10.1073/pnas.1920913117. It makes any fit finite, and that to no rows the earlier fit itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, softmax

from towerspec.layers.calibrators import PROBABILITIES, Calibrator
from towerspec.train import fits
from towerspec.train.metrics import Array

Params = dict[str, Array]
STRENGTH = 20.0
STEEP = 0.01  # the least slope: what a model tells apart, calibration doesn't tie
SPREAD = 256  # synthetic rows of a prior


@dataclass(frozen=True)
class Rows:
    """Logits `[N]` or `[N, K]`, labels `[N]` or shares of classes `[N, K]`, and weights `[N]`."""

    z: Array
    y: Array
    w: Array

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: Array) -> Rows:
        return Rows(self.z[rows], self.y[rows], self.w[rows])

    def and_(self, other: Rows) -> Rows:
        return Rows(*(np.concatenate([a, b]) for a, b in zip((self.z, self.y, self.w), other.fields, strict=True)))

    @property
    def fields(self) -> tuple[Array, Array, Array]:
        return self.z, self.y, self.w


@dataclass(frozen=True)
class Fitter:
    """How one kind of calibrator is fitted to a head of one kind.

    `offset` is what thinned-out negatives add to the log-odds of the rows that are left: parameters are of all rows.
    `prior` is worth the number of rows in which that many are not of the commonest class.
    """

    calibrator: Calibrator
    head: str
    offset: float = 0.0
    prior: float = STRENGTH

    def fit(self, rows: Rows, like: Params | None = None) -> Params:
        """The parameters; `like` are the head's own where a cell is fitted, whose knots it shares."""
        raise NotImplementedError

    def predict(self, params: Params, z: Array) -> Array:
        """What the calibrator makes of logits, in float64; the compiled calibrators are the ones that count."""
        raise NotImplementedError

    def identity(self) -> Params:
        """The parameters that change nothing."""
        raise NotImplementedError

    def own(self, rows: Rows) -> Params:
        """The fit to a head's rows alone; where no likelihood has a maximum, drawn towards the identity."""
        return self.fit(rows.and_(self.synthetic(rows, self.identity())) if separated(rows) else rows)

    def cell(self, rows: Rows, whole: Params, prior: Rows) -> Params:
        """The fit to one cell's rows, drawn towards the head's own by the synthetic rows of it."""
        return self.fit(rows.and_(prior), whole) if len(rows) else whole

    def synthetic(self, rows: Rows, like: Params) -> Rows:
        """Rows spread as the given ones and labelled as a fit predicts them, worth `worth` rows together."""
        if rows.z.ndim > 1:
            z = rows.z[np.linspace(0, len(rows) - 1, min(SPREAD, len(rows))).astype(np.int64)]
        else:
            z = fits.quantiles(rows.z, rows.w, 2 * SPREAD + 1)[1::2]
        y = self.predict(like, z)
        if self.head in PROBABILITIES:
            y = expit(logit(y) + self.offset)
        return Rows(z, y, np.full(len(z), self.worth(rows) / len(z)))

    def worth(self, rows: Rows) -> float:
        """How many rows the prior counts as: those in which `prior` are not of the commonest class.

        A rare event needs many rows to be seen at all: twenty rows at a rate of 1% say nothing, two thousand do.
        """
        if self.head not in {*PROBABILITIES, "multiclass"}:
            return self.prior
        shares = rows.w @ rows.y / rows.w.sum()
        common = float(np.max(shares)) if rows.y.ndim > 1 else max(float(shares), 1 - float(shares))
        return float(self.prior / max(1 - common, 1 / (len(rows) + 2)))


def logit(p: Array) -> Array:
    p = np.clip(p, 1e-300, 1 - 1e-16)
    return np.asarray(np.log(p) - np.log1p(-p))


def separated(rows: Rows) -> bool:
    """Whether some threshold on the logit tells all positive rows from all negative ones: then slopes have no limit."""
    if rows.z.ndim > 1:
        return bool((rows.z.argmax(-1) == rows.y.argmax(-1)).all())
    if set(np.unique(rows.y)) != {0.0, 1.0}:
        return False
    return bool(rows.z[rows.y == 0].max() <= rows.z[rows.y == 1].min())


# ---- the kinds ---------------------------------------------------------------------------------


class Temperature(Fitter):
    """One number, by a search in one dimension."""

    def fit(self, rows: Rows, like: Params | None = None) -> Params:
        return {"temperature": np.array([fits.temperature(*rows.fields, self.offset)])}

    def predict(self, params: Params, z: Array) -> Array:
        scaled = z / params["temperature"]
        return np.asarray(softmax(scaled, -1) if z.ndim > 1 else expit(scaled))

    def identity(self) -> Params:
        return {"temperature": np.ones(1)}


class Platt(Fitter):
    """Logistic regression on the logit, with a slope above zero."""

    def fit(self, rows: Rows, like: Params | None = None) -> Params:
        slopes, c = fits.logistic(rows.z[:, None], rows.y, rows.w, self.offset, np.array([STEEP]))
        return {"a": slopes, "c": np.array([c])}

    def predict(self, params: Params, z: Array) -> Array:
        return np.asarray(expit(params["a"] * z + params["c"]))

    def identity(self) -> Params:
        return {"a": np.ones(1), "c": np.zeros(1)}


class Beta(Fitter):
    """Logistic regression on `ln p` and `-ln(1 - p)`, with slopes that are not below zero, so that it is monotone.

    Kull et al. 2017 drop a feature whose slope comes out negative; the bound is the same where one does.
    """

    def fit(self, rows: Rows, like: Params | None = None) -> Params:
        features = np.column_stack([-np.logaddexp(0.0, -rows.z), np.logaddexp(0.0, rows.z)])
        slopes, c = fits.logistic(features, rows.y, rows.w, self.offset, np.full(2, STEEP))
        return {"a": slopes[:1], "b": slopes[1:], "c": np.array([c])}

    def predict(self, params: Params, z: Array) -> Array:
        below, above = -np.logaddexp(0.0, -z), np.logaddexp(0.0, z)
        return np.asarray(expit(params["a"] * below + params["b"] * above + params["c"]))

    def identity(self) -> Params:
        return {"a": np.ones(1), "b": np.ones(1), "c": np.zeros(1)}


@dataclass(frozen=True)
class Line(Fitter):
    """Of the kinds that are a line through knots."""

    @property
    def bins(self) -> int:
        return int(getattr(self.calibrator, "bins"))  # noqa: B009  # only some kinds have it

    def through(self, params: Params, x: Array) -> Array:
        """The line at `x`, its end slopes going on."""
        knots, values = params["knots"], params["values"]
        slopes = np.diff(values) / np.diff(knots)
        return np.asarray(values[0] + fits.segments(x, knots) @ slopes)


class Isotonic(Line):
    """Isotonic regression on the probability, and the ascending line through `bins` knots that is nearest to it.

    From four knots on, the ends of the line are (0, 0) and (1, 1), so that what lies beyond the rows that it was fitted
    to keeps its order.
    """

    def fit(self, rows: Rows, like: Params | None = None) -> Params:
        p = expit(rows.z)
        # Each negative row stands for all that were dropped with it.
        w = rows.w * (rows.y + (1 - rows.y) * np.exp(self.offset))
        points = _open(fits.isotonic(p, rows.w * rows.y / w, w))
        ends = self.bins > 3
        if like is None:
            inner = self.bins - 2 if ends else self.bins
            knots = fits.distinct(fits.quantiles(p, w * p * (1 - p), inner), inner, 0.0, 1.0)
        else:
            knots = like["knots"][1:-1] if ends else like["knots"]
        values = np.clip(fits.line(points, knots, 0.0, 0.0), points.y[0], points.y[-1])
        # A thousandth of a logit from end to end: steps of the regression keep the model's order.
        values = expit(logit(values) + 1e-3 * np.linspace(0.0, 1.0, len(values)))
        return _anchored(knots, values) if ends else {"knots": knots, "values": values}

    def predict(self, params: Params, z: Array) -> Array:
        return np.interp(expit(z), params["knots"], params["values"])

    def identity(self) -> Params:
        return {name: np.linspace(0.0, 1.0, self.bins) for name in ("knots", "values")}

    def own(self, rows: Rows) -> Params:
        return self.fit(rows)


def _open(points: fits.Points) -> fits.Points:
    """A regression without rates of 0 or 1: half a row more of the other class, as in Krichevsky & Trofimov 1981."""
    y, inner = points.y.copy(), points.y[(points.y > 0) & (points.y < 1)]
    low, high = points.y <= 0, points.y >= 1
    if low.any():
        y[low] = min(0.5 / (points.w[low].sum() + 1), inner[0] / 2 if len(inner) else 1.0)
    if high.any():
        y[high] = 1 - min(0.5 / (points.w[high].sum() + 1), (1 - inner[-1]) / 2 if len(inner) else 1.0)
    return fits.Points(points.x, y, points.w)


def _anchored(knots: Array, values: Array) -> Params:
    """The line with (0, 0) and (1, 1) at its ends; knots that are there already move inwards."""
    knots = np.clip(knots, 1e-30, 1 - 1e-6)
    return {"knots": np.r_[0.0, knots, 1.0], "values": np.r_[0.0, values, 1.0]}


class Piecewise(Line):
    """A logistic regression on an ascending line through `bins` knots of the logit.

    It has a prior of its own, a slope's worth each: the Platt fit, so that a stretch with few rows is a straight line.
    """

    def fit(self, rows: Rows, like: Params | None = None) -> Params:
        if like is None:
            # Knots with equal information between them: where events are rare, most of it is at the upper end.
            p = expit(rows.z + self.offset)
            knots = fits.distinct(fits.quantiles(rows.z, rows.w * p * (1 - p), self.bins), self.bins)
            platt = Platt(self.calibrator, self.head, self.offset, float(self.bins))
            rows = rows.and_(platt.synthetic(rows, platt.own(rows)))
        else:
            knots = like["knots"]
        near = fits.neighbours(rows.z, rows.y, rows.w)
        steep = np.full(self.bins - 1, STEEP)
        slopes, start = fits.logistic(fits.segments(near.x, knots), near.y, near.w, self.offset, steep)
        return {"knots": knots, "values": fits.beyond(slopes, start, knots)}

    def predict(self, params: Params, z: Array) -> Array:
        return np.asarray(expit(self.through(params, z)))

    def identity(self) -> Params:
        return {name: np.linspace(-6.0, 6.0, self.bins) for name in ("knots", "values")}

    def own(self, rows: Rows) -> Params:
        return self.fit(rows)


class NumberLine(Line):
    """The nearest ascending line to a regression's or a count's labels; `isotonic` by way of isotonic regression."""

    def fit(self, rows: Rows, like: Params | None = None) -> Params:
        x = self.link(rows.z)
        knots = fits.distinct(fits.quantiles(x, rows.w, self.bins), self.bins) if like is None else like["knots"]
        group = fits.isotonic if self.calibrator.kind == "isotonic" else fits.neighbours
        points = group(x, rows.y, rows.w)
        steepness = STEEP * float(np.ptp(points.y) or 1.0) / float(np.ptp(knots))
        return {"knots": knots, "values": fits.line(points, knots, steepness, 0.0 if self.counts else -np.inf)}

    @property
    def counts(self) -> bool:
        return self.head == "count"

    def link(self, z: Array) -> Array:
        return np.exp(np.minimum(z, 30.0)) if self.counts else z

    def predict(self, params: Params, z: Array) -> Array:
        y = self.through(params, self.link(z))
        return np.maximum(y, 0.0) if self.counts else y

    def identity(self) -> Params:
        ends = (0.0, 1.0)
        return {name: np.linspace(*ends, self.bins) for name in ("knots", "values")}

    def own(self, rows: Rows) -> Params:
        return self.fit(rows)


FITTERS: Mapping[str, Callable[..., Fitter]] = {
    "temperature": Temperature,
    "platt": Platt,
    "beta": Beta,
    "isotonic": Isotonic,
    "piecewise": Piecewise,
}


def fitter(calibrator: Calibrator, head: str, offset: float = 0.0, prior: float = STRENGTH) -> Fitter | None:
    """How a calibrator is fitted; none where it has no parameters, or is of a kind from elsewhere."""
    if calibrator.kind in ("isotonic", "piecewise") and head not in PROBABILITIES:
        return NumberLine(calibrator, head, offset, prior)
    made = FITTERS.get(calibrator.kind)
    return made(calibrator, head, offset, prior) if made else None
