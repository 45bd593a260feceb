"""Builds `language.md` from `language.in.md` and the registry of kinds; `--check` only says whether it is up to date.

An example in the text is a fenced block of the language `tower`, with a word that says where it stands: `spec` a whole
file, `file=PATH` one that another includes, and `top`, `features`, `trunk`, `surface`, `tower` a part of one. `embed`
puts a part into the smallest whole spec around it, so that the tests can check them all.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

sys.path.insert(0, str(Path(__file__).parent.parent))  # the checkout's own kinds, whatever is installed

from towerspec.layers.base import Kind, kinds, signature
from towerspec.layers.blocks import Surface, Table, Tower, Train
from towerspec.layers.calibrators import Calibrator
from towerspec.layers.features import Feature
from towerspec.layers.heads import Head

HERE = Path(__file__).parent
SOURCE, TARGET = HERE / "language.in.md", HERE / "language.md"
PLACES = {"feature": "features", "layer": "trunk", "fusion": "tower", "head": "tower", "calibrator": "surface"}
BLOCKS: dict[str, type[Kind]] = {"table": Table, "surface": Surface, "tower": Tower, "train": Train}
INPUTS = {"Value": ("a vector", "vectors"), "Sequence": ("a sequence", "sequences"),
          "Union": ("a vector or a sequence", "vectors or sequences")}  # fmt: skip


# ---- what the registry says ------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One option of a kind."""

    name: str
    type: str
    default: str
    description: str


@dataclass(frozen=True)
class Entry:
    """One kind, in words."""

    category: str
    name: str
    text: str
    rows: list[Row]
    inputs: str
    fits: list[str]
    place: str
    example: str


def entries(category: str) -> list[Entry]:
    """The built-in kinds of a category, by name."""
    found = [cls for cls in kinds(category).values() if cls.__module__.startswith("towerspec.")]
    return [_entry(category, cls) for cls in found]


def _entry(category: str, cls: type[Kind]) -> Entry:
    fits = sorted(cls.fits) if issubclass(cls, Calibrator) else []
    inputs = _inputs(cls) if category == "layer" else ""
    return Entry(
        category,
        cls.kind,
        inspect.cleandoc(cls.__doc__ or ""),
        options(cls),
        inputs,
        fits,
        PLACES[category],
        cls.example,
    )


def _inputs(cls: type[Kind]) -> str:
    words = []
    for name, type_, many in signature(cls):
        one, several = INPUTS["Union" if type_ == "Tensor" else type_]
        words.append(f"any number of {several} `{name}`" if many else f"{one} `{name}`")
    return ", then ".join(words)


def options(cls: type[Kind]) -> list[Row]:
    """A kind's options: its own first, then those that all of its category have."""
    shared = {
        name for base in (Feature, Head) if cls is not base and issubclass(cls, base) for name in base.model_fields
    }
    schema = cls.model_json_schema()
    rows = [_row(cls, name, schema["properties"][name]) for name in cls.model_fields]
    return sorted(rows, key=lambda row: row.name in shared)


def _row(cls: type[Kind], name: str, schema: dict[str, Any]) -> Row:
    field = cls.model_fields[name]
    default = "required" if field.is_required() else "" if field.default is None else f"`{literal(field.default)}`"
    return Row(name, words(schema), default, (field.description or "").replace("|", r"\|"))


def literal(value: Any) -> str:
    """A value as the language writes it.

    >>> literal((80, 40)), literal(True), literal(10_000), literal("mean")
    ('[80, 40]', 'true', '10_000', 'mean')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, int):
        return f"2^{value.bit_length() - 1}" if value > 2**30 else f"{value:_}"
    return str(value)


def words(schema: dict[str, Any], plural: bool = False) -> str:
    """A JSON schema's type in the reader's words.

    >>> words({"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 9}, "minItems": 1})
    'list of whole numbers from 1 to 9, not empty'
    """
    if "anyOf" in schema:
        return " or ".join(words(part, plural) for part in schema["anyOf"] if part.get("type") != "null")
    if "enum" in schema:
        return ", ".join(f"`{choice}`" for choice in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if schema["type"] == "array":
        return _list(schema)
    if schema["type"] == "boolean":
        return "`true`, `false`"
    word = {"integer": "whole number", "number": "number", "string": "word"}[schema["type"]]
    return word + ("s" if plural else "") + _bounds(schema)


def _list(schema: dict[str, Any]) -> str:
    if "prefixItems" in schema:
        return f"list of {len(schema['prefixItems'])} {words(schema['prefixItems'][0], plural=True)}"
    return f"list of {words(schema['items'], plural=True)}" + (", not empty" if schema.get("minItems") else "")


def _bounds(schema: dict[str, Any]) -> str:
    if "minimum" in schema and "maximum" in schema:
        return f" from {literal(schema['minimum'])} to {literal(schema['maximum'])}"
    sides = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    found = [f"{side} {schema[key]:g}" for key, side in sides.items() if key in schema]
    return f" {' and '.join(found)}" if found else ""


# ---- the page --------------------------------------------------------------------------------------


def render() -> str:
    """The page as the registry would have it now."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip
    blocks = {name: options(cls) for name, cls in BLOCKS.items()}
    page = env.get_template(SOURCE.name).render(entries=entries, blocks=blocks, shared=options(Feature))
    return re.sub(r"\n{3,}", "\n\n", page)


# ---- its examples ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Example:
    """One block of the page: where it stands, and on which line."""

    place: str
    text: str
    line: int


def examples(page: str) -> Iterator[Example]:
    """The page's blocks in the language."""
    for match in re.finditer(r"^```tower(?: (\S+))?\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        yield Example(match[1] or "spec", match[2], page[: match.start()].count("\n") + 1)


def embed(example: Example) -> str:
    """The example as a whole spec."""
    if example.place == "spec" or example.place.startswith("file="):
        return example.text
    return _around_top(example.text) if example.place == "top" else _around(example.place, example.text)


def _around_top(text: str) -> str:
    parts = {
        "model": "model example",
        "request": "request { country : category { rows: 256 } }",
        "candidate": "candidate { item : category { rows: 100 } }",
        "trunk": "trunk { mixed = concat(request, candidate) }",
        "surface": "surface search { tower { layers: [16]  head click : binary } }",
    }
    missing = [part for word, part in parts.items() if not re.search(rf"^{word}\b", text, re.MULTILINE)]
    # The model's name comes first; where it is missing it is the first part of all.
    return "\n".join([*missing, text] if missing[:1] == ["model example"] else [text, *missing])


def _around(place: str, text: str) -> str:
    sequences = re.findall(r"^(\w+)\s*: sequence", text, re.MULTILINE) if place == "features" else []
    made = re.findall(r"^(\w+)\s*=", text, re.MULTILINE) if place == "trunk" else []
    whole = place == "surface" and re.search(r"^tower", text, re.MULTILINE)
    inner = textwrap.indent(text, "  ")  # at the margin, `request` would begin a declaration
    return f"""model example
request {{
  layout  : category {{ values: [grid, closeup], dim: 16 }}
  history : sequence {{ rows: 100, dim: 16, length: 5 }}
}}
request {{
{inner if place == "features" else ""}}}
candidate {{ item : category {{ rows: 100, dim: 16 }} }}
trunk {{
  x = linear(candidate, width: 16)
  z = linear(request, width: 16)
  s = history
{inner if place == "trunk" else ""}
  all = concat({", ".join(["x", "z", *(f"pooling({name})" for name in ["s", *sequences]), *made])})
}}
surface search {{
{inner if place == "surface" else ""}
{"" if whole else _tower(text if place == "tower" else "")}}}
surface home_feed {{ tower {{ head click : binary }} }}
"""


def _tower(text: str) -> str:
    """A tower with these lines, and with layers and heads where they have none."""
    if not re.search(r"^layers:", text, re.MULTILINE):
        text = f"layers: [16, 16]\n{text}"
    wanted = [name for group in re.findall(r"product\(([^)]*)\)", text) for name in re.findall(r"\w+", group)]
    if not re.search(r"^(head|branch)", text, re.MULTILINE):
        wanted.append("click")
    text += "".join(f"head {name} : binary\n" for name in wanted if not re.search(rf"head {name}\b", text))
    return f"  tower {{\n{textwrap.indent(text, '    ')}  }}\n"


def main(arguments: list[str]) -> int:
    page = render()
    if arguments == ["--check"]:
        fresh = TARGET.is_file() and TARGET.read_text(encoding="utf-8") == page
        if not fresh:
            print(f"{TARGET} is out of date; run python docs/build.py", file=sys.stderr)
        return 0 if fresh else 1
    if arguments:
        print(__doc__, file=sys.stderr)
        return 2
    TARGET.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
