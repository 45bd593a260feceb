"""Where the compile's calls lead, counted from their inputs alone, and what it says that none reached."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.verify.plants import verifier
from towerspec.check import check_text
from towerspec.emit.build import Options, compile_spec
from towerspec.emit.verify import DOUBLE, SINGLE, Case, Cases

SPECS = Path(__file__).parent.parent.parent / "specs"
VIEW_TYPES = SPECS / "view_types.tower"
# The leaves of surface `app`, by hand: from the view type's id and, where it is asked, the player's or the device's.
LEAF = {
    "autoplay": lambda v, p, d: (v == 0) & (p == 0),
    "feed else": lambda v, p, d: (v == 0) & (p != 0),
    "closeup": lambda v, p, d: v == 1,
    "phone": lambda v, p, d: (v == 2) & (d == 0),
    "story else": lambda v, p, d: (v == 2) & (d != 0),
    "else": lambda v, p, d: (v < 0) | (v > 2),
}
SMALL = """model small
request { place : category { rows: 40, dim: 4, ids: hash }  page : category { values: [a, b], dim: 2 }  %s }
candidate { item : category { rows: 9, dim: 4 }  price : number { clip: [0, 10], buckets: 3 }  %s }
trunk { mixed = concat(request, candidate) }
surface home { tower { layers: [4] branch by page { a { head click : binary } else { head click : binary } } } }
"""


@pytest.fixture(scope="module")
def app() -> Cases:
    return verifier(VIEW_TYPES).cases("app")


def column(case: Case, name: str) -> np.ndarray:
    """An input as each candidate sees it."""
    x = case.inputs[name]
    return np.asarray(x[case.request] if name in case.requests else x)


def test_each_leaf_has_rows_together_and_alone_by_known_unknown_and_missing_keys(app: Cases) -> None:
    keys = [column(app.classes, name) for name in ("view_type", "player", "device")]
    alone = np.isin(np.arange(len(keys[0])), app.classes.alone)
    for name, holds in LEAF.items():
        rows = holds(*keys)
        assert rows.sum() >= 3, name
        assert (rows & alone).sum() == 2, name
        assert np.bincount(app.classes.request[rows]).max() >= 3, "several of one request"
    kinds = {"autoplay": keys[1], "else": keys[0], "story else": keys[2]}
    assert {-1, 3, 4} <= set(kinds["else"][LEAF["else"](*keys)])  # missing, the last, unknown
    assert {-1, 1, 2, 3} <= set(kinds["story else"][LEAF["story else"](*keys)])


def test_each_input_is_of_each_class(app: Cases) -> None:
    items = column(app.classes, "item")
    assert {0, 19_999, 20_000, -1, -2} <= set(items)
    assert items.min() < -(2**60)
    assert items.max() > 2**60
    assert {0, 1, 2, 3, -1} <= set(column(app.classes, "format"))
    duration = column(app.classes, "duration")
    assert np.isnan(duration).any()
    assert {np.inf, -np.inf, 0.0} <= set(duration)
    assert (duration < 0).any()


def test_lists_have_every_length_with_missing_ids_inside(app: Cases) -> None:
    assert app.lengths is not None
    lists = column(app.lengths, "recent")
    lengths = ((lists != -1) * np.arange(1, 31)).max(-1)
    assert set(lengths) == set(range(31))
    assert any((row[:length] == -1).any() for row, length in zip(lists, lengths, strict=True))
    assert {0, 19_999, 20_000} <= set(lists.flatten())


def test_every_cell_of_a_calibrator_has_rows_in_its_leaf(app: Cases) -> None:
    keys = [column(app.classes, name) for name in ("view_type", "player", "device")]
    here = LEAF["feed else"](*keys)
    assert {0, 1, 2, 3, -1} <= set(column(app.classes, "format")[here])


def test_what_no_call_reached_is_said(tmp_path: Path) -> None:
    text = SMALL % ("", "") + "surface other { tower { head buy : binary } calibrate buy with piecewise { bins: 40 } }"
    manifest = compile_spec(check_text(text), tmp_path / "build", Options())
    said = manifest["surfaces"]
    assert said["home"]["verified"]["not_reached"] == ["`price`: 2 of 3 buckets"]  # its edges lie at -2 and 2
    other = said["other"]["verified"]["not_reached"]
    assert [line for line in other if line.startswith("`buy`: ") and line.endswith("of 41 intervals between the knots")]
    assert said["home"]["verified"]["rows"] > 50


# ---- rounding --------------------------------------------------------------------------------------


def test_a_bound_grows_with_what_is_rounded() -> None:
    sizes = torch.tensor([0.0, 10.0, 1e4, 1e8, 1e200])
    for precision, bits in ((DOUBLE, 53), (SINGLE, 24)):
        found = precision.allowed(sizes.double())
        assert float(found[0]) == float(found[1]) == precision.tolerance
        assert bool((found >= sizes * 2.0**-bits).all())
        assert found[-1] == float("inf")


def test_wide_rows_are_compared_too(app: Cases) -> None:
    assert len(app.wide.sizes) >= 100
    assert bool((SINGLE.allowed(app.wide.sizes) < 0.01).all())  # masknet normalises: nothing grows


BAG = "seen : bag { rows: 5, dim: 2, length: 3 }"
LISTS = st.sampled_from(["", BAG, "r : bag { rows: 90, dim: 2, length: 4, pooling: max }"])


@settings(max_examples=12, deadline=None)
@given(LISTS, st.sampled_from(["", "weight : number { width: 3, missing: 0.0 }", "v : number { transform: sqrt }"]))
def test_any_inputs_can_be_steered(mine: str, theirs: str) -> None:
    text = SMALL % (mine, theirs)
    model, graph = check_text(text).sound()
    assert graph.surfaces == ("home",)
    from towerspec.emit.manifest import surface_inputs
    from towerspec.emit.verify import make_cases
    from towerspec.passes import slice_surface

    sliced = slice_surface(graph, "home")
    weights = {p.path: torch.rand(p.shape, dtype=torch.float64).sort(-1).values for _, p in sliced.params}
    cases = make_cases(sliced, surface_inputs(model, sliced), weights, 3)
    place = column(cases.classes, "place")
    assert {-1, 0, 2**63 - 1, -(2**63)} <= set(place)
    assert set(column(cases.classes, "page")) >= {0, 1, 2, -1}
    assert set(range(-1, 10)) <= set(column(cases.classes, "item"))
    assert 0 in cases.classes.counts
    assert not [line for line in cases.unreached if "buckets" not in line]
