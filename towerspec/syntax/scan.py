"""A linear look at a spec's text before it is parsed: brackets, strings, and where each declaration begins.

Splitting the text at its declarations, with offsets kept, lets one run report several syntax errors.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

from towerspec.diagnostics import MOST, Diagnostic, Label, Source, Span

DEEPEST = 64
DECLARATIONS = ("model", "include", "const", "template", "table", "request", "candidate", "trunk", "surface", "train")
_TOKEN = re.compile(
    r'(?P<comment>#[^\n]*)|(?P<string>"(?:[^"\\\n]|\\[^\n])*")|(?P<open>"[^\n]*)|(?P<word>[^\W\d]\w*)|(?P<bracket>[()\[\]{}])'
)
_PAIRS = {")": "(", "]": "[", "}": "{"}


@dataclass(frozen=True)
class Piece:
    """One declaration's text; `broken` where its brackets or strings are, so that parsing it would only repeat that."""

    start: int
    end: int
    broken: bool


@dataclass
class _Scan:
    source: Source
    found: list[Diagnostic]
    starts: list[int]
    broken: list[int]  # offsets inside broken pieces
    stack: list[tuple[str, int]]
    lost: bool = False  # after a wrong bracket, until the next declaration

    def span(self, start: int, end: int) -> Span:
        return Span(self.source, start, end)

    def token(self, kind: str, text: str, start: int, after: str) -> bool:
        """Takes one token; false where the rest can't be read."""
        if kind == "open":
            self.broken.append(start)
            self.found.append(
                Diagnostic(
                    "T104",
                    "the text is not closed",
                    self.span(start, start + len(text.rstrip())),
                    "no closing quote on this line",
                    help='close it with `"`',
                )
            )
        elif kind == "word":
            self._word(text, start, after)
        elif kind == "bracket":
            return self._bracket(text, start)
        return True

    def _word(self, text: str, start: int, after: str) -> None:
        at_margin = start == 0 or self.source.text[start - 1] == "\n"
        if self.lost and at_margin and text in DECLARATIONS:
            self.lost = False
            self.stack.clear()
        if self.stack and at_margin and self._declares(text, start + len(text)):
            # A declaration at the margin inside a bracket: the bracket before it was left open.
            self._unclosed()
        if not self.stack and after not in ("template", "=") and (text in DECLARATIONS or at_margin):
            self.starts.append(start)

    def _declares(self, text: str, end: int) -> bool:
        """Whether a word inside a bracket can only begin a declaration; the level words open a surface's blocks too."""
        follows = {"trunk": r"\s*\{", "train": r"\s*\{", "include": r'\s*"'}.get(text, r"\s+[^\W\d]")
        top = text in DECLARATIONS and text not in ("request", "candidate")
        return top and re.compile(follows).match(self.source.text, end) is not None

    def _bracket(self, text: str, start: int) -> bool:
        if self.lost:  # what follows a wrong bracket says nothing new until the next declaration
            return True
        if text not in _PAIRS:
            self.stack.append((text, start))
            if len(self.stack) > DEEPEST:
                self.broken.append(start)
                self.found.append(
                    Diagnostic(
                        "T105",
                        f"brackets are nested deeper than {DEEPEST} levels",
                        self.span(start, start + 1),
                        "too deep",
                        help="give the inner parts names of their own",
                    )
                )
                return False
            return True
        if self.stack and self.stack[-1][0] == _PAIRS[text]:
            self.stack.pop()
            return True
        self.broken.append(start)
        if not self.stack:
            self.found.append(
                Diagnostic(
                    "T103",
                    f"this `{text}` closes nothing",
                    self.span(start, start + 1),
                    "no bracket is open here",
                    help="remove it",
                )
            )
            return True
        opened, at = self.stack.pop()
        if self._swallowed(at):
            while self.stack and self.stack.pop()[0] != _PAIRS[text]:
                pass
            return True
        closer = next(c for c, o in _PAIRS.items() if o == opened)
        self.found.append(
            Diagnostic(
                "T103",
                f"`{opened}` is closed by `{text}`",
                self.span(start, start + 1),
                f"expected `{closer}`",
                (Label(self.span(at, at + 1), "opened here"),),
            )
        )
        self.lost = True
        return True

    def _swallowed(self, at: int) -> bool:
        """Whether a text that was left open behind a bracket took the closing one with it."""
        return any(d.code == "T104" and d.span is not None and d.span.start > at for d in self.found)

    def _unclosed(self) -> None:
        opened, at = self.stack[-1]  # the innermost is where the reader should look
        self.broken.append(at)
        if self._swallowed(at):
            self.stack.clear()
            return
        self.found.append(
            Diagnostic(
                "T103",
                f"this `{opened}` is never closed",
                self.span(at, at + 1),
                "opened here",
                help=f"close it with `{next(c for c, o in _PAIRS.items() if o == opened)}`",
            )
        )
        self.stack.clear()


def scan(source: Source) -> tuple[list[Piece], list[Diagnostic]]:
    """The pieces of a text, and what is wrong with its brackets and strings."""
    state = _Scan(source, [], [], [], [])
    after = ""
    for match in _TOKEN.finditer(source.text):
        kind = match.lastgroup or ""
        if kind == "comment":
            continue
        if not state.token(kind, match.group(), match.start(), after) or len(state.found) > MOST:
            break
        after = _last(source.text, match.end(), match.group())
    else:
        if state.stack and not state.lost:
            state._unclosed()
    bounds = sorted({0, *state.starts, len(source.text)})
    pairs = list(itertools.pairwise(bounds)) or [(0, 0)]
    broken = sorted(state.broken)
    return [Piece(a, b, any(a <= x < b for x in broken)) for a, b in pairs], state.found


def _last(text: str, end: int, word: str) -> str:
    """What the next token comes after: `=` where one follows this token, else the token."""
    match = re.compile(r"\s*=").match(text, end)
    return "=" if match else word
