"""The language reference is what the registry says now, and all that it shows can be compiled."""

from __future__ import annotations

import doctest
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from towerspec.check import check
from towerspec.diagnostics import render
from towerspec.layers.base import Kind, kinds
from towerspec.syntax.build import KEYWORDS

DOCS = Path(__file__).parent.parent.parent / "docs"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_build", DOCS / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # dataclasses look their module up by name
    spec.loader.exec_module(module)
    return module


build = _load()
PAGE = (DOCS / "language.md").read_text(encoding="utf-8")
EXAMPLES = list(build.examples(PAGE))
CATEGORIES = ("feature", "layer", "fusion", "head", "calibrator")
KINDS = [(category, kind) for category in CATEGORIES for kind in kinds(category)]


def test_the_page_is_up_to_date() -> None:
    assert build.render() == PAGE, "run python docs/build.py"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: f"line {e.line} {e.place}")
def test_every_example_compiles(example, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    if example.place.startswith("file="):
        return  # compiled by the example that includes it
    for other in EXAMPLES:
        if other.place.startswith("file="):
            path = tmp_path / other.place.removeprefix("file=")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(other.text, encoding="utf-8")
    main = tmp_path / "main.tower"
    main.write_text(build.embed(example), encoding="utf-8")
    report = check(main).report
    assert not report, "\n\n".join(render(d) for d in report.diagnostics)


def test_every_block_of_code_is_an_example() -> None:
    assert PAGE.count("```") == 2 * len(EXAMPLES)


@pytest.mark.parametrize(("category", "kind"), KINDS, ids=lambda x: x)
def test_every_kind_has_its_section(category: str, kind: str) -> None:
    start = PAGE.index(f"### {category} `{kind}`\n")
    section = PAGE[start : PAGE.find("\n## ", start)].split("\n### ")[0]
    cls = kinds(category)[kind]
    assert (cls.__doc__ or "").split("\n")[0].strip() in section
    assert cls.example in section
    assert re.search(rf"\b{kind}\b", cls.example)
    for name, field in cls.model_fields.items():
        assert field.description, f"{category} {kind}: the option {name} needs a description"
        # What all features have stands in one place.
        assert f"| `{name}` |" in (PAGE if name in ("on", "absent") else section)


@pytest.mark.parametrize("name", ["table", "surface", "tower", "train"])
def test_every_option_of_a_block_is_there(name: str) -> None:
    cls: type[Kind] = kinds("block")[name]
    section = PAGE[PAGE.index(f"\n## {name}\n") :].split("\n## ")[1]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == set(cls.model_fields)


def test_every_link_leads_somewhere() -> None:
    titles = re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= anchors


def test_the_words_of_the_language_are_all_there() -> None:
    sentence = PAGE[PAGE.index("These words of the language can't be names:") :].split(".")[0]
    assert tuple(re.findall(r"`(\w+)`", sentence)) == KEYWORDS


def test_parameters_have_the_names_that_the_page_says(tmp_path: Path) -> None:
    (tmp_path / "main.tower").write_text(EXAMPLES[0].text, encoding="utf-8")
    _, graph = check(tmp_path / "main.tower").sound()
    table = PAGE[PAGE.index("## Names of parameters") : PAGE.index("## Limits")]
    named = re.findall(r"^\| `([\w.]+)` \|", table, re.MULTILINE)
    assert len(named) > 8
    assert set(named) <= {param.path for _, param in graph.params}


def test_the_generators_own_examples() -> None:
    assert doctest.testmod(build).failed == 0
