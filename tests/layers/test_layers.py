"""What holds of every layer kind in the registry."""

from __future__ import annotations

import numpy as np
import pytest

from towerspec.layers.base import kinds

from .cases import CASES, IDS, Case
from .harness import Seq, run, serve

SEQUENCES = [c for c in CASES if any(isinstance(shape, tuple) for shape in c.inputs)]
each = pytest.mark.parametrize("case", CASES, ids=IDS)
ROWS = 6


def test_every_kind_has_an_independent_check() -> None:
    """A new kind needs a formula in published.py and a case in cases.py."""
    ours = {kind for kind, cls in kinds("layer").items() if cls.__module__.startswith("towerspec.")}
    assert {c.kind for c in CASES} == ours


@each
def test_equals_its_published_formula(case: Case) -> None:
    inputs = case.arrays(ROWS)
    made = run(case.layer, *inputs)
    for row in range(ROWS):
        got = made.output[row] if made.mask is None else made.output[row][made.mask[row]]
        np.testing.assert_allclose(got, case.expected(made.params, inputs, row), rtol=1e-9, atol=1e-11)


@each
def test_uses_every_parameter(case: Case) -> None:
    """Each parameter changes the result: none is there for nothing."""
    if (1, 6) in case.inputs or case.options.get("experts") == 1:
        pytest.skip("one position or one expert has weight 1, whatever the scores")
    inputs = case.arrays(ROWS)
    made = run(case.layer, *inputs)
    for name, value in made.params.items():
        other = run(case.layer, *inputs, params={name: value + np.random.default_rng(1).uniform(0.5, 1.5, value.shape)})
        assert not np.array_equal(other.output, made.output), name


@each
@pytest.mark.parametrize("rows", [0, 1])
def test_no_rows_and_one_row(case: Case, rows: int) -> None:
    made = run(case.layer, *case.arrays(rows), rows=rows)
    assert len(made.output) == rows
    assert np.isfinite(made.output).all()


@each
def test_rows_are_independent(case: Case) -> None:
    inputs = case.arrays(ROWS)
    whole = run(case.layer, *inputs).output
    part = tuple(Seq(x.values[2:3], x.mask[2:3]) if isinstance(x, Seq) else x[2:3] for x in inputs)
    np.testing.assert_allclose(run(case.layer, *part).output, whole[2:3], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", SEQUENCES, ids=[name for c, name in zip(CASES, IDS, strict=True) if c in SEQUENCES])
def test_padding_changes_nothing(case: Case) -> None:
    inputs = case.arrays(ROWS)
    other = tuple(Seq(np.where(x.mask[..., None], x.values, 1e3), x.mask) if isinstance(x, Seq) else x for x in inputs)
    before, after = run(case.layer, *inputs), run(case.layer, *other)
    kept = slice(None) if before.mask is None else before.mask
    np.testing.assert_allclose(after.output[kept], before.output[kept], rtol=1e-12, atol=1e-12)
    if before.mask is None:  # the first row's sequence is empty
        np.testing.assert_array_equal(before.output[0], 0.0)


@each
def test_declared_flops_are_what_torch_counts(case: Case) -> None:
    made = run(case.layer, *case.arrays(3))
    assert made.declared_flops == made.counted_flops


@each
@pytest.mark.parametrize("rows", [0, ROWS])
def test_generated_code_gives_the_same(case: Case, rows: int) -> None:
    served, expected = serve(case.layer, *case.arrays(rows))
    np.testing.assert_allclose(served, expected, rtol=1e-4, atol=1e-5)
