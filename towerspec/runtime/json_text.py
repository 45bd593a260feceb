"""JSON as RFC 8259 has it and nothing beyond it, with the errors of cpp/include/towerspec/json.hpp, byte for byte.

Python's own `json` also reads `NaN` and halves of surrogate pairs, takes the last of two members of one name, and has
other words in other versions of Python.
"""

from __future__ import annotations

import json
import math
import re
import sys
from typing import Any, NoReturn

DEEPEST = 64  # brackets, so that no input can exhaust the stack
_BLANKS = re.compile(r"[ \t\n\r]*")
_VALUE = re.compile(
    r'(?P<number>[-+.0-9][-+.0-9eE]*)|"(?P<plain>[^"\\\x00-\x1f]*)"|(?P<word>true|false|null)|(?P<mark>["[{])'
)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?P<real>(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)")
_ITEM = f"{_BLANKS.pattern}{_NUMBER.pattern.replace('?P<real>', '?:')}{_BLANKS.pattern}"
_NUMBERS = re.compile(rf"(?:{_ITEM},)*{_ITEM}\]")
_LETTERS = re.compile(r'[^"\\\x00-\x1f]*')
_HEX = re.compile(r"[0-9a-fA-F]{4}")
_WORDS = {"true": True, "false": False, "null": None}
_ESCAPES = dict(zip('"\\/bfnrt', '"\\/\b\f\n\r\t', strict=True))


class Malformed(ValueError):
    """Why a text is not JSON, and at which byte."""

    def __init__(self, why: str, at: int) -> None:
        super().__init__(f"{why} at byte {at}")


def parse(content: bytes) -> Any:
    """A text's one value; numbers that are written whole become `int`, others `float`. Raises `Malformed`.

    >>> parse(b'{"a": [1, 1.5, null]}')
    {'a': [1, 1.5, None]}
    """
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise Malformed("the text is not UTF-8", error.start) from None
    return _Reader(text).document()


class _Reader:
    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def document(self) -> Any:
        value = self.read(0)
        self.blanks()
        if self.at != len(self.text):
            self.fail("there is more after the value")
        return value

    def fail(self, why: str, at: int | None = None) -> NoReturn:
        raise Malformed(why, len(self.text[: self.at if at is None else at].encode()))

    def blanks(self) -> None:
        self.at = _BLANKS.match(self.text, self.at).end()  # type: ignore[union-attr]

    def take(self, mark: str) -> bool:
        found = self.text.startswith(mark, self.at)
        self.at += len(mark) * found
        return found

    def read(self, depth: int) -> Any:
        self.blanks()
        found = _VALUE.match(self.text, self.at)
        if found is None:
            self.fail("a value was expected")
        start, self.at = self.at, found.end()
        kind, text = found.lastgroup, found[found.lastgroup or 0]
        if kind == "number":
            return self.number(text, start)
        if kind == "plain":
            return text
        if kind == "word":
            return _WORDS[text]
        if text == '"':
            return self.string()
        if depth == DEEPEST:
            self.fail("brackets are nested too deeply", start)
        return self.array(depth + 1) if text == "[" else self.object(depth + 1)

    def number(self, text: str, start: int) -> int | float:
        found = _NUMBER.fullmatch(text)
        if found is None:
            self.fail("a number is not written as JSON has it", start)
        real = float(text)
        if math.isinf(real):
            self.fail("a number is too large", start)
        return real if found["real"] or text == "-0" else int(text)

    def array(self, depth: int) -> list[Any]:
        items: list[Any] = []
        self.blanks()
        if self.take("]") or self.take_numbers(items):
            return items
        while True:
            items.append(self.read(depth))
            self.blanks()
            if self.take("]"):
                return items
            if not self.take(","):
                self.fail("`,` or `]` was expected")

    def take_numbers(self, items: list[Any]) -> bool:
        """Whether all that is left of an array is numbers; they are taken at once, by a faster reader."""
        found = _NUMBERS.match(self.text, self.at)
        if found is None or "-0" in found[0]:  # a nought's sign is kept only in a float
            return False
        try:
            numbers = json.loads(f"[{found[0]}")
        except ValueError:  # one of thousands of digits
            return False
        if max(numbers) > sys.float_info.max or min(numbers) < -sys.float_info.max:
            return False
        items += numbers
        self.at = found.end()
        return True

    def object(self, depth: int) -> dict[str, Any]:
        members: dict[str, Any] = {}
        self.blanks()
        if self.take("}"):
            return members
        while True:
            self.blanks()
            start = self.at
            if not self.take('"'):
                self.fail("a name was expected")
            name = self.string()
            if name in members:
                self.fail("a name is there twice", start)
            self.blanks()
            if not self.take(":"):
                self.fail("`:` was expected")
            members[name] = self.read(depth)
            self.blanks()
            if self.take("}"):
                return members
            if not self.take(","):
                self.fail("`,` or `}` was expected")

    def string(self) -> str:
        """The rest of a text whose quote is taken."""
        parts = []
        while True:
            found = _LETTERS.match(self.text, self.at)
            parts.append(found[0])  # type: ignore[index]
            self.at = found.end()  # type: ignore[union-attr]
            if self.take('"'):
                return "".join(parts)
            if self.at == len(self.text):
                self.fail("a text is not closed")
            if self.text[self.at] != "\\":
                self.fail("a control character stands in a text")
            parts.append(self.escape())

    def escape(self) -> str:
        start = self.at
        letter = self.text[start + 1 : start + 2]
        self.at += 2
        if letter in _ESCAPES:
            return _ESCAPES[letter]
        if letter != "u":
            self.fail("an escape is unknown", start)
        point = self.hex(start)
        if 0xD800 <= point < 0xDC00 and self.text.startswith("\\u", self.at):
            second = self.at
            self.at += 2
            low = self.hex(second)
            if not 0xDC00 <= low <= 0xDFFF:
                self.fail("half of a surrogate pair stands alone", start)
            point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00)
        if 0xD800 <= point <= 0xDFFF:
            self.fail("half of a surrogate pair stands alone", start)
        return chr(point)

    def hex(self, start: int) -> int:
        found = _HEX.match(self.text, self.at)
        if found is None:
            self.fail("four hexadecimal digits were expected", start)
        self.at += 4
        return int(found[0], 16)
