"""`explain --lines`: every operation belongs to one line, and the lines add up to what the surface costs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from towerspec.check import check
from towerspec.cli import cli
from towerspec.explain import explain_table
from towerspec.explain_lines import explain_lines
from towerspec.passes import optimise

SPECS = sorted((Path(__file__).parent.parent / "specs").glob("*.tower"))


@pytest.mark.parametrize("level", [0, 2])
@pytest.mark.parametrize("spec", SPECS, ids=lambda p: p.stem)
def test_lines_add_up_to_the_surface(spec: Path, level: int) -> None:
    checked = check(spec)
    model, graph = checked.sound()
    surface = next(iter(model.surfaces))
    whole, rows = explain_table(checked, level)[surface], explain_lines(checked, surface, level)
    sliced = optimise(graph, surface, level)
    branches = any(op.region for op in sliced.ops)  # a request runs one arm, and the lines show all
    for row in ("request", "candidate"):
        flops = sum(r["flops"][row] for r in rows)
        assert flops == whole["flops"][row] or (branches and flops > whole["flops"][row])
        assert sum(r["share"]["flops"][row] for r in rows) == pytest.approx(1.0 if flops else 0.0)
    assert sum(r["weights"] for r in rows) == sum(op.type.bytes for op, _ in sliced.params)


def test_a_line_is_one_of_the_file() -> None:
    spec = next(p for p in SPECS if p.stem == "ads_engagement")
    lines = spec.read_text().splitlines()
    rows = explain_lines(check(spec), "search")
    # All features of a level beside each other: several lines read that.
    assert {row["statement"] for row in rows if not row["line"]} <= {"request", "candidate"}
    for row in (row for row in rows if row["line"]):
        text = " ".join(lines[row["line"] - 1].split())
        assert text.startswith(row["statement"].rstrip("…"))
        assert row["file"].endswith("ads_engagement.tower")


def test_the_costliest_comes_first_on_the_command_line() -> None:
    spec = str(next(p for p in SPECS if p.stem == "ads_engagement"))
    shown = CliRunner().invoke(cli, ["explain", spec, "--lines"]).output
    assert "history = transformer(" in shown.splitlines()[3]
    found = json.loads(CliRunner().invoke(cli, ["explain", spec, "--lines", "--json"]).output)["surfaces"]
    assert found["search"]["lines"][0]["share"]["flops"]["request"] > 0.9
