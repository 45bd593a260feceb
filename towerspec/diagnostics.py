"""Diagnostics: the one vocabulary in which every stage reports what is wrong, and how it is rendered.

A diagnostic is a frozen value. Stages make them, a `Report` collects them, and only the command
line prints them or chooses an exit code. The anatomy follows rustc's.
"""

from __future__ import annotations

import bisect
import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

__all__ = [
    "MOST",
    "Diagnostic",
    "Label",
    "Report",
    "ReportFull",
    "Source",
    "Span",
    "SpecError",
    "did_you_mean",
    "listing",
    "render",
    "render_concise",
    "render_github",
    "render_json",
]


@dataclass(frozen=True)
class Source:
    """One spec file's text and the path it is shown under."""

    path: str
    text: str

    @functools.cached_property
    def line_starts(self) -> list[int]:
        return [0, *(i + 1 for i, char in enumerate(self.text) if char == "\n")]

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column of an offset, both counted from 1."""
        line = bisect.bisect_right(self.line_starts, offset)
        return line, offset - self.line_starts[line - 1] + 1

    def line(self, number: int) -> str:
        start = self.line_starts[number - 1]
        end = self.text.find("\n", start)
        return self.text[start : end if end >= 0 else len(self.text)].rstrip("\r")


@dataclass(frozen=True)
class Span:
    """A half-open range of offsets in one source."""

    source: Source
    start: int
    end: int

    @property
    def line(self) -> int:
        return self.source.position(self.start)[0]

    @property
    def column(self) -> int:
        return self.source.position(self.start)[1]

    @property
    def text(self) -> str:
        return self.source.text[self.start : self.end]

    def to(self, other: Span) -> Span:
        """The span from this one's start to the other's end."""
        return Span(self.source, self.start, other.end)

    def __str__(self) -> str:
        return f"{self.source.path}:{self.line}:{self.column}"

    def __repr__(self) -> str:
        return f"Span({self})"


@dataclass(frozen=True)
class Label:
    """A second place that a diagnostic points at."""

    span: Span
    message: str


@dataclass(frozen=True)
class Diagnostic:
    """One mistake: what it is, where it is, why, and what to write instead.

    `message` stands on its own, starts in lower case and ends without a full stop; identifiers
    stand in backticks. `label` is the few words under the carets. Only `help` proposes a fix.
    """

    code: str
    message: str
    span: Span | None = None
    label: str = ""
    labels: tuple[Label, ...] = ()
    notes: tuple[str, ...] = ()
    help: str | None = None
    severity: str = "error"


class SpecError(Exception):
    """Carries diagnostics out of a library call; the command line renders them instead."""

    def __init__(self, *diagnostics: Diagnostic) -> None:
        self.diagnostics = diagnostics
        super().__init__("\n\n".join(render(d) for d in diagnostics))


MOST = 200  # mistakes shown at once; nobody reads more


class ReportFull(Exception):
    """A report has as many mistakes as it takes; whoever made it ends its work there."""


@dataclass
class Report:
    """Collects the diagnostics of a run, each once, in the order of the files' text.

    It is true where there is an error. With `most`, one error more raises `ReportFull`: a hostile file has millions.
    """

    most: int | None = None
    full: bool = False
    _found: dict[Diagnostic, None] = field(default_factory=dict)

    def add(self, diagnostic: Diagnostic) -> None:
        if diagnostic not in self._found and self.most is not None and len(self._found) >= self.most:
            self.full = True
            raise ReportFull
        self._found.setdefault(diagnostic)

    def error(
        self,
        code: str,
        message: str,
        span: Span | None = None,
        label: str = "",
        *,
        labels: Iterable[Label] = (),
        notes: Iterable[str] = (),
        help: str | None = None,
    ) -> None:
        self.add(Diagnostic(code, message, span, label, tuple(labels), tuple(notes), help))

    def extend(self, diagnostics: Iterable[Diagnostic]) -> None:
        for diagnostic in diagnostics:
            self.add(diagnostic)

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        files = {d.span.source.path: i for i, d in reversed(list(enumerate(self._found))) if d.span}

        def order(d: Diagnostic) -> tuple[int, int]:
            return (files[d.span.source.path], d.span.start) if d.span else (-1, 0)

        return tuple(sorted(self._found, key=order))

    def __iter__(self) -> Iterator[Diagnostic]:
        return iter(self.diagnostics)

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """What is no mistake, and may be none that was meant."""
        return tuple(d for d in self.diagnostics if d.severity == "warning")

    def __bool__(self) -> bool:
        return any(d.severity == "error" for d in self._found)

    def check(self) -> None:
        """Raise `SpecError` with all that was found, if an error is among it."""
        if self:
            raise SpecError(*self.diagnostics)


def did_you_mean(word: str, known: Iterable[str], meant: Mapping[str, str] | None = None) -> str | None:
    """The help line for a misspelt word, if a known one is close; `meant` has other words for known things.

    >>> did_you_mean("gatd", ["film", "gate"])
    'did you mean `gate`?'
    >>> did_you_mean("mpl", ["ple", "mlp"])  # letters that changed places come first
    'did you mean `mlp`?'
    >>> did_you_mean("ctr", ["CTR"])
    'did you mean `CTR`?'
    >>> did_you_mean("dot", ["dropout"])
    >>> did_you_mean("dcn", ["cross", "din"], {"dcn": "cross"})
    'did you mean `cross`?'
    """
    from towerspec.spelling import nearest  # here, as is json: most runs have nothing to report

    found = (meant or {}).get(word.casefold()) or nearest(word, known)
    return f"did you mean `{found}`?" if found else None


def listing(words: Iterable[str], most: int = 24) -> str:
    """Words for a note, comma separated, cut where there are many.

    >>> listing(["b", "a", "c"], most=2)
    'b, a, … (1 more)'
    """
    words = list(words)
    shown = ", ".join(words[:most])
    return shown if len(words) <= most else f"{shown}, … ({len(words) - most} more)"


_LONGEST = 600  # letters of a message or a note; what it quotes may be as long as a file


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}"


def _printable(text: str) -> str:
    # Control characters in a spec must not drive the reader's terminal.
    return "".join(c if c.isprintable() else ("    " if c == "\t" else "\ufffd") for c in _cut(text))


_WINDOW = 140  # a longer source line is cut around the span


def _excerpt(line: str, start: int, end: int) -> tuple[str, int, int]:
    end = min(end, len(line))
    if len(line) > _WINDOW:
        cut = max(0, start - _WINDOW // 2)
        prefix, line = ("…" if cut else ""), line[cut : cut + _WINDOW]
        start, end = start - cut + len(prefix), min(end - cut, _WINDOW) + len(prefix)
        line = prefix + line
    before, marked = _printable(line[:start]), _printable(line[start:end])
    return _printable(line), len(before), max(1, len(marked))


def _snippet(span: Span, gutter: int, mark: str, message: str) -> list[str]:
    line, column = span.source.position(span.start)
    text, indent, width = _excerpt(span.source.line(line), column - 1, column - 1 + span.end - span.start)
    pad = " " * gutter
    underline = " " * indent + mark * width + (f" {message}" if message else "")
    return [f"{pad} |", f"{line:>{gutter}} | {text}".rstrip(), f"{pad} | {underline}"]


def render(d: Diagnostic) -> str:
    """The full form for people, as rustc lays it out."""
    out = [f"{d.severity}[{d.code}]: {_printable(d.message)}"]
    spans = [span for span in (d.span, *(label.span for label in d.labels)) if span]
    gutter = max((len(str(span.line)) for span in spans), default=1)
    if d.span:
        out += [f"{' ' * gutter}--> {_printable(str(d.span))}", *_snippet(d.span, gutter, "^", d.label)]
    for label in d.labels:
        if not d.span or label.span.source.path != d.span.source.path:
            out.append(f"{' ' * gutter}::: {_printable(str(label.span))}")
        out += _snippet(label.span, gutter, "-", label.message)
    pad = " " * gutter
    out += [f"{pad} = note: {_printable(note)}" for note in d.notes]
    out += [f"{pad} = help: {_printable(d.help)}"] if d.help else []
    return "\n".join(out)


def render_concise(d: Diagnostic) -> str:
    """One line: place, severity, code, message."""
    place = f"{_printable(str(d.span))}: " if d.span else ""
    return f"{place}{d.severity}[{d.code}]: {_printable(d.message)}"


def render_github(d: Diagnostic) -> str:
    """A GitHub Actions workflow command, so that the mistake shows up on the pull request's line."""

    def escape(text: str, property_: bool = False) -> str:
        text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
        return text.replace(":", "%3A").replace(",", "%2C") if property_ else text

    where = ""
    if d.span:
        line, column = d.span.source.position(d.span.start)
        where = f"file={escape(d.span.source.path, True)},line={line},col={column},"
    text = "\n".join(map(_cut, [d.message, *d.notes, *([d.help] if d.help else [])]))
    return f"::{d.severity} {where}title={escape(d.code, True)}::{escape(text)}"


def _place(span: Span | None) -> dict[str, object] | None:
    if span is None:
        return None
    end_line, end_column = span.source.position(span.end)
    return {
        "file": span.source.path,
        "line": span.line,
        "column": span.column,
        "end_line": end_line,
        "end_column": end_column,
    }


def render_json(diagnostics: Iterable[Diagnostic]) -> str:
    """All diagnostics as one JSON document: `{"diagnostics": [...]}`."""
    import json

    rows = [
        {
            "code": d.code,
            "severity": d.severity,
            "message": _cut(d.message),
            "span": _place(d.span),
            "label": d.label,
            "labels": [{"span": _place(label.span), "message": label.message} for label in d.labels],
            "notes": [_cut(note) for note in d.notes],
            "help": _cut(d.help) if d.help else None,
        }
        for d in diagnostics
    ]
    return json.dumps({"diagnostics": rows}, indent=2)
