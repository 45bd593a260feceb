"""Mutants of specs: each ends in diagnostics, soon; one that is sound compiles, and serves what its graph says."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from random import Random

from tests.fuzz.mutate import corpus, mutate, shrunk
from tests.fuzz.specs import generate
from tests.fuzz.trial import Failure, Plan, Trial
from towerspec.check import Checked, check_text
from towerspec.diagnostics import SpecError, render
from towerspec.ir.printer import print_op
from towerspec.syntax.format import format_text

GENERATED = 150  # generated specs among those that are spoilt
LARGEST = 2_000_000  # numbers of a model that is compiled


@functools.cache
def originals() -> tuple[str, ...]:
    """What is spoilt: the repository's specs, small, the reference's examples, and generated specs."""
    made = [generate(f"original {i}", omit=["include"]).text for i in range(GENERATED)]
    return (*(shrunk(text) for text in corpus()), *made)


@functools.cache
def _known() -> set[int]:
    """The sound graphs that are compiled already; many mutations change nothing."""
    return set()


def mutant(seed: int, texts: Sequence[str] | None = None) -> str:
    """The mutant of a seed."""
    return mutate(Random(seed), list(texts or originals()))


def probe(text: str) -> Checked:
    """Checks and formats a text; raises whatever is not a diagnostic."""
    checked = check_text(text)
    for diagnostic in checked.report.diagnostics:
        render(diagnostic)
    once = _formatted(text)
    if once is None:
        if not checked.report.diagnostics:
            raise Failure("formatter", "the formatter alone refuses it")
        return checked
    if format_text(once, "<fuzz>") != once:
        raise Failure("formatter", "formatting twice differs from formatting once")
    found, again = (sorted(d.code for d in c.report.diagnostics) for c in (checked, check_text(once)))
    if found != again:
        raise Failure("formatter", f"formatting changed what is wrong: {found} became {again}")
    return checked


def _formatted(text: str) -> str | None:
    """The text in canonical form; none where it has mistakes that hinder it."""
    try:
        return format_text(text, "<fuzz>")
    except SpecError:
        return None


def try_mutant(seed: int, text: str, folder: Path) -> str:
    """Probes a mutant, and compiles it where it is sound and new; what became of it."""
    checked = probe(text)
    graph = checked.graph
    if graph is None:
        return "refused"
    shown = hash("\n".join(print_op(op) for op in graph.ops))
    if shown in _known():
        return "sound, compiled before"
    _known().add(shown)
    if sum(math.prod(param.shape) for _, param in graph.params) > LARGEST:
        return "sound, too large to compile here"
    surface = Random(seed).choice(graph.surfaces)
    Trial(folder, Plan(seed, calls=1)).compile_and_call(checked, (surface,))
    return "sound, compiled"
