"""A sample of the fuzzer's runs, and proof that it finds what it is there to find."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz import builds, cpp, jobs, kills, mutants, requests
from tests.fuzz.coverage import Coverage, wanted
from tests.fuzz.report import Report
from tests.fuzz.shrink import shrink
from tests.fuzz.specs import MAIN, generate
from tests.fuzz.trial import Plan
from tests.fuzz.workers import Job, Result, run
from towerspec import passes
from towerspec.emit import build, folder
from towerspec.emit.verify import compile as compile_
from towerspec.ir.graph import Graph, Op, Rewriter
from towerspec.ir.primitives import Affine, Linear
from towerspec.layers.base import CATEGORIES, kinds

ROOT = Path(__file__).parent.parent
SPECS, MUTANTS, KILLS, REQUESTS, BUILDS, CPP = range(4), range(100), range(3), range(400), range(60), range(400)


def results(job: Job, seeds: Any, limit: float = 120.0) -> list[Result]:
    return list(run(job, iter(seeds), 1, limit))


def failures(found: list[Result]) -> list[str]:
    return [f"seed {r.seed}: {r.kind}\n{r.detail[-1500:]}" for r in found if r.kind != "ok"]


@pytest.mark.parametrize(
    ("job", "seeds"),
    [
        (jobs.spec, SPECS),
        (jobs.mutated, MUTANTS),
        (kills.killed, KILLS),
        (requests.asked, REQUESTS),
        (builds.loaded, BUILDS),
        pytest.param(cpp.asked, CPP, marks=pytest.mark.slow),
    ],
    ids=["specs", "mutants", "kills", "requests", "builds", "cpp"],
)
def test_a_sample_finds_nothing(job: Job, seeds: range) -> None:
    found = results(job, seeds)
    assert len(found) == len(seeds)
    assert not failures(found)


def test_the_generator_reaches_every_kind() -> None:
    coverage = Coverage()
    for seed in range(150):
        generate(f"coverage {seed}", coverage)
    reached = {f"{c}.{name}" for c in CATEGORIES for name in kinds(c) if coverage.counts[f"{c}.{name}"]}
    assert reached == {f"{c}.{name}" for c in CATEGORIES for name in kinds(c)}
    options = [k for k in wanted() if not k.startswith("pass.")]
    missed = [k for k in options if not coverage.counts[k]]
    assert len(missed) < len(options) / 15, missed


def test_a_seed_is_one_spec() -> None:
    assert generate(11).files == generate(11).files != generate(12).files


def test_kinds_of_other_packages_are_drawn_as_well() -> None:
    """In a process of its own: the registry keeps what it has seen."""

    def job(seed: int) -> Result:
        sys.path.insert(0, str(ROOT / "examples" / "custom_layers"))
        importlib.import_module("acme_layers.layers")
        theirs = ("layer.gated_cross", "layer.periodic")
        drawn: dict[int, Counter[str]] = {}
        for seed in range(100):
            generate(seed, coverage := Coverage())
            drawn[seed] = coverage.counts
        having = [next(seed for seed, counts in drawn.items() if counts[name]) for name in theirs]
        found = failures([jobs.spec(seed) for seed in having])
        return Result(seed, "; ".join(found) or "ok")

    assert [r.kind for r in results(job, [0], 300.0)] == ["ok"]


# ---- planted faults ------------------------------------------------------------------------------


def spoilt_by(rule: Callable[[Op, Rewriter], str | None]) -> passes.Pass:
    def planted(graph: Graph) -> Graph:
        return graph.rewrite(rule)

    return passes.Pass("planted", planted, 0)


def halved(op: Op, rewriter: Rewriter) -> str | None:
    """Each linear gives half of what it should."""
    if not isinstance(op.prim, Linear) or not rewriter.ops[op.inputs[0]].type.level:
        return None
    return rewriter.make(op, "half", Affine(0.5, 0.0), rewriter.keep(op))


def test_a_pass_that_changes_numbers_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "PIPELINE", (spoilt_by(halved), *passes.PIPELINE))
    kinds_ = {r.kind for r in results(jobs.spec, range(2))}
    assert "compile refuses: T606" in kinds_
    # And where the compile itself looks away, by what is served.
    monkeypatch.setattr(compile_, "verify_surface", lambda *_: 0.0)
    assert "differs: served" in {r.kind for r in results(jobs.spec, range(3))}


def test_a_check_that_raises_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from towerspec.check import topology

    def broken(*_: Any) -> None:
        raise KeyError("a name that nobody defined")

    monkeypatch.setattr(topology, "_task_kinds", broken)
    found = {r.kind for r in [*results(jobs.spec, range(1)), *results(jobs.mutated, range(20))]}
    assert "internal error: KeyError: …" in found


def test_a_formatter_that_wanders_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    format_text = mutants.format_text
    monkeypatch.setattr(mutants, "format_text", lambda text, path: format_text(f"# more\n{text}", path))
    assert "formatter" in {r.kind for r in results(jobs.mutated, range(20))}


def test_a_build_that_is_written_in_place_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def in_place(out: Path, files: dict[str, bytes]) -> None:
        for name, content in files.items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(content)

    monkeypatch.setattr(build, "write", in_place)
    assert any(r.kind != "ok" for r in results(kills.killed, (2, 4)))
    assert folder.write is not in_place


def test_hangs_and_crashes_are_found_and_the_run_goes_on() -> None:
    def job(seed: int) -> Result:
        if seed == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if seed == 2:
            time.sleep(60)
        if seed == 3:
            raise ValueError("of seed 3")
        return Result(seed, "ok")

    found = {r.seed: r.kind for r in results(job, range(6), limit=1.0)}
    assert found == {0: "ok", 1: "crash", 2: "hang", 3: "internal error: ValueError: of seed …", 4: "ok", 5: "ok"}


# ---- what is kept of a run -------------------------------------------------------------------


def test_a_run_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    report = Report.open(tmp_path, "specs", 10, resume=False)
    for result in (Result(10, "ok"), Result(12, "crash", "why"), Result(11, "ok")):
        report.add(result, lambda seed: {MAIN: "model m\n"})
    report.save(1.0)
    assert (tmp_path / "specs-12" / "failure.txt").read_text().startswith("crash\n\nwhy")
    again = Report.open(tmp_path, "specs", 10, resume=True)
    assert list(again.seeds(5, 60.0)) == [13, 14]
    assert again.failures == {"crash": [12]}
    assert list(Report.open(tmp_path, "specs", 0, resume=False).seeds(2, 60.0)) == [0, 1]


def test_shrinking_keeps_what_fails() -> None:
    text = "\n".join(["model m", "request {", "  a : x", "  b : y", "}", "trunk {", "  z = f(b)", "}", ""])
    small = shrink({MAIN: text, "other.tower": "c\nd\n"}, lambda files: "b : y" in files[MAIN])
    assert small == {MAIN: "request {\n  b : y\n}\n", "other.tower": ""}


def test_every_way_to_compile_is_a_plan() -> None:
    plans = list(jobs.every_plan(0))
    assert {p.level for p in plans} == {0, 1, 2, 3}
    assert {w for p in plans for w in p.without} == {step.name for step in passes.PIPELINE}
    assert replace(plans[0], seed=1) == Plan(1, 0)
