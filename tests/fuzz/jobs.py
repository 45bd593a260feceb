"""The trials by seed: what the command and the tests run."""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from pathlib import Path

from tests.fuzz.coverage import Coverage
from tests.fuzz.mutants import mutant, try_mutant
from tests.fuzz.specs import MAIN, generate
from tests.fuzz.trial import Failure, Trial, Unstable, draw_plan
from tests.fuzz.workers import Result

PASSES_NOTED = 5  # of so many specs, one says which passes fired


def spec(seed: int, omit: Collection[str] = ()) -> Result:
    """Generates, compiles and calls the spec of a seed."""
    coverage = Coverage()
    made = generate(seed, coverage, omit)
    with tempfile.TemporaryDirectory(prefix="towerspec-fuzz-") as folder:
        trial = Trial(Path(folder), draw_plan(seed), coverage)
        note = "compared"
        try:
            trial.run(made.files)
            if seed % PASSES_NOTED == 0:
                trial.note_passes(trial.looked_at)
        except Unstable:
            note = "float32 can't hold its weights"
        except Failure as failure:
            return Result(seed, failure.kind, failure.detail, dict(coverage.counts))
        if trial.unstable:
            note = "compared, but for rows that float32 can't hold"
    coverage.add(f"plan.-O{trial.plan.level}")
    return Result(seed, "ok", "", dict(coverage.counts), note)


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


def files_of(command: str, seed: int, omit: Collection[str] = ()) -> dict[str, str]:
    """What a seed's trial reads, to be looked at."""
    return generate(seed, omit=omit).files if command == "specs" else {MAIN: mutant(seed)}
