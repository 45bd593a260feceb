"""What holds of every fusion kind in the registry, and what is promised of single ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from layers.harness import Seq, lower, run, serve

from towerspec.ir.types import Level
from towerspec.layers.base import LayerError, kinds, signature

from .cases import CASES, IDS, Case, H

each = pytest.mark.parametrize("case", CASES, ids=IDS)
SEQUENCES = [c for c in CASES if isinstance(c.x, tuple)]
ROWS = 6


def test_every_kind_has_an_independent_check() -> None:
    """A new kind needs a formula in published.py and a case in cases.py."""
    assert {c.kind for c in CASES} == {k for k, c in kinds("fusion").items() if c.__module__.startswith("towerspec.")}


@pytest.mark.parametrize("kind", sorted(kinds("fusion")))
def test_takes_a_tower_and_one_value(kind: str) -> None:
    """The checker goes by these annotations; the last one says whether a sequence may be fused."""
    cls = kinds("fusion")[kind]
    (tower, value) = signature(cls)
    assert tower[1] == "Value"
    assert value[1] == ("Tensor" if kind == "attention" else "Value")
    assert cls.example.startswith("fuse ")
    assert all(field.description for field in cls.model_fields.values())


@each
def test_equals_its_published_formula(case: Case) -> None:
    h, x = case.arrays(ROWS)
    made = run(case.fusion, h, x)
    for row in range(ROWS):
        np.testing.assert_allclose(made.output[row], case.expected(made.params, h, x, row), rtol=1e-10, atol=1e-12)


@each
def test_keeps_the_towers_width(case: Case) -> None:
    made = run(case.fusion, *case.arrays(2))
    assert made.output.shape == (2, H + case.x if case.kind == "concat" else H)


@each
def test_uses_every_parameter(case: Case) -> None:
    inputs = case.arrays(ROWS)
    made = run(case.fusion, *inputs)
    for name, value in made.params.items():
        changed = value + np.random.default_rng(1).uniform(0.5, 1.5, value.shape)
        other = run(case.fusion, *inputs, params={name: changed})
        assert not np.array_equal(other.output, made.output), name


@each
@pytest.mark.parametrize("rows", [0, 1])
def test_no_rows_and_one_row(case: Case, rows: int) -> None:
    made = run(case.fusion, *case.arrays(rows), rows=rows)
    assert made.output.shape[0] == rows
    assert np.isfinite(made.output).all()


@each
def test_flops_are_what_torch_counts(case: Case) -> None:
    made = run(case.fusion, *case.arrays(ROWS))
    assert made.declared_flops == made.counted_flops


@each
def test_serves_what_the_reference_gives(case: Case) -> None:
    served, expected = serve(case.fusion, *case.arrays(ROWS))
    np.testing.assert_allclose(served, expected, rtol=2e-4, atol=2e-5)


@each
@pytest.mark.parametrize(
    "levels",
    [(Level.CANDIDATE, Level.REQUEST), (Level.REQUEST, Level.CANDIDATE)],
    ids=["module of the request", "tower of the request"],
)
def test_levels_meet(case: Case, levels: tuple[Level, Level]) -> None:
    """One request's row counts for each of its candidates."""
    h, x = case.arrays(ROWS, seed=3)
    if levels[0] == Level.REQUEST:
        few, h = (h[1:2], x), np.repeat(h[1:2], ROWS, 0)
    elif isinstance(x, Seq):
        few, x = (h, Seq(x.values[1:2], x.mask[1:2])), Seq(x.values[[1] * ROWS], x.mask[[1] * ROWS])
    else:
        few, x = (h, x[1:2]), np.repeat(x[1:2], ROWS, 0)
    made = run(case.fusion, *few, levels=levels, rows=ROWS)
    np.testing.assert_allclose(made.output, run(case.fusion, h, x).output, rtol=1e-12)


# ---- single kinds ----------------------------------------------------------------------------------


def test_film_starts_as_the_identity_and_can_leave_it() -> None:
    (film,) = (c for c in CASES if c.kind == "film")
    h, x = film.arrays(ROWS)
    graph = lower(film.fusion, (h, x)).graph
    assert {p.init.kind for _, p in graph.params} == {"zeros"}
    zeros = {p.path.removeprefix("trunk.y."): np.zeros(p.shape) for _, p in graph.params}
    np.testing.assert_array_equal(run(film.fusion, h, x, params=zeros).output, h)


@pytest.mark.parametrize("case", SEQUENCES, ids=[i for i, c in zip(IDS, CASES, strict=True) if c in SEQUENCES])
def test_attention_sees_no_padding_and_an_empty_sequence_changes_nothing(case: Case) -> None:
    h, x = case.arrays(ROWS)
    assert isinstance(x, Seq)
    made = run(case.fusion, h, x).output
    np.testing.assert_array_equal(made[0], h[0])
    other = Seq(np.where(x.mask[..., None], x.values, 1e3), x.mask)
    np.testing.assert_array_equal(run(case.fusion, h, other).output, made)


@pytest.mark.parametrize("heads", [1, 2, 3])
def test_attention_equals_torchs_own(heads: int) -> None:
    h, x = Case("attention", (5, 4), lambda: None, {}).arrays(ROWS)  # type: ignore[arg-type]
    assert isinstance(x, Seq)
    made = run(kinds("fusion")["attention"](heads=heads), h, x)  # type: ignore[arg-type]
    theirs = torch.nn.MultiheadAttention(H, heads, bias=False, kdim=4, vdim=4, batch_first=True, dtype=torch.float64)
    weights = {"q_proj_weight": "query", "k_proj_weight": "key", "v_proj_weight": "value", "out_proj.weight": "out"}
    theirs.load_state_dict({k: torch.from_numpy(made.params[f"{v}.weight"]) for k, v in weights.items()})
    s = torch.from_numpy(x.values[1:])  # torch gives NaN for the empty first row
    q = torch.from_numpy(h[1:, None])
    with torch.no_grad():
        found, _ = theirs(q, s, s, key_padding_mask=torch.from_numpy(~x.mask[1:]))
    some = x.mask[1:].any(1)
    np.testing.assert_allclose(made.output[1:][some], (q + found)[:, 0].numpy()[some], rtol=1e-10)


@pytest.mark.parametrize(
    ("kind", "options", "at", "message"),
    [
        ("attention", {"heads": 4}, "heads", "`attention` can't split a width of 6 into 4 heads"),
        ("attention", {"heads": 3, "width": 8}, "heads", "`attention` can't split a width of 8 into 3 heads"),
        ("cross", {"rank": 7}, "rank", "`cross` has a rank of 7 over a width of 6"),
    ],
)
def test_what_does_not_fit_is_said_of_the_option(kind: str, options: dict[str, int], at: str, message: str) -> None:
    with pytest.raises(LayerError, match=message) as error:
        lower(kinds("fusion")[kind](**options), (np.zeros((1, H)), np.zeros((1, 4))))  # type: ignore[arg-type]
    assert error.value.at == at
    assert error.value.help
