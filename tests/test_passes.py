"""Every pass keeps the numbers: on random models, alone, left out, in every level, against the float64 reference.

What the precision pass rounds is not rounded here, so that it has to keep them too; `test_precision.py` has the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from towerspec.check import check_text
from towerspec.cpu import KINDS
from towerspec.emit import constants, reference, torchscript
from towerspec.emit.python import render_surface, takes_counts
from towerspec.emit.verify import difference
from towerspec.ir.graph import Graph
from towerspec.ir.primitives import Input
from towerspec.ir.types import Level
from towerspec.ir.verify import verify
from towerspec.passes import PIPELINE, optimise, precision, slice_surface

FEATURES = """
request {
    user   : category { rows: 9, dim: 4 }
    age    : number   { transform: log1p, normalize: standard }
    recent : sequence { rows: 9, dim: 4, length: 3 }
    layout : category { values: [grid, list], dim: 4, on: [home] }
}
candidate {
    item  : category { rows: 9, dim: 4 }
    price : number   { normalize: standard }
    topic : bag      { rows: 9, dim: 4, length: 3 }
    match : number   { on: [search] }
}
"""
# What a statement may be, of earlier values `{a}` and `{b}`; all of them vectors.
STATEMENTS = [
    "concat({a}, {b})",
    "concat({a}, request)",
    "linear(concat({a}, {b}, user), width: 6)",
    "linear(concat(user, {a}), width: 600)",
    "batchnorm(linear({a}, width: 5))",
    "batchnorm({a})",
    "layernorm(concat({a}, {b}))",
    "mlp({a}, hidden: [6, 4], norm: batch)",
    "mlp(concat({a}, age), hidden: [5], dropout: 0.3)",
    "cross(concat({a}, user), layers: 2)",
    "cross({a}, layers: 1, rank: 1)",
    "moe({a}, experts: 2, hidden: [4])",
    "mmoe(concat({a}, {b}), experts: 3, hidden: [4])",
    "ple({a}, shared_experts: 2, own_experts: 1, hidden: [4])",
    "star({a}, hidden: [4])",
    "din(item, recent, hidden: [4])",
    "masknet(concat({a}, {b}), hidden: [4])",
    "product(linear({a}, width: 3), linear({b}, width: 3))",
    "sum(linear({a}, width: 3), linear(user, width: 3))",
    "gate(concat({a}, item), user)",
]
ALL = "request, candidate, pooling(recent)"  # no feature is left unread
FIRST = ["concat(request, candidate)", "concat(user, item)", "item", "concat(candidate, user, price)"]
FUSIONS = ["concat", "sum", "gate", "film", "bilinear", "cross", "attention"]
CALIBRATORS = ["temperature", "platt", "beta", "isotonic { bins: 4 }", "piecewise { bins: 4 }"]


def spec(statements: Sequence[str], layers: Sequence[int], fusion: str, calibrator: str, by: str, branch: bool) -> str:
    statements = [*statements, f"concat({', '.join(f'v{i}' for i in range(len(statements)))}, {ALL})"]
    trunk = "\n".join(f"    v{i} = {text}" for i, text in enumerate(statements))
    head = "head click : binary"
    arms = f"branch by layout {{ grid {{ layers: [4] {head} }} else {{ {head} head like : binary }} }}"
    return f"""model random
{FEATURES}
trunk {{
{trunk}
}}
surface home {{
    own = mlp(user, hidden: [4])
    tower {{
        layers: [{", ".join(map(str, layers))}]
        fuse own after 1 with {fusion}
        {arms if branch else head}
    }}
    calibrate click with {calibrator}{by}
}}
surface search {{ tower {{ head click : binary  head save : binary }} calibrate save with platt }}
"""


@cache
def layers_with(text: str) -> bool:
    """Whether a statement checks on its own; parameters of layers may change, and this test's list must follow."""
    return check_text(spec(["concat(request, candidate)", text.format(a="v0", b="v0")], [4], "sum", "platt", "", False)
                      ).report.diagnostics == ()  # fmt: skip


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    statements = [draw(st.sampled_from(FIRST))]
    for i in range(draw(st.integers(1, 4))):
        a, b = (f"v{draw(st.integers(0, i))}" for _ in range(2))
        statements.append(draw(st.sampled_from(STATEMENTS)).format(a=a, b=b))
    text = spec(
        statements,
        draw(st.lists(st.integers(2, 6), min_size=1, max_size=3)),
        draw(st.sampled_from(FUSIONS)),
        draw(st.sampled_from(CALIBRATORS)),
        draw(st.sampled_from(["", " by layout", " by user"])),
        draw(st.booleans()),
    )
    checked = check_text(text)
    assert not checked.report.diagnostics, f"{text}\n{checked.report.diagnostics}"
    return checked.sound()[1]


def weights(graph: Graph, seed: int) -> dict[str, Tensor]:
    """Random parameters, positive where they stand for a deviation, ascending where they are knots."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for _, p in graph.params:
        x = torch.randn(p.shape, generator=generator) * 0.5
        last = p.path.split(".")[-1]
        if last in ("var", "std", "temperature", "a", "b"):
            x = x.abs() + 0.5
        if last in ("knots", "values", "edges"):
            x = x.sort(-1).values
        found[p.path] = torch.full(p.shape, -1) if p.dtype == "int" else x
    return found


def inputs(graph: Graph, counts: Sequence[int], seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for _, i in graph.inputs:
        shape = [len(counts) if i.level == Level.REQUEST else sum(counts), *i.shape]
        if i.dtype == "int":
            made[i.feature] = torch.randint(-1, 12, shape, generator=generator)
        else:
            made[i.feature] = torch.randn(shape, generator=generator)
    return made


def outputs(graph: Graph, params: dict[str, Tensor], given: dict[str, Tensor], counts: Sequence[int]) -> list[Tensor]:
    mine = {i.feature: given[i.feature] for _, i in graph.inputs}
    levels = {i.level for _, i in graph.inputs}
    values = reference.run(graph, mine, params, sum(counts), torch.tensor(counts) if Level.REQUEST in levels else None)
    return [values[o.prediction] for o in graph.outputs]


def assert_equal(before: Graph, after: Graph, graph: Graph, seed: int) -> None:
    assert {i.feature for _, i in after.inputs} <= {i.feature for _, i in before.inputs}
    params = weights(graph, seed)
    folded, mine = constants.fold(verify(after), params)
    for counts in ((3,), (2, 0, 3)):
        given = inputs(graph, counts, seed)
        for x, y in zip(outputs(before, params, given, counts), outputs(folded, mine, given, counts), strict=True):
            assert difference(y, x) < 1e-9


@pytest.fixture(autouse=True, scope="module")
def unrounded() -> Iterator[None]:
    """No number is rounded, and none is too small for the precision pass."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "_NARROW", dict.fromkeys(reference._NARROW, torch.float64))
        patch.setattr(reference, "_nearest", lambda x: x)
        patch.setattr(precision, "WORTH", {"bf16": 8, "int8": 8})
        patch.setattr(precision, "WORTH_OF_ONE", 8)
        patch.setattr(precision, "HALF", 64)
        patch.setattr(precision, "EIGHTH", 128)
        patch.setattr(precision, "WIDE", 4)
        yield


@settings(max_examples=60, deadline=None)
@given(graphs(), st.integers(0, 2**31), st.sampled_from([1, 2, 3]), st.sampled_from(list(KINDS)))
def test_levels_keep_the_numbers(graph: Graph, seed: int, level: int, cpu: str) -> None:
    for surface in graph.surfaces:
        assert_equal(slice_surface(graph, surface), optimise(graph, surface, level, cpu=cpu), graph, seed)


@pytest.mark.parametrize("name", [step.name for step in PIPELINE])
@settings(max_examples=12, deadline=None)
@given(graph=graphs(), seed=st.integers(0, 2**31))
def test_each_pass_keeps_the_numbers_alone_and_left_out(name: str, graph: Graph, seed: int) -> None:
    others = [step.name for step in PIPELINE if step.name != name]
    for surface in graph.surfaces:
        sliced = slice_surface(graph, surface)
        assert_equal(sliced, optimise(graph, surface, level=3, without=others), graph, seed)
        assert_equal(sliced, optimise(graph, surface, level=3, without=[name]), graph, seed)


@pytest.mark.parametrize("cpu", list(KINDS))
@settings(max_examples=20, deadline=None)
@given(graph=graphs(), seed=st.integers(0, 2**31))
def test_precision_alone_keeps_the_numbers(cpu: str, graph: Graph, seed: int) -> None:
    for surface in graph.surfaces:
        sliced = slice_surface(graph, surface)
        assert_equal(sliced, precision.narrow(sliced, cpu), graph, seed)


@settings(max_examples=40, deadline=None)
@given(graph=graphs(), seed=st.integers(0, 2**31), level=st.sampled_from([0, 2]))
def test_the_code_that_is_printed_keeps_the_numbers(graph: Graph, seed: int, level: int) -> None:
    """Results that write over an operand do so in what is printed alone."""
    params = weights(graph, seed)
    for surface in graph.surfaces:
        sliced, optimised = slice_surface(graph, surface), optimise(graph, surface, level)
        folded, mine = constants.fold(optimised, params)
        rendered = render_surface(folded, "m.tower")
        module = getattr(torchscript.load_source(rendered.source, surface), rendered.cls)().double().eval()
        torchscript.fill(module, mine)
        for counts in ((3,), (0,), (2, 0, 3)):
            given = {k: x.double() if x.is_floating_point() else x for k, x in inputs(graph, counts, seed).items()}
            wanted = outputs(sliced, params, given, counts)
            arguments = [given[i.feature] for _, i in optimised.inputs]
            with torch.no_grad():
                found = module(*arguments, *([torch.tensor(counts)] if takes_counts(optimised) else []))
            for x, y in zip(wanted, found, strict=True):
                assert difference(y, x) < 1e-9


@pytest.mark.parametrize("text", STATEMENTS)
def test_the_statements_are_of_the_language(text: str) -> None:
    assert layers_with(text)


def test_slices_have_no_input_that_is_not_read() -> None:
    _, graph = check_text(spec(["concat(request, candidate)"], [4], "sum", "platt", "", False)).sound()
    for surface in graph.surfaces:
        for level in (0, 1, 2, 3):
            made = optimise(graph, surface, level)
            assert all(made.users[op.id] for op in made.ops if isinstance(op.prim, Input))
