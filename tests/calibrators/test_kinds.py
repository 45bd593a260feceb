"""What is promised of single kinds: numbers at the ends, knots that meet, what a temperature keeps, a real fit."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from towerspec.layers.base import kinds

from . import published
from .harness import Case


def test_beta_is_exact_where_probabilities_round_to_one() -> None:
    """The published form divides by zero in float64 from z = 37 on; there the logit nears b z + c, or a z + c below."""
    case = Case("beta", "binary")
    params = {"a": np.array([0.5]), "b": np.array([0.25]), "c": np.array([-3.0])}
    z = np.array([-700.0, -80.0, 80.0, 700.0])
    made = case.run(z, params)
    exact = published.sigmoid(np.where(z < 0, 0.5 * z, 0.25 * z) - 3.0)
    np.testing.assert_allclose(made, exact, rtol=1e-12)
    np.testing.assert_allclose(case.serve(z, params), exact, rtol=1e-5, atol=1e-30)


def test_beta_with_equal_slopes_is_platt() -> None:
    """Kull et al. 2017, section 3: the logistic family is the case a = b."""
    z = np.linspace(-9, 9, 19)
    a, c = np.array([1.7]), np.array([-0.4])
    np.testing.assert_allclose(
        Case("beta", "binary").run(z, {"a": a, "b": a, "c": c}),
        Case("platt", "binary").run(z, {"a": a, "c": c}),
        rtol=1e-12,
    )


def test_temperature_keeps_the_classes_order() -> None:
    case = Case("temperature", "multiclass")
    z = np.random.default_rng(0).normal(size=(50, 4))
    for t in (0.1, 1.0, 8.0):
        made = case.run(z, {"temperature": np.array([t])})
        np.testing.assert_array_equal(made.argsort(-1), z.argsort(-1))
        np.testing.assert_allclose(made.sum(-1), 1.0)


@pytest.mark.parametrize(
    ("kind", "head"),
    [("isotonic", "binary"), ("isotonic", "count"), ("piecewise", "binary"), ("piecewise", "regression")],
)
def test_knots_may_meet(kind: str, head: str) -> None:
    """A fit may leave several knots in one place: a step there, and never a division by zero."""
    case = Case(kind, head, (("bins", 4),))
    z = np.array([-5.0, -0.1, 0.1, 0.5, 0.6, 5.0])
    for knots in ([0.2, 0.5, 0.5, 0.9], [0.5, 0.5, 0.5, 0.5], [0.2, 0.2, 0.6, 0.6]):
        params = {"knots": np.array(knots), "values": np.array([0.1, 0.2, 0.7, 0.8])}
        made = case.run(z, params)
        assert np.isfinite(made).all()
        assert (np.diff(made) >= 0).all()
        np.testing.assert_allclose(case.serve(z, params), made, rtol=1e-4, atol=1e-6)


def test_isotonic_holds_a_pool_adjacent_violators_fit() -> None:
    """The fitted points of isotonic regression are knots and values as they are."""
    rng = np.random.default_rng(0)
    p = np.sort(rng.random(300))
    clicks = (rng.random(300) < p**2).astype(float)
    blocks: list[list[float]] = []  # mean, weight, first, last
    for x, y in zip(p, clicks, strict=True):
        blocks.append([y, 1.0, x, x])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            (m1, w1, first, _), (m2, w2, _, last) = blocks[-2:]
            blocks[-2:] = [[(m1 * w1 + m2 * w2) / (w1 + w2), w1 + w2, first, last]]
    knots = np.array([x for _, _, first, last in blocks for x in (first, last)])
    values = np.repeat([b[0] for b in blocks], 2)
    case = Case("isotonic", "binary", (("bins", len(knots)),))
    made = case.run(np.log(p) - np.log1p(-p), {"knots": knots, "values": values})
    np.testing.assert_allclose(made.mean(), clicks.mean(), atol=1e-3)  # calibrated in the large
    assert ((made - clicks) ** 2).mean() < ((p - clicks) ** 2).mean()


@pytest.mark.parametrize("kind", ["isotonic", "piecewise"])
@pytest.mark.parametrize("bins", [1, 0, -3, 1001, 2.5, "ten"])
def test_bins_are_checked(kind: str, bins: object) -> None:
    with pytest.raises(ValidationError):
        kinds("calibrator")[kind](bins=bins)


@pytest.mark.parametrize("kind", sorted(kinds("calibrator")))
def test_says_what_it_is(kind: str) -> None:
    cls = kinds("calibrator")[kind]
    assert cls.__doc__
    assert cls.example.startswith(f"calibrate click with {kind}")
    assert all(field.description for field in cls.model_fields.values())
