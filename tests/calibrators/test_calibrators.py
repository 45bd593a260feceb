"""What holds of every calibrator kind in the registry, for every head kind that it fits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towerspec.layers.base import kinds
from towerspec.layers.calibrators import Calibrator

from . import published
from .harness import CELLS, Case

FORMULAS = {
    "none": published.none,
    "temperature": published.temperature,
    "platt": published.platt,
    "beta": published.beta,
    "isotonic": published.isotonic,
    "piecewise": published.piecewise,
}
CASES = [
    Case(kind, head, options)
    for kind, cls in kinds("calibrator").items()
    if issubclass(cls, Calibrator)
    for head in sorted(cls.fits)
    for options in ([()] if "bins" not in cls.model_fields else [(), (("bins", 2),), (("bins", 7),)])
]
each = pytest.mark.parametrize("case", CASES, ids=str)
single = pytest.mark.parametrize("case", [c for c in CASES if c.width == 1], ids=str)
KEYS = np.array([0, 1, 2, CELLS, CELLS + 9, -1, 2**40, -7])


def logits(case: Case, rows: int = 40, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(0.0, 3.0, (rows, case.width) if case.width > 1 else rows)


def fitted(case: Case, rng: np.random.Generator, keyed: bool = False) -> dict[str, np.ndarray]:
    """Parameters as a fit may leave them: scales above zero, knots and their values ascending."""
    made = {}
    for name, value in case.initial(keyed).items():
        if name in ("knots", "values"):
            low, high = (-4.0, 4.0) if case.kind == "piecewise" and case.head in ("binary", "product") else (0.02, 0.98)
            made[name] = np.sort(rng.uniform(low, high, value.shape), -1)
        else:
            made[name] = rng.normal(0.0, 1.0, value.shape) if name == "c" else rng.uniform(0.3, 3.0, value.shape)
    return made


def test_every_kind_has_an_independent_check() -> None:
    """A new kind needs a formula in published.py."""
    ours = {kind for kind, cls in kinds("calibrator").items() if cls.__module__.startswith("towerspec.")}
    assert set(FORMULAS) == ours


@each
@pytest.mark.parametrize("seed", range(3))
def test_equals_its_published_formula(case: Case, seed: int) -> None:
    params, z = fitted(case, np.random.default_rng(seed)), logits(case, seed=seed)
    np.testing.assert_allclose(case.run(z, params), FORMULAS[case.kind](params, case.head, z), rtol=1e-9, atol=1e-12)


@each
def test_is_the_identity_until_it_is_fitted(case: Case) -> None:
    z = logits(case) * 3.0
    plain = published.LINKS[case.head](z)
    np.testing.assert_allclose(case.run(z), plain, rtol=1e-9, atol=1e-12)
    served = case.serve(z, case.initial())
    np.testing.assert_allclose(served, plain, rtol=1e-4 if case.head == "count" else 1e-5, atol=2e-6)


@each
def test_each_value_of_the_key_has_its_own_cell(case: Case) -> None:
    """Values that the key doesn't know, and missing ones, share the last cell."""
    params, z = fitted(case, np.random.default_rng(5), keyed=True), logits(case, len(KEYS))
    made = case.run(z, params, KEYS)
    for row, key in enumerate(KEYS):
        cell = int(key) if 0 <= key < CELLS else CELLS
        alone = {name: table[cell] for name, table in params.items()}
        expected = FORMULAS[case.kind](alone, case.head, z[row : row + 1])
        np.testing.assert_allclose(made[row : row + 1], expected, rtol=1e-9, atol=1e-12)
    assert all(len(table) == CELLS + 1 for table in params.values())


@each
def test_the_identity_in_every_cell(case: Case) -> None:
    z = logits(case, len(KEYS))
    np.testing.assert_allclose(case.run(z, key=KEYS), published.LINKS[case.head](z), rtol=1e-9, atol=1e-12)


@each
@pytest.mark.parametrize("keyed", [False, True], ids=["one cell", "by a key"])
def test_serves_what_the_reference_gives(case: Case, keyed: bool) -> None:
    params, z = fitted(case, np.random.default_rng(2), keyed), logits(case, len(KEYS))
    key = KEYS if keyed else None
    np.testing.assert_allclose(case.serve(z, params, key), case.run(z, params, key), rtol=1e-4, atol=2e-6)


@each
@pytest.mark.parametrize("rows", [0, 1])
def test_no_rows_and_one_row(case: Case, rows: int) -> None:
    assert np.isfinite(case.run(logits(case, rows), fitted(case, np.random.default_rng(0)))).all()


@single
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), z=st.lists(st.floats(-60, 60), min_size=2, max_size=20))
def test_is_monotone_as_fits_leave_it(case: Case, seed: int, z: list[float]) -> None:
    """A higher logit never gets a lower prediction: calibration doesn't reorder candidates."""
    ordered = np.sort(np.array(z))
    made = case.run(ordered, fitted(case, np.random.default_rng(seed)))
    assert np.isfinite(made).all()
    assert (np.diff(made) >= -1e-9 * np.maximum(np.abs(made[1:]), 1.0)).all()
    if case.head in ("binary", "product"):
        assert ((made >= 0) & (made <= 1)).all()
    if case.head == "count":
        assert (made >= 0).all()
