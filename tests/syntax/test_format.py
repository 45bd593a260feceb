"""The formatter on random specs: canonical, idempotent, every comment kept, the meaning as it was."""

from __future__ import annotations

import dataclasses
import re
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.mutate import corpus
from towerspec.diagnostics import Source
from towerspec.syntax import tree
from towerspec.syntax.format import format_text
from towerspec.syntax.parser import parse

CORPUS = [text for text in corpus() if not parse(Source("<corpus>", text))[1]]
NEWLINE = "\n"
WORDS = st.sampled_from(["a", "b", "left", "right_2", "click", "home"])
NUMBERS = st.sampled_from(["1", "0", "1_000", "2.5", "1e-3", "-4", "0.10", "3E5"])
TEXTS = st.sampled_from(['""', '"a b"', '"\\"x\\""', '"\\\\"', '"#no comment"', '"é\\n"', '"{{ x }}"'])


@st.composite
def expressions(draw: st.DrawFn, depth: int = 2) -> str:
    if depth == 0:
        return draw(WORDS | NUMBERS | TEXTS)
    inner = expressions(depth=depth - 1)
    kind = draw(st.sampled_from(["word", "list", "call", "options"]))
    if kind == "word":
        return draw(WORDS | NUMBERS | TEXTS)
    items = draw(st.lists(inner, min_size=1, max_size=3))
    if kind == "list":
        return f"[{', '.join(items)}]"
    options = draw(st.lists(st.tuples(WORDS, inner), max_size=2)) if kind == "options" else []
    return f"{draw(WORDS)}({', '.join([*items, *(f'{k}: {v}' for k, v in options)])})"


@st.composite
def blocks(draw: st.DrawFn, separator: str = ", ") -> str:
    options = draw(st.lists(st.tuples(WORDS, expressions(depth=1)), min_size=1, max_size=3))
    return "{ " + separator.join(f"{k}: {v}" for k, v in options) + " }"


@st.composite
def features(draw: st.DrawFn) -> str:
    level = draw(st.sampled_from(["request", "candidate"]))
    kinds = st.sampled_from(["number", "category", "bag", "sequence"])
    lines = [f"{draw(WORDS)} : {draw(kinds)} {draw(st.just('') | blocks())}" for _ in range(draw(st.integers(1, 3)))]
    return "\n".join([f"{level} {{", *lines, "}"])


@st.composite
def towers(draw: st.DrawFn, depth: int = 1) -> str:
    lines = []
    if draw(st.booleans()):
        lines.append(f"layers: [{draw(NUMBERS)}, 8]")
    if draw(st.booleans()):
        lines.append(f"fuse {draw(WORDS)} after {draw(st.sampled_from(['0', '1']))} with {draw(WORDS)}")
    if depth and draw(st.booleans()):
        arms = [f"{label} {{\n{draw(towers(depth=depth - 1))}\n}}" for label in ("a", '"b c"', "else")]
        lines.append(f"branch by {draw(WORDS)} {{\n" + "\n".join(arms) + "\n}")
    else:
        lines.append(f"head {draw(WORDS)} : binary {draw(st.just('') | blocks())}")
        lines.append("head both : product(click, buy)")
    return "\n".join(lines)


@st.composite
def specs(draw: st.DrawFn) -> str:
    trunk = "\n".join(f"{draw(WORDS)} = {draw(expressions())}" for _ in range(draw(st.integers(1, 3))))
    calibrate = (
        f"calibrate click with {draw(WORDS)} {draw(st.just('') | blocks())} {draw(st.sampled_from(['', 'by a']))}"
    )
    parts = [
        f"const {draw(WORDS)} = {draw(expressions(depth=1))}",
        f"table {draw(WORDS)} {draw(blocks())}",
        draw(features()),
        f"template twice(x, width: {draw(NUMBERS)}) {{\n{trunk}\n}}",
        f"trunk {{\n{trunk}\n}}",
        f"train {draw(blocks(separator=NEWLINE))}",
        f"surface home {{\nweight: 2\n{draw(features())}\n{trunk}\ntower {{\n{draw(towers())}\n}}\n{calibrate}\n}}",
        f"template surface shop(rows) {{\ntower {{\n{draw(towers(depth=0))}\n}}\n}}",
        "surface us = shop(rows: 3)",
    ]
    return "model m\n" + "\n".join(draw(st.permutations(parts)))


def sprinkled(text: str, random: Random) -> str:
    """The text with comments at the ends of some lines and between them, and with other white space."""
    lines = []
    for i, line in enumerate(text.split("\n")):
        if random.random() < 0.15:
            lines.append(f"{' ' * random.randrange(9)}# above {i}")
        lines.append(" " * random.randrange(7) + line + (f"  # after {i}" if random.random() < 0.2 else ""))
        lines += [""] * (random.random() < 0.1)
    return "\n".join(lines)


def meaning(text: str) -> object:
    """A text's tree without its places."""
    spec, mistakes = parse(Source("<text>", text))
    assert not mistakes, (text, mistakes)
    return _plain(spec)


def _plain(node: object) -> object:
    if isinstance(node, tuple):
        return tuple(_plain(child) for child in node)
    if isinstance(node, tree.Node):
        values = [(f.name, _plain(getattr(node, f.name))) for f in dataclasses.fields(node) if f.name != "span"]
        return (type(node).__name__, *values)
    return node


def comments(text: str) -> list[str]:
    return [found.rstrip() for found in re.findall(r"#[^\n]*", re.sub(r'"(?:\\.|[^"\\\n])*"', '""', text))]


def assert_formats(text: str) -> None:
    once = format_text(text, "<text>")
    assert format_text(once, "<text>") == once
    assert meaning(once) == meaning(text)
    assert sorted(comments(once)) == sorted(comments(text))
    assert all(len(line) == len(line.rstrip()) for line in once.splitlines())


@settings(max_examples=120, deadline=None)
@given(specs(), st.integers(0, 2**32))
def test_random_specs(text: str, seed: int) -> None:
    assert_formats(sprinkled(text, Random(seed)))


@settings(max_examples=60, deadline=None)
@given(specs())
def test_white_space_means_nothing(text: str) -> None:
    loose = re.sub(r"(?m)^", "   ", text).replace(" : ", "   :  ").replace(", ", " ,   ")
    assert format_text(loose, "<text>") == format_text(text, "<text>")


@pytest.mark.parametrize("index", range(len(CORPUS)))
def test_specs_and_examples(index: int) -> None:
    text = CORPUS[index]
    assert_formats(text)
    assert_formats(sprinkled(text, Random(index)))
