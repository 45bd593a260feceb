"""The trials by seed: what the command and the tests run."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from tests.fuzz import builds, cpp, kills, requests
from tests.fuzz.coverage import Coverage
from tests.fuzz.mutants import mutant, try_mutant
from tests.fuzz.specs import MAIN, generate
from tests.fuzz.trial import Failure, Plan, Trial, Unstable, draw_plan
from tests.fuzz.workers import Job, Result
from towerspec.passes import PIPELINE

PASSES_NOTED = 5  # of so many specs, one says which passes fired


def spec(seed: int, omit: Collection[str] = (), thorough: bool = False) -> Result:
    """Generates, compiles and calls the spec of a seed."""
    coverage = Coverage()
    files = generate(seed, coverage, omit).files
    result = Result(seed, "ok")
    for plan in every_plan(seed) if thorough else [draw_plan(seed)]:
        coverage.add(f"plan.-O{plan.level}")
        result = tried(files, plan, coverage)
        if result.kind != "ok":
            break
    return Result(seed, result.kind, result.detail, dict(coverage.counts), result.note)


def tried(files: Mapping[str, str], plan: Plan, coverage: Coverage) -> Result:
    """One trial of a spec's files."""
    with tempfile.TemporaryDirectory(prefix="towerspec-fuzz-") as folder:
        trial = Trial(Path(folder), plan, coverage)
        try:
            trial.run(files)
            if plan.seed % PASSES_NOTED == 0:
                trial.note_passes(trial.looked_at)
        except Unstable:
            return Result(plan.seed, "ok", note="float32 can't hold its weights")
        except Failure as failure:
            return Result(plan.seed, failure.kind, f"{plan}\n{failure.detail}")
    note = "compared, but for rows that float32 can't hold" if trial.unstable else "compared"
    return Result(plan.seed, "ok", note=note)


def every_plan(seed: int) -> Iterator[Plan]:
    """Every level, with and without logits, and the default one without each of the passes."""
    for level in range(4):
        yield Plan(seed, level)
        yield Plan(seed, level, logits=True)
    for step in PIPELINE:
        yield Plan(seed, max(2, step.level), (step.name,))


def mutated(seed: int) -> Result:
    """Probes the mutant of a seed."""
    with tempfile.TemporaryDirectory(prefix="towerspec-fuzz-") as folder:
        try:
            note = try_mutant(seed, mutant(seed), Path(folder))
        except Unstable:
            note = "sound, float32 can't hold its weights"
        except Failure as failure:
            return Result(seed, failure.kind, failure.detail)
    return Result(seed, "ok", note=note)


COMMANDS: dict[str, tuple[Job, str]] = {
    "specs": (spec, "valid specs: compiled, called, and compared with the float64 reference"),
    "mutants": (mutated, "spoilt specs: diagnostics, or a build that serves what its graph says"),
    "kills": (kills.killed, "compiles killed at any moment: the build stays whole, and nothing is left over"),
    "requests": (requests.asked, "requests from Python: the right answer, or an error that says what is wrong"),
    "builds": (builds.loaded, "spoilt builds loaded in Python: an error, or an answer"),
    "cpp": (cpp.asked, "requests and builds in C++ under AddressSanitizer: no escape, no crash"),
}
PREPARE: dict[str, Callable[[], object]] = {"cpp": cpp.program}  # before workers fork


def files_of(command: str, seed: int, omit: Collection[str] = ()) -> dict[str, str]:
    """The texts that a seed's trial reads, where there are any."""
    if command == "specs":
        return generate(seed, omit=omit).files
    return {MAIN: mutant(seed)} if command == "mutants" else {}
