"""Ways to spoil a spec or a manifest, shared by the tests and the longer run of `python -m tests.fuzz`."""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).parent.parent
TOKEN = re.compile(r'"[^"\n]*"|#[^\n]*|\w+|\s+|.')
WORDS = [
    "{", "}", "(", ")", "[", "]", ":", ",", "=", ".", "-", "+", "*", "/", "#", "\"", "\\", "\n", "\t", "\u0000",
    "é", "∞", "{{ x }}", "{% raw %}", "0", "-1", "1e999", "1_0", "9" * 30, "model", "request", "candidate",
    "trunk", "surface", "tower", "layers", "head", "fuse", "branch", "by", "after", "with", "calibrate",
    "template", "const", "include", "table", "train", "else", "class", "__init__", "self", "import os", "lambda",
    "None", "x", "concat", "mlp", "transformer", "binary", "product", "true",
]  # fmt: skip


def corpus() -> list[str]:
    """The specs of the repository, and the examples of the language reference."""
    specs = [p.read_text(encoding="utf-8") for p in sorted((ROOT / "specs").rglob("*.tower"))]
    page = (ROOT / "docs" / "language.md").read_text(encoding="utf-8")
    return specs + re.findall(r"^```tower[^\n]*\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def mutate(random: Random, texts: list[str]) -> str:
    """One of the texts, or a piece of two of them, with a few of its tokens changed."""
    tokens = TOKEN.findall(random.choice(texts))
    if random.random() < 0.2:
        other = TOKEN.findall(random.choice(texts))
        tokens = tokens[: random.randrange(len(tokens) + 1)] + other[random.randrange(len(other) + 1) :]
    for _ in range(random.choice([1, 1, 1, 2, 3, 8])):
        _change(random, tokens)
    return "".join(tokens)


def _change(random: Random, tokens: list[str]) -> None:
    if not tokens:
        return
    i, j = random.randrange(len(tokens)), random.randrange(len(tokens))
    kind = random.randrange(6)
    if kind == 0:
        del tokens[i]
    elif kind == 1:
        tokens.insert(i, tokens[j])
    elif kind == 2:
        tokens[i], tokens[j] = tokens[j], tokens[i]
    elif kind == 3:
        tokens[i] = random.choice(WORDS)
    elif kind == 4:
        tokens.insert(i, random.choice(WORDS))
    else:
        del tokens[min(i, j) : min(min(i, j) + 40, max(i, j))]


STRANGE: list[Any] = [
    None, True, False, 0, 1, -1, 2**63, 2**64, 1.5, 1e308, "", "x", "N", "../x", "/", "\0", "\ud800", "é", [], [0],
    ["N"], [[[]]], {}, {"name": 1}, {"x": {}}, "int64", "float32", "category", "request",
]  # fmt: skip


def spoil(random: Random, document: dict[str, Any], skip: Collection[str] = ()) -> dict[str, Any]:
    """A JSON document, changed: one or a few of its nodes are left out, doubled, or become others or strange values.

    Nothing beneath the names in `skip` is touched.
    """
    for _ in range(random.choice([1, 1, 1, 2, 4])):
        places = list(_places(document, skip))
        holder, key = random.choice(places)
        kind = random.randrange(4)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, list):
            holder.insert(key, holder[key])
        elif kind == 2:
            other, at = random.choice(places)
            holder[key] = copy.deepcopy(other[at])
        else:
            holder[key] = copy.deepcopy(random.choice(STRANGE))
    return document


def _places(node: Any, skip: Collection[str]) -> Iterator[tuple[Any, Any]]:
    """Every place in a document that holds a value: its holder, and the key or index."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        if key not in skip:
            yield node, key
            yield from _places(value, skip)
