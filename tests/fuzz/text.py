"""How generated specs are written: values as text, blocks of lines, and constants that stand for values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.fuzz.draw import Draw
from tests.fuzz.names import LANGUAGE, Names

Block = list[str]  # lines, one statement each


def quoted(text: str) -> str:
    """A text in quotes."""
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"}
    return '"' + "".join(escapes.get(c, c) for c in text) + '"'


def is_word(text: str) -> bool:
    """Whether a text can stand without quotes."""
    return text.isidentifier() and text.isascii() and text not in LANGUAGE and not text.startswith("_")


def indented(lines: Block) -> Block:
    return [f"  {line}" for line in lines]


def braced(head: str, lines: Block) -> Block:
    """A block under its head, one statement a line."""
    return [f"{head} {{", *indented(lines), "}"]


@dataclass
class Literals:
    """Writes values, now and then as a constant, or as a parameter of the template that is being written."""

    draw: Draw
    names: Names
    constants: bool
    declared: Block = field(default_factory=list)
    params: dict[str, str] | None = None  # of a template, while one is written: the value of each by name

    def text(self, value: Any) -> str:
        """A value as it stands in a spec."""
        plain = self._plain(value)
        if self.params is not None and self.draw.chance(0.2) and not isinstance(value, str):
            name = self.names.fresh("parameter")
            self.params[name] = plain
            return name
        if self.constants and self.draw.chance(0.12):
            name = self.names.fresh("constant")
            self.declared.append(f"const {name} = {plain}")
            return name
        return plain

    def _plain(self, value: Any) -> str:
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, (tuple, list)):
            return f"[{', '.join(self._item(item) for item in value)}]"
        if isinstance(value, str):
            return value if is_word(value) and self.draw.chance(0.9) else quoted(value)
        if isinstance(value, int) and value > 999 and self.draw.chance(0.5):
            return f"{value:_}"
        return repr(value)

    def _item(self, value: Any) -> str:
        return self.text(value) if self.params is None else self._plain(value)

    def options(self, found: Mapping[str, Any]) -> list[str]:
        """`name: value` of each option, in any order."""
        texts = [f"{name}: {self._option(name, value)}" for name, value in found.items()]
        self.draw.shuffle(texts)
        return texts

    def _option(self, name: str, value: Any) -> str:
        # The name of a table or a surface is a word, never a text.
        return value if name in ("table", "of") else self.text(value)

    def braces(self, found: Mapping[str, Any], empty: str = "") -> str:
        """The options in braces."""
        return f" {{ {', '.join(self.options(found))} }}" if found else empty
