"""Which parts of a layer are shared by the surfaces and which are a surface's own, and what levels do to it."""

from __future__ import annotations

import numpy as np
import pytest

from towerspec.ir.builder import Builder
from towerspec.ir.primitives import Linear
from towerspec.ir.types import Level

from .cases import CASES, IDS, Case
from .harness import PLACE, Array, Seq, gradient, lower, make, run


def parameters(case: Case, *surfaces: str) -> dict[str, str | None]:
    """The parameters by name, each with its owner, after lowering for these surfaces in turn."""
    builder = Builder()
    for surface in surfaces:
        graph = lower(case.layer, case.arrays(1), surface=surface, builder=builder).graph
    return {p.path.removeprefix(f"{PLACE}."): op.owner for op, p in graph.params}


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_an_own_parameter_names_its_surface_and_the_others_are_shared(case: Case) -> None:
    found = parameters(case, "search", "home_feed")
    for name, owner in found.items():
        assert [part for part in name.split(".") if part in ("search", "home_feed")] == ([owner] if owner else [])


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_another_surface_changes_no_name_and_no_shared_op(case: Case) -> None:
    alone, both = parameters(case, "search"), parameters(case, "home_feed", "search")
    assert {n for n, owner in both.items() if owner != "home_feed"} == set(alone)
    builder = Builder()
    first = lower(case.layer, case.arrays(1), surface="search", builder=builder).graph.ops
    second = lower(case.layer, case.arrays(1), surface="home_feed", builder=builder).graph.ops[len(first) :]
    assert all(op.owner == "home_feed" for op in second)


OWN = {
    "mmoe": {"gate.search.weight"},
    "ple": {
        "0.gate.search.weight",
        "0.own.0.0.search.weight",
        "0.own.0.0.search.bias",
        "0.own.0.1.search.weight",
        "0.own.0.1.search.bias",
        "0.own.1.0.search.weight",
        "0.own.1.0.search.bias",
        "0.own.1.1.search.weight",
        "0.own.1.1.search.bias",
    },
    "gate": {"hidden.search.weight", "hidden.search.bias", "scale.search.weight", "scale.search.bias"},
    "star": {f"{i}.own.search.{part}" for i in (0, 1) for part in ("weight", "bias")},
    "moe": set(),
    "cross": set(),
    "batchnorm": set(),
}


@pytest.mark.parametrize("kind", OWN)
def test_what_is_a_surfaces_own(kind: str) -> None:
    case = next(c for c in CASES if c.kind == kind)
    assert {name for name, owner in parameters(case, "search").items() if owner} == OWN[kind]


def test_norms_per_surface() -> None:
    case = next(c for c in CASES if c.kind == "batchnorm" and c.options)
    assert set(parameters(case, "search")) == {f"search.{part}" for part in ("scale", "shift", "mean", "var")}


def test_a_new_star_is_its_shared_part() -> None:
    inits = {p.path: p.init.kind for _, p in lower(make("star", hidden=(3,)), (np.zeros((1, 5)),)).graph.params}
    assert inits[f"{PLACE}.0.own.search.weight"] == "ones"
    assert inits[f"{PLACE}.0.own.search.bias"] == "zeros"


def test_the_gate_stops_its_gradient() -> None:
    x, z = np.random.default_rng(0).normal(size=(2, 4, 5))
    y, dx = gradient(make("gate"), x, z)
    np.testing.assert_allclose(dx, y / x, rtol=1e-12)


MIXED = [
    ("din", (Level.CANDIDATE, Level.REQUEST)),
    ("din", (Level.REQUEST, Level.CANDIDATE)),
    *((kind, (Level.REQUEST, *[Level.CANDIDATE] * 2)) for kind in ("gate", "fm", "autoint")),
    *((kind, (Level.REQUEST, *[Level.CANDIDATE] * 3)) for kind in ("bilinear", "senet")),
    *((kind, (*[Level.CANDIDATE] * 3, Level.REQUEST)) for kind in ("bilinear", "senet")),
    ("masknet", (Level.REQUEST, Level.CANDIDATE)),
]


@pytest.mark.parametrize(("kind", "levels"), MIXED)
def test_inputs_may_be_of_two_levels(kind: str, levels: tuple[Level, ...]) -> None:
    """One request's values beside the candidates' give what they give when they are repeated for each candidate."""
    case = next(c for c in CASES if c.kind == kind)
    rows, inputs = 4, case.arrays(6)
    mixed: list[Array] = []
    whole: list[Array] = []
    for x, level in zip(inputs, levels, strict=True):
        pick = slice(2, 3) if level == Level.REQUEST else slice(2, 6)
        times = rows if level == Level.REQUEST else 1
        if isinstance(x, Seq):
            mixed.append(Seq(x.values[pick], x.mask[pick]))
            whole.append(Seq(np.repeat(x.values[pick], times, 0), np.repeat(x.mask[pick], times, 0)))
        else:
            mixed.append(x[pick])
            whole.append(np.repeat(x[pick], times, 0))
    got = run(case.layer, *mixed, levels=levels, rows=rows).output
    np.testing.assert_allclose(got, run(case.layer, *whole).output, rtol=1e-12, atol=1e-12)


def test_din_reads_its_history_once_a_request() -> None:
    """The history's share of the first layer is a product at the request's level."""
    inputs = (np.zeros((1, 6)), Seq(np.zeros((1, 5, 6)), np.ones((1, 5), bool)))
    graph = lower(make("din"), inputs, (Level.CANDIDATE, Level.REQUEST)).graph
    linears = [op.type for op in graph.ops if isinstance(op.prim, Linear)]
    assert [type_.shape for type_ in linears if type_.level == Level.REQUEST] == [(5, 80)]
