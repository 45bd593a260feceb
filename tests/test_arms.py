"""Labels of arms: two that mean one id are one arm, however they are written."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towerspec.check import check_text

SPEC = """model m
{table}
request {{ key : category {{ {key} }} }}
candidate {{ price : number }}
trunk {{ mixed = concat(key, price) }}
surface home {{ tower {{ branch by key {{ {arms} }} }} }}
"""


def codes(key: str, *labels: str, table: str = "") -> list[str]:
    arms = " ".join(f"{label} {{ head click : binary }}" for label in labels)
    return [d.code for d in check_text(SPEC.format(key=key, arms=arms, table=table)).report]


SPELLINGS = ["{}", "+{}", "0{}", '"{}"', '"0{}"', '"00{}"']


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 40), st.integers(0, 40), st.sampled_from(SPELLINGS), st.sampled_from(SPELLINGS))
def test_ids_are_compared_by_what_they_mean(a: int, b: int, one: str, other: str) -> None:
    found = codes("rows: 41", one.format(a), other.format(b), "else")
    assert found == (["T210"] if a == b else [])


@pytest.mark.parametrize(
    "label",
    ["41", "-1", "1.5", "1e1", "grid"]
    + [f'"{text}"' for text in ("-1", "+1", " 1", "1_0", "٣", "²", "1.0", "", "else", "9" * 5000)],
)
def test_what_is_no_id_is_said(label: str) -> None:
    assert codes("rows: 41", "0", label, "else") == ["T409"]


@pytest.mark.parametrize(
    ("values", "labels", "found"),
    [
        ("[grid, closeup]", ["grid", "closeup"], []),
        ("[grid, closeup]", ["grid", '"grid"', "closeup"], ["T210"]),
        ("[1, 2]", ["1", "2"], []),
        ("[1, 2]", ["1", '"2"'], []),
        ("[1, 2]", ["1", '"1"', "2"], ["T210"]),
        ("[1, 2]", ["1", '"01"', "else"], ["T409"]),
        ('["01", "1"]', ['"01"', '"1"'], []),
        ('["01", "1"]', ['"01"', "1"], []),
        ('["else", a]', ['"else"', "a"], []),
        ('["else", a]', ['"else"', "else"], []),
        ("[a, b]", ["a", "else", "else"], ["T210"]),
        ("[a, b]", ["a", "c"], ["T409"]),
        ("[a, b]", ["a", "c", "c"], ["T409", "T210"]),
        ("[a, b]", ["a", "1.5", "else"], ["T409"]),
    ],
)
def test_values_are_compared_by_what_they_mean(values: str, labels: list[str], found: list[str]) -> None:
    assert codes(f"values: {values}", *labels) == found


def test_an_unknown_table_says_nothing_of_the_arms() -> None:
    assert codes("table: keyz", "0", "1", "7", table="table keys { rows: 3, dim: 2 }") == ["T208"]
    assert codes("table: keys", "0", "1", "7", "else", table="table keys { rows: 3, dim: 2 }") == ["T409"]


def test_every_arm_is_for_its_own_ids() -> None:
    arms = '"3" { head c : binary } 1 { head b : binary } else { head a : binary }'
    text = SPEC.format(key="values: [1, 2, 3]", arms=arms, table="")
    model, _ = check_text(text).sound()
    branch = model.surfaces["home"].tower.branch
    assert branch is not None
    assert [(arm.ids, arm.path.heads[0].name) for arm in branch.arms] == [((2,), "c"), ((0,), "b"), ((), "a")]
