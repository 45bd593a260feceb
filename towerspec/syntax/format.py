"""The canonical form of a spec: one statement a line, columns aligned, every comment kept.

The text is written anew from its tree. A comment goes with the statement, or the item of a list, that it
follows on a line or precedes; where a list holds comments or is too long for a line it takes a line an item.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from towerspec.diagnostics import Source, Span, SpecError
from towerspec.syntax import tree
from towerspec.syntax.parser import parse
from towerspec.syntax.printing import cells, groups_of, header, is_block, one_line

WIDTH = 100
INDENT = "    "
_TOKEN = re.compile(r'(?P<comment>#[^\n]*)|(?P<string>"(?:[^"\\\n]|\\[^\n])*")|(?P<other>[^\s#"])')


@dataclass
class _Comment:
    start: int
    text: str


@dataclass
class _Line:
    """One line to be: its columns, the comment behind it, and what sort of statement it is."""

    indent: int
    cells: list[str]
    comment: str = ""
    sort: str = ""

    @property
    def text(self) -> str:
        return INDENT * self.indent + " ".join(self.cells).rstrip()


@dataclass
class _Formatter:
    source: Source
    comments: list[_Comment] = field(default_factory=list)
    braces: list[int] = field(default_factory=list)  # the offsets of `{`
    lines: list[_Line] = field(default_factory=list)

    def __post_init__(self) -> None:
        for match in _TOKEN.finditer(self.source.text):
            if match.lastgroup == "comment":
                self.comments.append(_Comment(match.start(), match.group().rstrip()))
            elif match.group() == "{":
                self.braces.append(match.start())

    # ---- comments ----------------------------------------------------------------------------

    def take(self, start: int, end: int) -> list[_Comment]:
        """Removes and returns the comments that begin in a range."""
        found = [c for c in self.comments if start <= c.start < end]
        self.comments = [c for c in self.comments if not start <= c.start < end]
        return found

    def row(self, offset: int) -> int:
        return self.source.position(offset)[0]

    def take_trailing(self, end: int, limit: int) -> str:
        """The comment on the same line behind an offset."""
        newline = self.source.text.find("\n", end)
        stop = min(limit, newline if newline >= 0 else len(self.source.text))
        between = self.source.text[end:stop]
        found = self.take(end, stop) if re.match(r"[\s,]*#", between) else []
        return found[0].text if found else ""

    def own(self, comments: list[_Comment], indent: int, after: int) -> None:
        """Comments on lines of their own; a blank line before one is kept."""
        for comment in comments:
            self._gap(after, comment.start)
            self.lines.append(_Line(indent, [comment.text], sort="comment"))
            after = comment.start + len(comment.text)

    def _gap(self, before: int, start: int) -> None:
        """One blank line where the text has one or more, but none at the start of a block."""
        opens = not self.lines or not self.lines[-1].cells or self.lines[-1].cells[-1].endswith("{")
        if not opens and re.search(r"\n[ \t\r\f]*\n", self.source.text[before:start]):
            self.lines.append(_Line(0, []))

    # ---- blocks ------------------------------------------------------------------------------

    def block(self, items: tuple[Any, ...], start: int, end: int, indent: int) -> None:
        """The statements between two offsets, with the comments around them."""
        at = start
        for index, item in enumerate(items):
            limit = items[index + 1].span.start if index + 1 < len(items) else end
            before = self.take(at, item.span.start)
            self.own(before, indent, at)
            self._gap(before[-1].start + len(before[-1].text) if before else at, item.span.start)
            self._top_gap(items, index, indent, bool(before))
            self.statement(item, indent)
            self.lines[-1].comment = self.take_trailing(item.span.end, limit) or self.lines[-1].comment
            at = item.span.end
        self.own(self.take(at, end), indent, at)

    def _top_gap(self, items: tuple[Any, ...], index: int, indent: int, commented: bool) -> None:
        """A blank line between top-level declarations, unless both are of one line."""
        if indent or not index or commented or not self.lines[-1].cells:
            return
        if is_block(items[index]) or is_block(items[index - 1]) or isinstance(items[index - 1], tree.Name):
            self.lines.append(_Line(0, []))

    def statement(self, item: Any, indent: int) -> None:
        if is_block(item):
            self._block_statement(item, indent)
        else:
            self._leaf(item, indent)

    def _block_statement(self, item: Any, indent: int) -> None:
        head, items, after = header(item)
        at = next(b for b in self.braces if b >= after)
        self.own(self.take(item.span.start, at), indent, item.span.start)
        inside = self.take_trailing(at + 1, item.span.end)
        if not items and not inside and not any(at < c.start < item.span.end for c in self.comments):
            self.lines.append(_Line(indent, [f"{head} {{}}"]))
            return
        self.lines.append(_Line(indent, [f"{head} {{"], inside))
        self.block(items, at + 1, item.span.end - 1, indent + 1)
        while self.lines and not self.lines[-1].cells:
            self.lines.pop()
        self.lines.append(_Line(indent, ["}"]))

    def _leaf(self, item: Any, indent: int) -> None:
        inside = [c for c in self.comments if item.span.start <= c.start < item.span.end]
        text = one_line(item)
        if not inside and len(INDENT) * indent + len(text) <= WIDTH:
            self.lines.append(_Line(indent, cells(item), sort=type(item).__name__))
            return
        first = len(self.lines)
        self._broken(item, indent)
        kept = self.lines[first:]
        del self.lines[first:]
        self.own(self.take(item.span.start, item.span.end), indent, item.span.start)  # those inside no list
        self.lines += kept

    def _broken(self, item: Any, indent: int) -> None:
        """A statement whose lists take a line an item."""
        text = ""
        for part in groups_of(item, self.braces):
            if isinstance(part, str):
                text += part
                continue
            opening, closing, items, start, end = part
            held = any(start <= c.start < end for c in self.comments)
            flat = f"{opening}{', '.join(one_line(i) for i in items)}{closing}"
            if not items or (not held and len(INDENT) * indent + len(text) + len(flat) <= WIDTH):
                text += flat
                continue
            self.lines.append(
                _Line(indent, [text + opening.rstrip()], self.take_trailing(start + 1, items[0].span.start))
            )
            self._items(items, start, end, indent + 1)
            text = closing.strip()
        self.lines.append(_Line(indent, [text]))

    def _items(self, items: tuple[Any, ...], start: int, end: int, indent: int) -> None:
        at = start
        for index, item in enumerate(items):
            self.own(self.take(at, item.span.start), indent, at)
            self._leaf(item, indent)
            limit = items[index + 1].span.start if index + 1 < len(items) else end
            last = self.lines[-1]
            last.cells = [*last.cells[:-1], last.cells[-1] + ","]
            last.sort = ""
            last.comment = self.take_trailing(item.span.end, limit)
            at = item.span.end
        self.own(self.take(at, end), indent, at)


def _align(lines: list[_Line]) -> list[str]:
    """Columns of neighbouring statements of one sort start together, and so do comments behind neighbouring lines."""
    for run in _runs(
        lines, lambda a, b: a.sort == b.sort != "" and a.indent == b.indent and len(a.cells) > 1 < len(b.cells)
    ):
        for column in range(max(len(line.cells) for line in run) - 1):
            wide = max(len(line.cells[column]) for line in run if len(line.cells) > column + 1)
            for line in run:
                if len(line.cells) > column + 1:
                    line.cells[column] = line.cells[column].ljust(wide)
    texts = [line.text for line in lines]
    for run in _runs(
        list(range(len(lines))),
        lambda a, b: bool(lines[a].cells and lines[b].cells) and lines[a].indent == lines[b].indent,
    ):
        width = max((len(texts[i]) for i in run if lines[i].comment), default=0)
        for i in run:
            if lines[i].comment:
                texts[i] = f"{texts[i].ljust(width)}  {lines[i].comment}"
    return texts


def _runs(items: list[Any], together: Any) -> list[list[Any]]:
    runs: list[list[Any]] = []
    for item in items:
        if runs and together(runs[-1][-1], item):
            runs[-1].append(item)
        else:
            runs.append([item])
    return runs


def format_text(text: str, path: str = "<spec>") -> str:
    """The canonical form of a spec's text.

    Raises `SpecError` with the syntax errors of a text that doesn't parse.

    >>> print(format_text("model a trunk{x=mlp(request,hidden:[12000])}"), end="")
    model a
    <BLANKLINE>
    trunk {
        x = mlp(request, hidden: [12_000])
    }
    """
    source = Source(path, text.replace("\r\n", "\n"))
    spec, errors = parse(source)
    if errors:
        raise SpecError(*errors)
    formatter = _Formatter(source)
    items: tuple[Any, ...] = spec.items
    if spec.name is not None:
        start = source.text.rindex("model", 0, spec.name.span.start)
        model = tree.Name(spec.name.text, span=Span(source, start, spec.name.span.end))
        items = tuple(sorted((*items, model), key=lambda i: i.span.start))
    formatter.block(items, 0, len(source.text), 0)
    lines = _align(formatter.lines)
    while lines and not lines[-1]:
        lines.pop()
    return "\n".join(lines) + "\n" if lines else ""
