"""How large a card is, and where its words stand on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from towerspec.graph.diagram import Edge, Node
from towerspec.graph.scene import Box, Card
from towerspec.graph.text import fit, fit_options, width, wrap

SPINE = 158.0  # the width of every card on a tower's spine
PAD = 12.0
TITLE, DETAIL, LABEL = 13.0, 11.0, 10.5
CHIP, CHIP_GAP, CHIP_PAD = 22.0, 6.0, 8.0
ROWS = 4  # rows of features on a card before the rest is counted
STRIP = 23.0  # a head's calibration
TAG = 17.0
PLUS = 24.0  # the sign of a fusion
DOT, DOTS = 11.0, 8  # the distance of the dots for surfaces, and how many there are at most


@dataclass(frozen=True)
class Words:
    """A text at its place: `anchor` says which end of it is at x, and `room` how wide it may be."""

    x: float
    y: float
    text: str
    size: float
    room: float
    bold: bool = False
    muted: bool = False
    anchor: str = "start"


@dataclass(frozen=True)
class Chip:
    """One feature's name on its card; `on` holds the surfaces that have it where not all do."""

    box: Box
    words: Words
    on: tuple[str, ...]
    tip: str


def size(node: Node) -> tuple[float, float]:
    """The least width and height of a card.

    >>> size(Node("t", "layer", "mixed", "concat"))
    (132.0, 48.0)
    """
    title = width(node.title, TITLE, True)
    detail = width(node.detail, DETAIL)
    if node.role == "features":
        return _features_size(node)
    if node.role == "join":
        return title + (detail + 8 if detail else 0) + 2 * PAD + 4, 28.0
    if node.role == "tap":
        return max(title * 11 / TITLE, width(node.detail, 10)) + 2 * PAD, 36.0
    if node.role == "arm":
        return min(title + 2 * PAD, SPINE), 26.0
    if node.role == "head":
        return max(SPINE, _head_width(node)), 32.0 + (STRIP if node.calibration else 0)
    if node.role == "dense":
        return SPINE, 32.0
    if node.role == "branch":
        return min(max(SPINE, title + 2 * PAD), 230.0), 32.0
    if node.role == "layer" and not node.detail:
        return min(max(title + dots_width(node) * 2, 84) + 2 * PAD, 230.0), 32.0
    if node.role == "fusion":
        return min(max(SPINE, detail + 2 * PAD + PLUS), 210.0), 48.0
    return min(max(title + dots_width(node), detail, 108) + 2 * PAD, 230.0), 48.0


def _head_width(node: Node) -> float:
    first = width(node.title, TITLE, True) + 12 + width(node.detail, DETAIL)
    return min(max(first, width(node.calibration, DETAIL) + 14) + 2 * PAD, 270.0)


# ---- features ----------------------------------------------------------------------------------


def _features_size(node: Node) -> tuple[float, float]:
    chips = [_chip_width(i.name) + CHIP_GAP for i in node.items]
    area = sum(chips) * 1.08
    wide = min(max(area / 3, max(chips), width(node.title, TITLE, True)), 480.0, max(area, 120.0))
    wide = max(wide, width(node.title, TITLE, True)) + 2 * PAD
    return wide, features_height(node, wide)


def features_height(node: Node, wide: float) -> float:
    """How high a card of features is that has a given width."""
    return 34 + len(_chip_rows(node, wide)) * (CHIP + CHIP_GAP) + 4


def _chip_width(name: str) -> float:
    return width(name, DETAIL) + 2 * CHIP_PAD


def _chip_rows(node: Node, wide: float) -> list[list[str]]:
    """The names in rows; those past the last row are one `+ n more`."""
    shown, room = list(node.items), wide - 2 * PAD - 2 * CHIP_PAD
    rows = wrap([i.name for i in shown], room, DETAIL, CHIP_GAP + 2 * CHIP_PAD)
    while len(rows) > ROWS and len(shown) > 1:
        plain = [i for i in shown if not (i.named or i.on)]
        shown.remove((plain or shown)[-1])
        rest = f"+ {len(node.items) - len(shown)} more"
        rows = wrap([*(i.name for i in shown), rest], room, DETAIL, CHIP_GAP + 2 * CHIP_PAD)
    return rows


def chips(card: Card) -> list[Chip]:
    """The features on a card, each at its place."""
    found: list[Chip] = []
    rest = list(card.node.items)
    y = card.box.y + 32
    for row in _chip_rows(card.node, card.box.w):
        x = card.box.x + PAD
        for name in row:
            wide = _chip_width(name)
            item = next((i for i in rest if i.name == name or name.endswith("…")), None)
            words = Words(x + CHIP_PAD, y + 15, name, DETAIL, wide - CHIP_PAD, muted=item is None)
            tip = f"{item.name}: {item.note}" if item else ", ".join(i.name for i in rest)
            if item:
                rest.remove(item)
            found.append(Chip(Box(x, y, wide, CHIP), words, item.on if item else (), tip))
            x += wide + CHIP_GAP
        y += CHIP + CHIP_GAP
    return found


# ---- words -------------------------------------------------------------------------------------


def words(card: Card) -> list[Words]:
    """The texts on a card, cut to fit."""
    box, node = card.box, card.node
    if node.role == "features":
        return [_line(box, node.title, 21, TITLE, bold=True)]
    if node.role in ("dense", "join") or (node.role == "layer" and not node.detail):
        return _one_line(box, node)
    if node.role in ("branch", "arm"):
        return [_line(box, node.title, box.h / 2 + 4.5, 12, bold=True, anchor="middle")]
    if node.role == "tap":
        return [
            _line(box, node.title, 15, 11, bold=True, anchor="middle"),
            _line(box, node.detail, 28, 10, muted=True, anchor="middle"),
        ]
    if node.role == "head":
        return _head(box, node)
    plus = PLUS if node.role == "fusion" else 0
    title = _line(box, node.title, 20, TITLE, bold=True, less=dots_width(node) + plus)
    return [title, _line(box, node.detail, 37, DETAIL, muted=True, less=plus)]


def _line(
    box: Box,
    text: str,
    y: float,
    size: float,
    bold: bool = False,
    muted: bool = False,
    anchor: str = "start",
    less: float = 0,
) -> Words:
    room = box.w - 2 * (PAD - 2) - less
    x = {"start": box.x + PAD, "middle": box.cx, "end": box.right - PAD}[anchor]
    text = fit_options(text, room, size) if muted else fit(text, room, size, bold)
    return Words(x, box.y + y, text, size, room, bold, muted, anchor)


def _one_line(box: Box, node: Node) -> list[Words]:
    """The title, and beside it what else there is to say, together in the middle."""
    room = box.w - 2 * PAD
    title = fit(node.title, room, TITLE, True)
    first = width(title, TITLE, True)
    detail = fit(node.detail, room - first - 8, DETAIL) if node.detail and room - first > 24 else ""
    whole = first + (8 + width(detail, DETAIL) if detail else 0)
    x, y = box.cx - whole / 2, box.cy + 4.5
    found = [Words(x, y, title, TITLE, first, bold=True)]
    return [*found, Words(x + first + 8, y, detail, DETAIL, room - first, muted=True)] if detail else found


def _head(box: Box, node: Node) -> list[Words]:
    kind_room = min(width(node.detail, DETAIL) + 8, (box.w - 2 * PAD) / 2)
    title = _line(box, node.title, 21, TITLE, bold=True, less=kind_room)
    room = box.w - 2 * PAD - width(title.text, TITLE, True) - 8
    kind = Words(box.right - PAD, box.y + 21, fit(node.detail, room, DETAIL), DETAIL, room, muted=True, anchor="end")
    if not node.calibration:
        return [title, kind]
    room = box.w - 2 * PAD - 14
    strip = Words(box.x + PAD + 14, box.bottom - 7.5, fit(node.calibration, room, DETAIL), DETAIL, room)
    return [title, kind, strip]


def dots_width(node: Node) -> float:
    """The room of the dots that say which surfaces have parameters of their own here."""
    return min(len(node.owners), DOTS) * DOT + 8 if node.owners else 0.0


def tag_width(label: str) -> float:
    return width(label, LABEL) + 14


def ports(edges: Sequence[Edge]) -> list[Edge]:
    """One edge for each different value among those that leave a card."""
    return list({(e.name, e.flow): e for e in edges}.values())
