"""Ways to spoil a spec: tokens lost, doubled, swapped and replaced, numbers and names changed, lines moved."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from random import Random

ROOT = Path(__file__).parents[2]
TOKEN = re.compile(r'"[^"\n]*"|#[^\n]*|\w+|\s+|.')
NUMBER = re.compile(r"\d[\d_]*(?:\.\d+)?(?:e-?\d+)?\Z")
NAME = re.compile(r"[^\W\d]\w*\Z")
WORDS = [
    "{", "}", "(", ")", "[", "]", ":", ",", "=", ".", "-", "+", "*", "/", "#", "\"", "\\", "\n", "\t", "\u0000",
    "é", "∞", "{{ x }}", "{% raw %}", "0", "-1", "1e999", "1_0", "9" * 30, "model", "request", "candidate",
    "trunk", "surface", "tower", "layers", "head", "fuse", "branch", "by", "after", "with", "calibrate",
    "template", "const", "include", "table", "train", "else", "class", "__init__", "self", "import os", "lambda",
    "None", "x", "concat", "mlp", "transformer", "binary", "product", "true",
]  # fmt: skip
NUMBERS = ["0", "1", "2", "3", "-1", "7", "0.5", "1.0", "1e-3", "65537", "2147483648", "1e6", "00", "1_000", "0x10"]


def corpus() -> list[str]:
    """The specs of the repository, and the examples of the language reference."""
    specs = [p.read_text(encoding="utf-8") for p in sorted((ROOT / "specs").rglob("*.tower"))]
    page = (ROOT / "docs" / "language.md").read_text(encoding="utf-8")
    return specs + re.findall(r"^```tower[^\n]*\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def shrunk(text: str) -> str:
    """The same spec with small tables and layers, so that it compiles at once."""

    def smaller(found: re.Match[str]) -> str:
        number = int(found[0].replace("_", ""))
        return found[0] if number <= 12 else str(4 + 4 * (number % 3))

    return re.sub(r"(?<![\w.])\d[\d_]*(?![\w.])", smaller, text)


def mutate(random: Random, texts: list[str]) -> str:
    """One of the texts, or a piece of two of them, with a few of its tokens changed."""
    tokens = TOKEN.findall(random.choice(texts))
    if random.random() < 0.15:
        other = TOKEN.findall(random.choice(texts))
        tokens = tokens[: random.randrange(len(tokens) + 1)] + other[random.randrange(len(other) + 1) :]
    for _ in range(random.choice([1, 1, 1, 2, 3, 8])):
        if tokens:
            random.choice(CHANGES)(random, tokens)
    return "".join(tokens)


def _at(random: Random, tokens: list[str], of: re.Pattern[str] | None = None) -> int:
    """Where some token stands; any, where there is none of the sort."""
    places = [i for i, token in enumerate(tokens) if of is None or of.match(token)]
    return random.choice(places) if places else random.randrange(len(tokens))


def _lose(random: Random, tokens: list[str]) -> None:
    del tokens[_at(random, tokens)]


def _double(random: Random, tokens: list[str]) -> None:
    tokens.insert(_at(random, tokens), tokens[_at(random, tokens)])


def _swap(random: Random, tokens: list[str]) -> None:
    i, j = _at(random, tokens), _at(random, tokens)
    tokens[i], tokens[j] = tokens[j], tokens[i]


def _replace(random: Random, tokens: list[str]) -> None:
    tokens[_at(random, tokens)] = random.choice(WORDS)


def _insert(random: Random, tokens: list[str]) -> None:
    tokens.insert(_at(random, tokens), random.choice(WORDS))


def _cut(random: Random, tokens: list[str]) -> None:
    i, j = sorted((_at(random, tokens), _at(random, tokens)))
    del tokens[i : min(i + 40, j)]


def _number(random: Random, tokens: list[str]) -> None:
    at = _at(random, tokens, NUMBER)
    near = [str(int(tokens[at]) + d) for d in (-1, 1)] if tokens[at].isdecimal() else []
    tokens[at] = random.choice([*near, random.choice(NUMBERS)])


def _name(random: Random, tokens: list[str]) -> None:
    tokens[_at(random, tokens, NAME)] = tokens[_at(random, tokens, NAME)]


def _rename(random: Random, tokens: list[str]) -> None:
    """One name for another, wherever it stands."""
    old, new = (tokens[_at(random, tokens, NAME)] for _ in range(2))
    new = new if random.random() < 0.5 else f"{new}_1"
    tokens[:] = [new if token == old else token for token in tokens]


def _line(random: Random, tokens: list[str]) -> None:
    """A line at another place, or there as well, or nowhere."""
    lines = "".join(tokens).split("\n")
    kind, line = random.randrange(3), random.randrange(len(lines))
    text = lines[line] if kind == 1 else lines.pop(line)
    if kind < 2:
        lines.insert(random.randrange(len(lines) + 1), text)
    tokens[:] = TOKEN.findall("\n".join(lines))


CHANGES: tuple[Callable[[Random, list[str]], None], ...] = (
    _lose, _double, _swap, _replace, _insert, _cut, _number, _number, _number, _name, _name, _rename, _line, _line,
)  # fmt: skip
