"""Calibrators fitted against scikit-learn and exhaustive search on the same rows, and what they promise of any rows."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from tests.calibrators.harness import CELLS, Case
from tests.calibrators.published import LINKS, softmax
from towerspec.layers.base import kinds
from towerspec.layers.calibrators import Calibrator
from towerspec.train import fits, metrics
from towerspec.train.calibration import Fit, fit, predict_fit
from towerspec.train.fitters import fitter

CASES = [
    Case(kind, head, options)
    for kind, cls in kinds("calibrator").items()
    if issubclass(cls, Calibrator) and kind != "none"
    for head in sorted(cls.fits)
    for options in ([()] if "bins" not in cls.model_fields else [(), (("bins", 2),), (("bins", 3),)])
]
each = pytest.mark.parametrize("case", CASES, ids=str)
binary = pytest.mark.parametrize("case", [c for c in CASES if c.head == "binary"], ids=str)
plain_logistic = partial(LogisticRegression, C=np.inf, tol=1e-10, max_iter=1000)


def true_rate(z: np.ndarray) -> np.ndarray:
    """A monotone truth that none of the kinds has exactly."""
    return expit(0.6 * z - 0.2 + 0.3 * np.sin(z))


def data(case: Case, count: int = 2000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels for a head's kind."""
    rng = np.random.default_rng(seed)
    if case.head == "multiclass":
        z = rng.normal(0, 2, (count, case.width))
        shares = softmax(z / 2.5)
        return z, (rng.random((count, 1)) > shares.cumsum(-1)).sum(-1).astype(float)
    z = rng.normal(-1, 1.5, count)
    if case.head == "regression":
        return z, 2 * z + rng.normal(0, 1, count)
    if case.head == "count":
        return z, rng.poisson(1.5 * np.exp(z) + 0.1).astype(float)
    return z, (rng.random(count) < true_rate(z)).astype(float)


def head(case: Case) -> Any:
    return kinds("head")[case.head](**({"classes": case.width} if case.width > 1 else {}))


def fitted(case: Case, z: np.ndarray, y: np.ndarray, *args: Any, **options: Any) -> Fit:
    found = fit(case.calibrator, head(case), z, y, *args, **options)
    assert found is not None
    return found


def calibrated(case: Case, z: np.ndarray, found: Fit, key: np.ndarray | None = None) -> np.ndarray:
    """By the compiler's own calibrator, in float64."""
    return case.run(z, found.params, key)


# ---- against others ----------------------------------------------------------------------------


def test_temperature_is_the_best_of_a_grid() -> None:
    case = Case("temperature", "binary")
    z, y = data(case)
    (best,) = fitted(case, z, y).params["temperature"]
    grid = np.exp(np.linspace(-1, 1, 4001))
    losses = [np.mean(np.logaddexp(0, z / t) - y * z / t) for t in grid]
    assert best == pytest.approx(grid[int(np.argmin(losses))], rel=1e-3)


def test_temperature_of_classes_is_the_best_of_a_grid() -> None:
    case = Case("temperature", "multiclass")
    z, y = data(case)
    (best,) = fitted(case, z, y).params["temperature"]
    grid = np.exp(np.linspace(0, 2, 1001))
    losses = [metrics.class_log_loss(y, softmax(z / t)) for t in grid]
    assert best == pytest.approx(grid[int(np.argmin(losses))], rel=2e-3)
    assert best == pytest.approx(2.5, rel=0.1), "the labels were drawn at this temperature"


def test_platt_is_logistic_regression_on_the_logit() -> None:
    case = Case("platt", "binary")
    z, y = data(case)
    theirs = plain_logistic().fit(z[:, None], y)
    ours = fitted(case, z, y)
    assert ours.params["a"] == pytest.approx(theirs.coef_[0], rel=1e-4)
    assert ours.params["c"] == pytest.approx(theirs.intercept_, abs=1e-4)
    np.testing.assert_allclose(calibrated(case, z, ours), theirs.predict_proba(z[:, None])[:, 1], atol=1e-5)


def test_beta_is_logistic_regression_on_both_logarithms() -> None:
    """Kull et al. 2017, section 4: on ln p and -ln(1 - p)."""
    case = Case("beta", "binary")
    z, y = data(case)
    p = expit(z)
    features = np.column_stack([np.log(p), -np.log1p(-p)])
    theirs = plain_logistic().fit(features, y)
    ours = fitted(case, z, y)
    assert [*ours.params["a"], *ours.params["b"]] == pytest.approx(theirs.coef_[0], abs=1e-3)
    np.testing.assert_allclose(calibrated(case, z, ours), theirs.predict_proba(features)[:, 1], atol=1e-4)


def test_isotonic_is_isotonic_regression() -> None:
    case = Case("isotonic", "binary", (("bins", 200),))
    z, y = data(case)
    p = expit(z)
    theirs = IsotonicRegression().fit(p, y)
    np.testing.assert_allclose(fits.isotonic(p, y, np.ones(len(y))).y, theirs.predict(np.sort(p)), atol=1e-12)
    assert np.abs(calibrated(case, z, fitted(case, z, y)) - theirs.predict(p)).mean() < 0.02
    twenty = fitted(Case("isotonic", "binary"), z, y)
    loss = metrics.log_loss(y, calibrated(Case("isotonic", "binary"), z, twenty))
    assert loss is not None
    assert loss == pytest.approx(metrics.log_loss(y, theirs.predict(p)), abs=0.01)
    assert loss < metrics.log_loss(y, p)  # type: ignore[operator]


def test_piecewise_is_a_logistic_regression_on_hats() -> None:
    """Where the slopes' bound doesn't hold it and rows are many, the plain fit by scikit-learn on the same knots."""
    case = Case("piecewise", "binary", (("bins", 6),))
    z, y = data(case, 40_000)
    ours = fitted(case, z, y)
    hats = fits.segments(z, ours.params["knots"])
    theirs = plain_logistic().fit(hats, y).predict_proba(hats)[:, 1]
    assert np.abs(calibrated(case, z, ours) - theirs).mean() < 2e-3
    assert np.abs(calibrated(case, z, ours) - true_rate(z)).mean() < 1e-2


@pytest.mark.parametrize("kind", ["isotonic", "piecewise"])
def test_numbers_get_the_nearest_line(kind: str) -> None:
    case = Case(kind, "regression")
    z, y = data(case, 20_000)
    np.testing.assert_allclose(calibrated(case, z, fitted(case, z, y)), 2 * z, atol=0.5)
    count = Case(kind, "count")
    z, y = data(count, 20_000)
    made = calibrated(count, z, fitted(count, z, y))
    assert made.mean() == pytest.approx(y.mean(), rel=0.02)
    before, after = (metrics.poisson_deviance(y, m) for m in (np.exp(z), made))
    assert after < before  # type: ignore[operator]


# ---- any rows ----------------------------------------------------------------------------------


@each
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(2, 80), scale=st.sampled_from([1e-3, 1.0, 20.0]))
def test_never_changes_the_ranking(case: Case, seed: int, count: int, scale: float) -> None:
    """Of any logits, seen in the fit or not; and numbers stay finite."""
    z, y = data(case, count, seed)
    z = z * scale
    found = fit(case.calibrator, head(case), z, y)
    assert found is not None
    assert all(np.isfinite(x).all() for x in found.params.values())
    if found.status != "fitted":
        return
    fresh = np.random.default_rng(seed).normal(0, 3, 50)
    if case.width > 1:
        np.testing.assert_array_equal(calibrated(case, z, found).argsort(-1), z.argsort(-1))
        return
    made = calibrated(case, np.sort(fresh), found)
    assert np.isfinite(made).all()
    # As the isotonic and the count lines end at 0 or 1, and floats end where they do, ties may remain far out.
    assert (np.diff(made) >= -1e-12 * np.abs(made[1:]).clip(min=1)).all()


@binary
def test_the_auc_stays_as_it_was(case: Case) -> None:
    z, y = data(case)
    assert metrics.auc(y, calibrated(case, z, fitted(case, z, y))) == metrics.auc(y, z)


@binary
@pytest.mark.parametrize("slope", [1.0, -1.0], ids=["a good model", "a model that is worse than chance"])
def test_separated_rows_have_a_finite_fit(case: Case, slope: float) -> None:
    z = np.r_[np.linspace(-4, -1, 20), np.linspace(1, 4, 20)] * slope
    y = np.repeat([0.0, 1.0], 20)
    found = fitted(case, z, y)
    made = calibrated(case, z, found)
    assert all(np.isfinite(x).all() and (np.abs(x) < 1e3).all() for x in found.params.values())
    assert ((made > 0) & (made < 1)).all()


@each
def test_what_says_nothing_is_left_alone(case: Case) -> None:
    z, y = data(case)
    empty = fitted(case, z[:0], y[:0])
    assert (empty.params, empty.status, empty.mean) == ({}, "no rows", None)
    if case.head in ("binary", "multiclass", "product"):
        one = fitted(case, z, np.zeros(len(z)))
        assert (one.params, one.status) == ({}, "one class")


@each
def test_equal_logits(case: Case) -> None:
    """A model that says the same of every row: its mean is all that can be fitted."""
    _, y = data(case)
    z = np.full((len(y), case.width) if case.width > 1 else len(y), 0.3)
    found = fitted(case, z, y)
    made = calibrated(case, z, found)
    assert np.isfinite(made).all()
    if case.width == 1 and case.kind != "temperature":
        assert made.mean() == pytest.approx(y.mean(), rel=0.05, abs=0.05)


def test_none_has_nothing_to_fit() -> None:
    case = Case("none", "binary")
    assert fit(case.calibrator, head(case), np.zeros(3), np.zeros(3)) is None


# ---- cells -------------------------------------------------------------------------------------


def keyed(case: Case, sizes: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of several cells; the last of the sizes is that of rows whose key is unknown."""
    z, y = data(case, sum(sizes), seed)
    return z, y, np.repeat(np.r_[np.arange(len(sizes) - 1), CELLS + 4], sizes)


@each
def test_cells_have_tables_whose_last_row_is_the_whole(case: Case) -> None:
    z, y, cells = keyed(case, [900, 0, 40, 60])
    found = fitted(case, z, y, cells, CELLS)
    whole = fitted(case, z, y)
    for name, table in found.params.items():
        assert table.shape == (CELLS + 1, *whole.params[name].shape)
        np.testing.assert_array_equal(table[-1], whole.params[name])
        np.testing.assert_array_equal(table[1], whole.params[name], "an empty cell")
    assert [(c.key, c.rows) for c in found.cells] == [(0, 900), (2, 40)]
    key = np.array([0, 1, 2, 3, -1, 2**40])
    made = predict_fit(fitter(case.calibrator, case.head), found, z[:6], key) if case.width == 1 else None  # type: ignore[arg-type]
    if made is not None:
        np.testing.assert_allclose(calibrated(case, z[:6], found, key), made, rtol=1e-6, atol=1e-9)


@binary
def test_a_cell_of_many_rows_has_its_own_fit_and_one_of_few_the_whole(case: Case) -> None:
    z, y, cells = keyed(case, [20_000, 20_000, 3, 0])
    y = np.where(cells == 0, y, (np.random.default_rng(1).random(len(y)) < true_rate(z - 1.5)).astype(float))
    found = fitted(case, z, y, cells, CELLS)
    made = calibrated(case, z, found, cells)
    for cell in (0, 1):
        here = cells == cell
        # A temperature alone can't move the mean.
        if case.kind != "temperature":
            assert made[here].mean() == pytest.approx(y[here].mean(), abs=0.01)
    few = calibrated(case, z, found, np.full(len(z), 2))
    whole = calibrated(case, z, found, np.full(len(z), CELLS))
    assert np.abs(few - whole).mean() < 0.03
    assert found.cells[0].own > 0.99
    assert found.cells[2].own < 0.1


@binary
def test_a_cell_of_one_class_stays_finite(case: Case) -> None:
    z, y, cells = keyed(case, [300, 30, 30, 100])
    y = np.where(cells == 1, 0.0, np.where(cells == 2, 1.0, y))
    found = fitted(case, z, y, cells, CELLS)
    low, whole, high = (calibrated(case, z, found, np.full(len(z), cell)).mean() for cell in (1, CELLS, 2))
    assert all(np.isfinite(table).all() for table in found.params.values())
    if case.kind != "temperature":
        assert 0.01 < low < whole < high < 0.99, "drawn to their labels, and held by the whole"


def test_shrinkage_beats_none_and_all_of_it() -> None:
    """On cells with offsets of their own and few rows each, the default is nearer to the truth than either end."""
    case = Case("platt", "binary")
    rng = np.random.default_rng(0)
    count, of = 60, 200
    z = rng.normal(-2, 1, count * of)
    cells = np.repeat(np.arange(count), of)
    truth = expit(z + rng.normal(0, 0.5, count)[cells])
    y = (rng.random(len(z)) < truth).astype(float)
    losses = {}
    for strength in (1e-3, 20.0, 1e6):
        found = fitted(case, z, y, cells, count, strength=strength)
        made = predict_fit(fitter(case.calibrator, "binary"), found, z, cells)  # type: ignore[arg-type]
        losses[strength] = metrics.log_loss(truth, made)
    assert losses[20.0] < min(losses[1e-3], losses[1e6])  # type: ignore[operator, type-var]


def test_the_prior_is_a_penalised_likelihood() -> None:
    """A cell's fit maximises its likelihood plus `worth` times that of the head's own predictions."""
    case = Case("platt", "binary")
    z, y, cells = keyed(case, [1500, 60, 0, 0])
    whole = fitted(case, z, y)
    found = fitted(case, z, y, cells, CELLS)
    q = calibrated(case, z, whole)
    worth = 20 / min(y.mean(), 1 - y.mean())

    def loss(theta: np.ndarray) -> float:
        own, all_ = (theta[0] * x + theta[1] for x in (z[cells == 1], z))
        return float(
            np.sum(np.logaddexp(0, own) - y[cells == 1] * own) + worth * np.mean(np.logaddexp(0, all_) - q * all_)
        )

    best = minimize(loss, np.array([1.0, 0.0]), method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10}).x
    assert [found.params["a"][1][0], found.params["c"][1][0]] == pytest.approx(best, abs=5e-3)


@binary
def test_thinned_out_negatives_are_put_back(case: Case) -> None:
    """Fitted to a log with a tenth of its negatives, and the offset of that, a calibrator is right on all rows."""
    z, y = data(case, 50_000)
    kept = (y > 0) | (np.random.default_rng(0).random(len(y)) < 0.1)
    thinned = fitted(case, z[kept], y[kept], offset=-np.log(0.1))
    whole = fitted(case, z, y)
    made = calibrated(case, z, thinned)
    assert np.abs(made - calibrated(case, z, whole)).mean() < 0.015
    assert made.mean() == pytest.approx(calibrated(case, z, whole).mean(), rel=0.02)


def test_the_identity_is_the_kinds_own() -> None:
    for case in CASES:
        kind = fitter(case.calibrator, case.head)
        assert kind is not None
        z, _ = data(case, 50)
        for name, value in case.initial().items():
            np.testing.assert_allclose(kind.identity()[name], value)
        np.testing.assert_allclose(kind.predict(kind.identity(), z), LINKS[case.head](z), atol=1e-9)
