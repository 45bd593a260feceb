"""What a layout makes: boxes, wires and words at their places, in pixels, y downwards."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from towerspec.graph.diagram import Node

Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """A rectangle.

    >>> Box(0, 0, 10, 10).overlaps(Box(5, 5, 10, 10)), Box(0, 0, 10, 10).holds(Box(5, 5, 10, 10))
    (True, False)
    """

    x: float
    y: float
    w: float
    h: float

    @property
    def right(self) -> float:
        return self.x + self.w

    @property
    def bottom(self) -> float:
        return self.y + self.h

    @property
    def cx(self) -> float:
        return self.x + self.w / 2

    @property
    def cy(self) -> float:
        return self.y + self.h / 2

    def overlaps(self, other: Box) -> bool:
        return self.x < other.right and other.x < self.right and self.y < other.bottom and other.y < self.bottom

    def holds(self, other: Box) -> bool:
        return self.x <= other.x and other.right <= self.right and self.y <= other.y and other.bottom <= self.bottom

    def moved(self, dx: float, dy: float) -> Box:
        return replace(self, x=self.x + dx, y=self.y + dy)


@dataclass(frozen=True)
class Card:
    """A node at its place; `tone` is the number of the lane's colour, none for what is shared."""

    box: Box
    node: Node
    tone: int | None = None

    def moved(self, dx: float, dy: float) -> Card:
        return replace(self, box=self.box.moved(dx, dy))


@dataclass(frozen=True)
class Wire:
    """A line through points: straight with rounded corners, or curved between each two where `curved` is set."""

    points: tuple[Point, ...]
    dashed: bool = False
    tone: int | None = None
    arrow: bool = True
    curved: bool = False
    tip: str = ""

    def moved(self, dx: float, dy: float) -> Wire:
        return replace(self, points=tuple((x + dx, y + dy) for x, y in self.points))


@dataclass(frozen=True)
class Tag:
    """A small label on a wire."""

    box: Box
    text: str
    tone: int | None = None

    def moved(self, dx: float, dy: float) -> Tag:
        return replace(self, box=self.box.moved(dx, dy))


@dataclass(frozen=True)
class Band:
    """A coloured area with a heading: the trunk, the features, or a surface's lane."""

    box: Box
    heading: tuple[str, ...]
    note: str = ""
    tone: int | None = None
    tip: str = ""

    def moved(self, dx: float, dy: float) -> Band:
        return replace(self, box=self.box.moved(dx, dy))


@dataclass
class Scene:
    """All that is drawn, back to front, and how large it is."""

    bands: list[Band] = field(default_factory=list)
    wires: list[Wire] = field(default_factory=list)
    tags: list[Tag] = field(default_factory=list)
    cards: list[Card] = field(default_factory=list)
    width: float = 0
    height: float = 0

    def put(self, other: Scene, dx: float = 0, dy: float = 0, tone: int | None = None) -> None:
        """Draws another scene into this one; with a tone, in that colour where it has none."""

        def toned(part):  # type: ignore[no-untyped-def]
            moved = part.moved(dx, dy)
            return moved if tone is None or moved.tone is not None else replace(moved, tone=tone)

        self.bands += map(toned, other.bands)
        self.wires += map(toned, other.wires)
        self.tags += map(toned, other.tags)
        self.cards += (toned(c) if c.node.role != "tap" else c.moved(dx, dy) for c in other.cards)

    def boxes(self) -> Iterable[Box]:
        """The boxes of all cards, tags and bands."""
        return [*(b.box for b in self.bands), *(t.box for t in self.tags), *(c.box for c in self.cards)]
