"""A fault behind each op of an optimised graph, one at a time, and in each parameter: the verifier refuses every one.

Parameters are as training might leave them. At a spec's first seed calibrators are the identity and FiLM multiplies by
zeros, so that a fault before them changes nothing.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from random import Random

import pytest
import torch
from torch import Tensor

from tests.verify.plants import Planted
from towerspec.check import check
from towerspec.ir.graph import Op
from towerspec.ir.types import Level

SPECS = Path(__file__).parent.parent.parent / "specs"
PLACES = [(s.stem, name) for s in sorted(SPECS.glob("*.tower")) for name in check(s).sound()[1].surfaces]
WHOLE = [place for place in PLACES if place[0] in ("quickstart", "view_types")]
OTHERS = [place for place in PLACES if place not in WHOLE]
SOME = [place for place in OTHERS if place[0] in ("esmm", "star", "pepnet")] + [("thirty_two", "us_checkout")]

# A parameter that no output depends on, by path, and why.
WITHOUT_EFFECT = {
    "trunk.interest.out.bias": "it is added to all scores of a softmax",
    "features.age.mean": "it stands in for a missing age, and falls into the first bucket either way",
}


@cache
def planted(spec: str, surface: str, level: int = 2) -> Planted:
    made = Planted(SPECS / f"{spec}.tower", surface, level)
    assert not made.differs(), "without a fault it is refused"
    return made


def missed(spec: str, surface: str, share: float = 1.0) -> list[str]:
    made = planted(spec, surface)
    computed = [op for op in made.folded.ops if op.type.level > Level.CONSTANT]
    assert {op.id for op in computed} == made.placed, "an op has no place for a fault"
    return [op.id for op in pick(made.ops, share, f"{spec}.{surface}") if not made.refuses(op)]


def pick(ops: list[Op], share: float, seed: str) -> list[Op]:
    return Random(seed).sample(ops, max(1, round(share * len(ops))))


@pytest.mark.parametrize(("spec", "surface"), WHOLE)
def test_a_fault_in_any_op_is_refused(spec: str, surface: str) -> None:
    assert missed(spec, surface) == []


@pytest.mark.parametrize(("spec", "surface"), SOME)
def test_a_fault_in_a_tenth_of_the_ops_is_refused(spec: str, surface: str) -> None:
    assert missed(spec, surface, 0.1) == []


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "surface"), OTHERS)
def test_a_fault_in_any_op_of_the_other_specs_is_refused(spec: str, surface: str) -> None:
    """Some seconds each, and minutes for specs/ads_engagement.tower's."""
    assert missed(spec, surface) == []


def other(x: Tensor) -> Tensor:
    """Other numbers than a parameter's, or other rows."""
    return x * 1.5 + 0.25 if x.is_floating_point() else x - 1


def missed_weights(spec: str, surface: str) -> set[str]:
    made = planted(spec, surface)
    kept = {path for path, x in made.mine.items() if not made.refuses_weights(path, other)}
    return kept - set(WITHOUT_EFFECT)


@pytest.mark.parametrize(("spec", "surface"), WHOLE)
def test_other_numbers_in_any_parameter_are_refused(spec: str, surface: str) -> None:
    assert missed_weights(spec, surface) == set()


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "surface"), OTHERS)
def test_other_numbers_in_any_parameter_of_the_other_specs_are_refused(spec: str, surface: str) -> None:
    assert missed_weights(spec, surface) == set()


# ---- rows ------------------------------------------------------------------------------------------


def change_row(row: int) -> object:
    def change(x: Tensor) -> Tensor:
        x[row] = x[row] * 2 + 0.25
        return x

    return change


TABLES = [
    ("view_types", "app", "tables.items.weight", [0, 19_999, 20_000, 20_001]),  # first, last, unknown, missing
    ("view_types", "app", "features.view_type.weight", range(6)),
    ("view_types", "app", "features.country.weight", [0, 255, 256, 257]),
    ("view_types", "app", "features.format.weight", range(5)),
    ("view_types", "app", "surfaces.app.tower.feed._else.click.calibrate.a", range(4)),  # a cell each, by format
    ("view_types", "mail", "features.campaign.weight", [0, 499, 500, 501]),
    ("view_types", "mail", "surfaces.mail.tower.click.calibrate.values", range(4)),  # by device, of the request
    ("quickstart", "search", "features.query.weight", [0, 4999, 5000]),  # a missing id of a bag is in no sum
]


@pytest.mark.parametrize(("spec", "surface", "table", "rows"), TABLES)
def test_a_fault_in_one_row_of_a_table_is_refused(spec: str, surface: str, table: str, rows: list[int]) -> None:
    made = planted(spec, surface, level=0)
    path = table if table in made.mine else table.replace("features.", f"surfaces.{surface}.")
    assert [row for row in rows if not made.refuses_weights(path, change_row(row))] == []  # type: ignore[arg-type]


def test_a_fault_at_one_length_of_a_list_is_refused() -> None:
    """Whatever happens to lists of some length alone."""
    made = planted("view_types", "app")
    recent = next(op for op in made.ops if op.id == "features.recent.input")
    for length in range(31):

        def at(x: Tensor, length: int = length) -> Tensor:
            found = ((x != -1) * torch.arange(1, 31)).amax(-1)
            return torch.where((found == length).unsqueeze(-1), x.flip(-1) + 1, x)

        assert made.refuses(recent, at), length
