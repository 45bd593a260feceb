"""Which known word a misspelt one stands for, if any."""

from __future__ import annotations

from collections.abc import Iterable

_MOST = 500  # known words that are looked at; where there are more, those that begin alike


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is a slip of the pen away, or that the word is the stem or a part of; none is too far.

    One slip in a word of three letters, two in one of five, three in one of nine: a letter wrong, left out, added,
    or two that changed places (Damerau 1964, doi:10.1145/363958.363994).

    >>> nearest("bianry", ["binary", "count"]), nearest("num_layers", ["layers", "rank"])
    ('binary', 'layers')
    >>> nearest("categorical", ["category"]), nearest("dot", ["dropout"]), nearest("max", ["sum", "mean"])
    ('category', None, None)
    """
    known = [other for other in known if other != word]
    if len(known) > _MOST:
        known = [other for other in known if other[:1] == word[:1]][:_MOST]
    folded = next((other for other in known if other.casefold() == word.casefold()), None)
    if folded or len(word) > 64:
        return folded
    slips = sum(len(word) > letters for letters in (2, 4, 8))
    close = {other: distance(word, other, slips) for other in known if abs(len(other) - len(word)) <= slips}
    best = min(close, key=close.__getitem__, default=None)
    return best if best is not None and close[best] <= slips else _kin(word, known)


def _kin(word: str, known: list[str]) -> str | None:
    """The known word with which a word shares a whole part, or all but the ending."""
    parts = {part for part in word.split("_") if len(part) > 3}
    for other in known if len(word) > 3 else []:
        if other[:3] == word[:3] and _stem(word, other) >= max(4, 0.6 * max(len(word), len(other))):
            return other
        if other in parts or word in other.split("_"):
            return other
    return None


def _stem(a: str, b: str) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def distance(a: str, b: str, most: int) -> int:
    """How many slips lead from one word to the other; more than `most` count as one more.

    >>> distance("gatd", "gate", 2), distance("mpl", "mlp", 2), distance("dot", "dropout", 2)
    (1, 1, 3)
    """
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, before, row = before, row, [i]
        for j, y in enumerate(b, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
        if min(row) > most:
            return most + 1
    return min(row[-1], most + 1)
