"""The checker: from a file to a model that is known to be sound, or to all that is wrong with it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from towerspec.check.build import build_model
from towerspec.check.hidden import check_hidden
from towerspec.check.model import Model
from towerspec.check.parts import check_freeze
from towerspec.check.topology import all_nodes
from towerspec.check.unused import unused, without_unused
from towerspec.diagnostics import MOST, Report, ReportFull, Source, Span
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
    """What checking a spec gives: the model and its op graph where there is no error, and the report.

    What no head needs is in neither of the two. The report has warnings only where it has no error.
    """

    model: Model | None
    graph: Graph | None
    report: Report

    def sound(self) -> tuple[Model, Graph]:
        """The model and its graph; raises `SpecError` where the report holds an error."""
        self.report.check()
        assert self.model is not None
        assert self.graph is not None
        return self.model, self.graph


def check(path: str | Path, watch: Watch | None = None, *, strict: bool = False) -> Checked:
    """Checks a spec file and all that it includes; `strict` makes errors of the warnings, included files' as well.

    Raises `SpecError` only where the file itself can't be read; all else is in the report.
    """
    return _check(lambda report: load(path, report), watch or Watch(), strict)


def check_text(text: str, path: str = "<spec>", *, strict: bool = False) -> Checked:
    """Checks a spec given as text.

    >>> check_text("model m").report.diagnostics[0].code
    'T411'
    """
    return _check(lambda report: load_text(text, path, report), Watch(), strict)


def _check(read: Callable[[Report], tree.Spec], watch: Watch, strict: bool) -> Checked:
    report, found = Report(MOST), None
    with contextlib.suppress(ReportFull):
        with watch.stage("parse"):
            spec = read(report)
        found = _model(spec, report, watch)
        if found is not None:
            report.extend(unused(found[0], spec.span.source, strict)[:MOST])
    if report or found is None:
        return Checked(None, None, report)
    model = without_unused(found[0])
    # A dead value's operands may have been lowered with it, before their time.
    dead = sum(1 for _ in all_nodes(found[0])) > sum(1 for _ in all_nodes(model))
    return Checked(model, lower(model, report) if dead else found[1], report)


def _model(spec: tree.Spec, report: Report, watch: Watch) -> tuple[Model, Graph] | None:
    """The model and its graph, with all that the text declares; none where there is an error."""
    broken = [d.span.source for d in report if d.span]
    check_hidden(spec.items, report)
    with watch.stage("expand"):
        expanded = expand(spec, report, whole=not broken)
    if expanded is None:
        return None
    if report:
        _statements(expanded, report, unread=_templates(broken))
        return None
    with watch.stage("check"):
        model = build_model(expanded, report)
    with watch.stage("lower"):
        graph = lower(model, report) if model is not None else None
    if model is None or graph is None:
        return None
    check_freeze(expanded.items, graph, report)
    return None if report else (model, graph)


def _templates(sources: Iterable[Source]) -> frozenset[str]:
    """The templates that these texts declare, for all that can be seen: their own text may be what is broken."""
    declared = re.compile(r"\btemplate\s+(?:surface\s+)?(\w+)")
    return frozenset(name for source in {s.path: s for s in sources}.values() for name in declared.findall(source.text))


def _statements(spec: tree.Spec, report: Report, unread: frozenset[str]) -> None:
    """Reports what is wrong inside of statements: names may be missing because their text couldn't be read."""
    local = Report(MOST)
    known = [d.span for d in report if d.span]
    with contextlib.suppress(ReportFull):
        build_model(spec, local)
    found = [d for d in local if d.code in _LOCAL and not any(_touch(d.span, span) for span in known)]
    report.extend(d for d in found if d.code != "T202" or d.span is None or d.span.text not in unread)


def _touch(a: Span | None, b: Span) -> bool:
    """Whether two places overlap: a mistake is not reported again for what follows from it."""
    return a is not None and a.source is b.source and a.start < b.end and b.start < a.end
