"""Unused features and values: warnings that leave the model as it is without them, and mistakes with `--strict`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import towerspec
from towerspec.check import check, check_text
from towerspec.diagnostics import SpecError, render_json
from towerspec.emit.build import compile_spec
from towerspec.train.data import Columns, open_log
from towerspec.train.simulate import Options, simulate

USED = """model shop
request { country : category { rows: 10 } }
candidate { price : number }
trunk { mixed = mlp(concat(country, price), hidden: [8])  last = mlp(mixed, hidden: [4]) }
surface home { tower { head click : binary } }
surface search { request { query : number }  own = linear(query, width: 3)
tower { layers: [4]  fuse own after 1 with sum  head click : binary } }
"""
# What is added here is read by nothing that a head needs.
MORE = (
    USED.replace("request { country", "table spare { rows: 9, dim: 4 }\nrequest { age : number  country", 1)
    .replace("candidate { ", "candidate { pin : category { table: spare }  seen : sequence { rows: 5, length: 3 }  ")
    .replace("mixed =", "early = mlp(concat(price, country), hidden: [3])  mixed =")
    .replace("last =", "narrow = linear(mixed, width: 3)  dead = layernorm(narrow)  wide = batchnorm(age)  last =")
    .replace("own =", "idle = mlp(own, hidden: [2])  own =")
)
WARNED = ["T402 `dead`", "T402 `early`", "T402 `idle`", "T402 `wide`", "T403 feature `pin`", "T403 feature `seen`"]


def told(text: str, strict: bool = False) -> tuple[list[str], set[str]]:
    """The codes and names of what is found, and its severities."""
    found = check_text(text, strict=strict).report.diagnostics
    return sorted(f"{d.code} {d.message[: d.message.rindex('`') + 1]}" for d in found), {d.severity for d in found}


def test_they_are_warnings_each_once() -> None:
    assert told(MORE) == (WARNED, {"warning"})
    checked = check_text(MORE)
    assert not checked.report
    checked.report.check()
    assert checked.report.warnings == checked.report.diagnostics
    assert {d["severity"] for d in json.loads(render_json(checked.report))["diagnostics"]} == {"warning"}


def test_a_table_that_nothing_names_is_one() -> None:
    assert told(USED + "table spare { rows: 9, dim: 4 }")[0] == ["T403 table `spare`"]


def test_strict_makes_them_mistakes() -> None:
    assert told(MORE, strict=True) == (WARNED, {"error"})
    with pytest.raises(SpecError, match="T402"):
        check_text(MORE, strict=True).sound()


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("hidden: [8]", "hidden: [0]", "T301"),
        ("layernorm(narrow)", "layernorm(narow)", "T201"),
        ("width: 3)\ntower", "width: 3, dim: 3)\ntower", "T207"),
        ("layernorm(narrow)", "sum(narrow, mixed)", "T305"),
    ],
)
@pytest.mark.parametrize("strict", [False, True])
def test_a_mistake_stands_alone(old: str, new: str, code: str, strict: bool) -> None:
    """Also one in a value that no head needs."""
    assert {line.split()[0] for line in told(MORE.replace(old, new), strict=strict)[0]} == {code}


def test_the_model_is_what_it_is_without_them() -> None:
    (model, graph), (plain_model, plain) = check_text(MORE).sound(), check_text(USED).sound()
    assert graph.params == plain.params
    assert graph.ops == plain.ops
    assert graph.inputs == plain.inputs
    assert list(model.features) == list(plain_model.features)
    assert list(model.tables) == list(plain_model.tables) == []
    assert [n.key for n in model.trunk] == [n.key for n in plain_model.trunk]


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A spec that uses narrow of the features that it includes."""
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "features.tower").write_text(
        "table spare { rows: 9, dim: 4 }\nrequest { country : category { rows: 10 }  age : number }\n"
        "candidate { price : number  pin : category { table: spare } }\n"
        "template unused(x) { y = linear(x, width: 3) }\n"
    )
    (tmp_path / "shop.tower").write_text(
        'model shop\ninclude "parts/features.tower"\nrequest { mine : number }\n'
        "trunk { mixed = mlp(concat(country, price), hidden: [8]) }\nsurface home { tower { head click : binary } }\n"
    )
    return tmp_path / "shop.tower"


def test_what_an_include_brings_in_is_warned_of_by_strict_alone(shared: Path) -> None:
    assert [d.message for d in check(shared).report] == ["feature `mine` is never used"]
    strict = [d.message for d in check(shared, strict=True).report]
    assert sorted(strict) == [f"feature `{name}` is never used" for name in ("age", "mine", "pin")]


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "towerspec", *map(str, words)], capture_output=True, text=True)


def test_check_prints_them_and_exits_with_0(shared: Path) -> None:
    done = run("check", shared)
    assert done.returncode == 0
    assert done.stdout.count("warning[T403]") == 1
    assert "is sound" in done.stdout
    assert "1 warning" in done.stdout
    (found,) = json.loads(run("check", shared, "--json").stdout)["diagnostics"]
    assert (found["code"], found["severity"]) == ("T403", "warning")
    assert run("check", shared, "--format", "github").stdout.startswith("::warning file=")
    assert ": warning[T403]:" in run("check", shared, "--format", "concise").stdout
    strict = run("check", shared, "--strict")
    assert strict.returncode == 1
    assert strict.stdout.count("error[T403]") == 3


def test_the_verbs_print_them_beside_what_they_print(shared: Path, tmp_path: Path) -> None:
    for words in (("explain", shared, "--json"), ("graph", shared, "--format", "dot"), ("diff", shared, shared)):
        done = run(*words)
        assert done.returncode == 0, done.stderr
        assert "warning[T403]" in done.stderr
        assert "mine" not in done.stdout
        strict = run(*words, "--strict")
        assert strict.returncode == 1
        assert "T403" in strict.stderr + strict.stdout
    assert list(json.loads(run("explain", shared, "--json").stdout)["surfaces"]) == ["home"]


def test_no_build_and_no_log_has_them(shared: Path, tmp_path: Path) -> None:
    checked = check(shared)
    compile_spec(checked, tmp_path / "build")
    surface = towerspec.load(tmp_path / "build").surfaces["home"]
    assert not {"mine", "age", "pin"} & set(surface.sample_inputs(candidates=2))
    assert surface({"country": [1], "price": [0.5, 1.0]})["click"].shape == (2,)
    simulate(checked, tmp_path / "log", Options(rows=600, requests=None, days=3, seed=0))
    names = set(pq.read_schema(tmp_path / "log" / "train.parquet").names)
    assert {"country", "price", "click"} <= names
    assert not names & {"mine", "age", "pin"}
    log = open_log(checked, [tmp_path / "log" / "train.parquet"], Columns())
    assert set(log.counts) == {"home"}  # none of their columns is missed
