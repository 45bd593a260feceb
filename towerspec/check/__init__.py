"""The checker: from a file to a model that is known to be sound, or to all that is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from towerspec.check.build import build_model
from towerspec.check.model import Model
from towerspec.check.parts import check_freeze
from towerspec.diagnostics import Report, Span
from towerspec.ir.graph import Graph
from towerspec.lower import lower
from towerspec.syntax import tree
from towerspec.syntax.expand import expand
from towerspec.syntax.files import load, load_text
from towerspec.watch import Watch

__all__ = ["Checked", "check", "check_text"]

# Mistakes inside one statement: they stand even where a part of the file could not be read.
_LOCAL = frozenset({"T202", "T203", "T204", "T205", "T206", "T207", "T212", "T217", "T301", "T302", "T306", "T307"})


@dataclass(frozen=True)
class Checked:
    """What checking a spec gives: the model and its op graph where there is no error, and the report."""

    model: Model | None
    graph: Graph | None
    report: Report

    def sound(self) -> tuple[Model, Graph]:
        """The model and its graph; raises `SpecError` where the report holds an error."""
        self.report.check()
        assert self.model is not None
        assert self.graph is not None
        return self.model, self.graph


def check(path: str | Path, watch: Watch | None = None) -> Checked:
    """Checks a spec file and all that it includes.

    Raises `SpecError` only where the file itself can't be read; all else is in the report.
    """
    watch = watch or Watch()
    with watch.stage("parse"):
        read = load(path)
    return _check(*read, watch)


def check_text(text: str, path: str = "<spec>") -> Checked:
    """Checks a spec given as text.

    >>> check_text("model m").report.diagnostics[0].code
    'T411'
    """
    return _check(*load_text(text, path), Watch())


def _touch(a: Span | None, b: Span) -> bool:
    """Whether two places overlap: a mistake is not reported again for what follows from it."""
    return a is not None and a.source is b.source and a.start < b.end and b.start < a.end


def _check(spec: tree.Spec, report: Report, watch: Watch) -> Checked:
    broken = bool(report)
    with watch.stage("expand"):
        spec = expand(spec, report)
    if broken or report:
        # Names may be missing only because the text that defines them couldn't be read.
        local = Report()
        build_model(spec, local)
        known = [d.span for d in report if d.span]
        report.extend(d for d in local if d.code in _LOCAL and not any(_touch(d.span, span) for span in known))
        return Checked(None, None, report)
    with watch.stage("check"):
        model = build_model(spec, report)
    with watch.stage("lower"):
        graph = lower(model, report) if model is not None else None
    if graph is not None:
        check_freeze(spec.items, graph, report)
    return Checked(None, None, report) if report else Checked(model, graph, report)
