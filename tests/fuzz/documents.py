"""Ways to spoil a JSON document, such as a manifest."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator
from random import Random
from typing import Any

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
