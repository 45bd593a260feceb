"""How wide a text is, without a font at hand, and what to do where it is too wide."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

# Advances of ASCII 32 to 126 in hundredths of an em, in DejaVu Sans: the widest of the common interface fonts, so that
# a text which fits by this table fits in all of them.
_ADVANCE = [
    *(32, 40, 46, 84, 64, 95, 78, 28, 39, 39, 50, 84, 32, 36, 32, 34, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 34, 34),
    *(84, 84, 84, 53, 100, 68, 69, 70, 77, 63, 58, 77, 75, 29, 29, 66, 56, 86, 75, 79, 60, 79, 69, 63, 61, 73, 68, 99),
    *(69, 61, 69, 39, 34, 39, 84, 50, 50, 61, 63, 55, 63, 62, 35, 63, 63, 28, 28, 58, 28, 97, 63, 61, 63, 63, 41, 52),
    *(39, 63, 59, 82, 59, 59, 52, 64, 34, 64, 84),
]
BOLD = 1.14  # how much wider a bold letter is at most, but for the few narrowest


def width(text: str, size: float, bold: bool = False) -> float:
    """The width of a text in pixels, rather too much than too little.

    >>> width("mmmm", 10) > width("iiii", 10)
    True
    """
    return sum(_advance(c) for c in text) * size / 100 * (BOLD if bold else 1)


def _advance(char: str) -> int:
    if " " <= char <= "~":
        return _ADVANCE[ord(char) - 32]
    if unicodedata.combining(char):
        return 0
    if char == "·":
        return 32
    return 70 if char.isalpha() and unicodedata.east_asian_width(char) not in "WF" and ord(char) < 0x500 else 105


def fit(text: str, room: float, size: float, bold: bool = False) -> str:
    """The text, cut with an ellipsis where it is wider than the room.

    >>> fit("click", 100, 12), fit("a_very_long_name", 60, 12)
    ('click', 'a_very_…')
    """
    if width(text, size, bold) <= room:
        return text
    while text and width(text + "…", size, bold) > room:
        text = text[:-1]
    return text.rstrip() + "…"


def fit_options(text: str, room: float, size: float) -> str:
    """As `fit`, but a list of options is cut between two of them.

    >>> fit_options("mlp · hidden 128, 64 · dropout 0.1", 160, 11)
    'mlp · hidden 128, 64 · …'
    """
    parts = text.split(" · ")
    while len(parts) > 1 and width(text, size) > room:
        parts.pop()
        text = " · ".join([*parts, "…"])
    return fit(text, room, size)


def wrap(words: Iterable[str], room: float, size: float, gap: float, bold: bool = False) -> list[list[str]]:
    """Words in lines that fit the room, `gap` apart; a word that fits no line is cut.

    >>> wrap(["user", "country", "device"], 100, 12, 8)
    [['user', 'country'], ['device']]
    """
    lines: list[list[str]] = []
    left = 0.0
    for word in words:
        word = fit(word, room, size, bold)
        wide = width(word, size, bold)
        if not lines or left + gap + wide > room:
            lines.append([word])
            left = wide
        else:
            lines[-1].append(word)
            left += gap + wide
    return lines
