"""Text to syntax tree, by Lark; whatever the text, the outcome is a tree and a list of diagnostics."""

from __future__ import annotations

from lark import Token
from lark import Tree as LarkTree
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from towerspec.diagnostics import MOST, Diagnostic, Source, Span, did_you_mean, listing
from towerspec.syntax import tree
from towerspec.syntax.build import KEYWORDS, Builder
from towerspec.syntax.grammar import parser
from towerspec.syntax.scan import DECLARATIONS, Piece, scan

_WORDS = {
    "NAME": "a name",
    "NUMBER": "a number",
    "STRING": "a text",
    "LBRACE": "`{`",
    "RBRACE": "`}`",
    "LPAR": "`(`",
    "RPAR": "`)`",
    "LSQB": "`[`",
    "RSQB": "`]`",
    "COLON": "`:`",
    "COMMA": "`,`",
    "EQUAL": "`=`",
    "$END": "the end of the file",
    **{word.upper(): f"`{word}`" for word in KEYWORDS},
}


def parse(source: Source) -> tuple[tree.Spec, list[Diagnostic]]:
    """The tree of a text, and its syntax errors; with errors, the tree holds what could be read.

    >>> spec, errors = parse(Source("a.tower", "model a  trunk { x = concat(request) }"))
    >>> spec.name.text, len(spec.items), errors
    ('a', 1, [])
    """
    pieces, found = scan(source)
    if not found:
        parsed = _parse(source, Piece(0, len(source.text), False))
        if isinstance(parsed, Builder):
            return parsed.spec(), parsed.found
    builder = Builder(source, 0)
    for piece in pieces:
        if len(found) + len(builder.found) > MOST:
            break
        if piece.broken:
            continue
        parsed = _parse(source, piece)
        if isinstance(parsed, Builder):
            builder.join(parsed)
        else:
            found.append(parsed)
    found += builder.found
    return builder.spec(), sorted(found, key=lambda d: d.span.start if d.span else 0)


def _parse(source: Source, piece: Piece) -> Builder | Diagnostic:
    text = source.text[piece.start : piece.end]
    try:
        parsed: LarkTree[Token] = parser().parse(text)
    except UnexpectedInput as error:
        return _explain(source, piece, error)
    builder = Builder(source, piece.start)
    builder.start(parsed)
    return builder


def _explain(source: Source, piece: Piece, error: UnexpectedInput) -> Diagnostic:
    """One of Lark's errors in the language's own words."""
    if isinstance(error, UnexpectedCharacters):
        return _character(source, piece.start + (error.pos_in_stream or 0))
    assert isinstance(error, UnexpectedToken)
    token = error.token
    if token.type == "$END":
        end = len(source.text[piece.start : piece.end].rstrip()) + piece.start
        span = Span(source, max(end - 1, piece.start), max(end, piece.start + 1))
        found, last = "the declaration ends", True
    else:
        start = piece.start + (token.start_pos or 0)
        span, found, last = Span(source, start, start + len(token)), f"`{_short(token)}`", False
    expected = sorted(
        {_WORDS[e] for e in error.accepts or error.expected if e in _WORDS and not (e == "$END" and last)}
    )
    return _unexpected(span, token, found, expected)


def _unexpected(span: Span, token: Token, found: str, expected: list[str]) -> Diagnostic:
    words = [e.strip("`") for e in expected]
    if token.type != "$END" and str(token) in KEYWORDS and "a name" in expected:
        return Diagnostic(
            "T107",
            f"`{token}` is a word of the language and can't be a name",
            span,
            "can't be a name",
            help=f"rename it, say to `{token}_value`",
        )
    at_top = "the end of the file" in expected
    near = did_you_mean(str(token), DECLARATIONS if at_top else [w for w in words if w.isidentifier()])
    shown = [e for e in expected if e != "the end of the file"]
    notes = (f"here can stand {listing(shown, 12)}",) if len(shown) > 3 else ()
    label = f"expected {_either(shown)}" if 0 < len(shown) <= 3 else "not expected here"
    help_ = near
    if "`,`" in expected and token.type in ("NAME", "STRING", "NUMBER"):
        help_ = help_ or "separate options with `,`"
    if token.type == "COMMA" and {"`}`", "a name"} <= {*expected}:
        help_ = "remove it; the lines of this block have no commas"
    message = "the declaration is cut off" if token.type == "$END" else f"unexpected {found}"
    return Diagnostic("T101", message, span, label, notes=notes, help=help_)


def _either(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"


_LOOKALIKES = {
    ";": "remove it; nothing stands between lines",
    "'": 'a text stands in double quotes `"`',
    "“": 'a text stands in straight quotes `"`',
    "”": 'a text stands in straight quotes `"`',
    "//": "a comment starts with `#`",
    "/": "a comment starts with `#`",
    ".": "a name is one word; write numbers as `0.5`",
}


def _character(source: Source, at: int) -> Diagnostic:
    char = source.text[at]
    shown = char if char.isprintable() and not char.isspace() else f"U+{ord(char):04X}"
    return Diagnostic(
        "T102",
        f"the character `{shown}` is not part of the language",
        Span(source, at, at + 1),
        "not understood",
        help=_LOOKALIKES.get(char),
    )


__all__ = ["KEYWORDS", "parse", "parser"]
