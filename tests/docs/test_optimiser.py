"""The optimiser's page names every pass, level and threshold as the code has them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from towerspec.cpu import KINDS
from towerspec.emit.rounding import MAX_ERROR
from towerspec.passes import PIPELINE, join, precision, split

PAGE = (Path(__file__).parent.parent.parent / "docs" / "optimiser.md").read_text(encoding="utf-8")


def test_every_pass_has_its_paragraph() -> None:
    found = re.findall(r"^\*\*(\w+)\*\* ", PAGE, re.M)
    assert found == ["slice", *(step.name for step in PIPELINE)]


def test_levels_run_what_the_page_says() -> None:
    line = next(line for line in PAGE.splitlines() if line.startswith("| `-O1`"))
    assert all((step.name in line) == (step.level == 1) for step in PIPELINE)
    assert [step.name for step in PIPELINE if step.level == 3] == ["precision"]


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_kind_of_cpu_has_its_row(kind: str) -> None:
    assert f"\n| `{kind}` |" in PAGE


def test_thresholds_are_the_code_s() -> None:
    section = PAGE[PAGE.index("## Precision") :]
    for number in (*precision.WORTH.values(), precision.WORTH_OF_ONE):
        assert f"{number:,}" in section
    assert f"{precision.HALF // 1024} KiB" in section
    assert f"{precision.EIGHTH // 1024**2} MiB" in section
    assert f"{precision.WIDE} columns" in section
    assert f"{precision.MANY} positions" in section
    assert f"{MAX_ERROR} unless" in section
    assert all(f"{number:,}" in PAGE for number in (split.WORTH, *join.WIDEST.values()))
