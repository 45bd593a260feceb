"""The page of every code: its wrong example gives that code and no other, its right one none."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

from towerspec.check import check_text

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "towerspec" / "explanations").glob("*.md"))
FENCE = re.compile(r"```tower (\w+) (wrong|right)\n(.*?)```", re.DOTALL)

sys.path.insert(0, str(ROOT / "docs"))

import build as docs  # noqa: E402


def examples(page: Path) -> list[tuple[str, str]]:
    """What each example of a page is, and the whole spec around it."""
    found = FENCE.findall(page.read_text(encoding="utf-8"))
    return [(word, docs.embed(docs.Example(place, text, 1))) for place, word, text in found]


def codes_of(*folders: str) -> set[str]:
    """The codes that the source names."""
    found: set[str] = set()
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            texts = [n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)]
            found |= {text for text in texts if re.fullmatch(r"T\d{3}", text)}
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_examples_are_what_they_say(page: Path) -> None:
    for word, text in examples(page):
        codes = [d.code for d in check_text(text).report.diagnostics]
        assert codes == ([] if word == "right" else [page.stem]), text


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_pages_are_whole(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.match(rf"# {page.stem}: \S", text)
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    assert max(map(len, prose.splitlines())) <= 127
    words = [word for word, _ in examples(page)]
    assert words in ([], ["wrong", "right"])
    assert words or int(page.stem[1]) in (0, 6, 7, 8) or page.stem in ("T216", "T308", "T407")


def test_every_code_has_its_page() -> None:
    assert {page.stem for page in PAGES} == codes_of("towerspec")
