"""What a picture of a spec shows: cards, the values that flow between them, and each surface's lane.

Nothing here knows of pixels or of a file format; every renderer reads this and nothing else.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

from towerspec.ir.types import Level

# A `tap` stands, in a lane, for a value from elsewhere, so that no line has to cross the picture.
Role = Literal["features", "layer", "join", "dense", "fusion", "branch", "arm", "head", "tap"]


@dataclass(frozen=True)
class Flow:
    """What an edge carries: a value's level and its shape per row.

    >>> Flow(Level.CANDIDATE, (1041,)).label
    'candidate · 1,041'
    >>> Flow(Level.REQUEST, (50, 32)).dims
    '50 × 32'
    """

    level: Level
    shape: tuple[int, ...]

    @property
    def dims(self) -> str:
        return " × ".join(f"{n:,}" for n in self.shape or (1,))

    @property
    def label(self) -> str:
        return f"{self.level.word} · {self.dims}"


@dataclass(frozen=True)
class Item:
    """One feature on a card: its name, its kind in words, the surfaces that have it where not all do, and whether
    something reads it by its name."""

    name: str
    note: str
    on: tuple[str, ...] = ()
    named: bool = False


@dataclass(frozen=True)
class Node:
    """A card. `id` is its key in the spec, `lane` the surface whose own it is, `owners` the surfaces that have
    parameters of their own in a shared card, and `calibration` what a head's logit is calibrated with."""

    id: str
    role: Role
    title: str
    detail: str = ""
    lane: str | None = None
    level: Level | None = None
    items: tuple[Item, ...] = ()
    owners: tuple[str, ...] = ()
    calibration: str = ""

    @property
    def text(self) -> str:
        """All that the card says, on one line, for a tooltip."""
        words = [self.title, self.detail, self.calibration, *(f"{i.name} ({i.note})" for i in self.items)]
        return ", ".join(word for word in words if word)


@dataclass(frozen=True)
class Edge:
    """A value that goes from one card to another; `name` says which feature of a card it is, if not all of it."""

    source: str
    target: str
    flow: Flow
    name: str = ""

    @property
    def label(self) -> str:
        """The words beside the edge.

        >>> Edge("request", "trunk.t", Flow(Level.REQUEST, (50, 32)), "history").label
        'history · 50 × 32'
        """
        return f"{self.name} · {self.flow.dims}" if self.name else self.flow.label


@dataclass(frozen=True)
class Path:
    """A tower or an arm of one: its cards in the order of the flow, then its heads, then the arms of its branch."""

    spine: tuple[str, ...]
    heads: tuple[str, ...]
    arms: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Lane:
    """One surface, or several of exactly the same shape: what is their own, and their tower."""

    names: tuple[str, ...]
    note: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    path: Path
    start: str  # what the tower starts from


@dataclass(frozen=True)
class Diagram:
    """A whole picture: shared cards and edges, and the lanes above them."""

    model: str
    summary: str
    nodes: tuple[Node, ...]  # the shared ones
    edges: tuple[Edge, ...]
    lanes: tuple[Lane, ...]

    @functools.cached_property
    def by_id(self) -> dict[str, Node]:
        """All cards by id."""
        return {n.id: n for n in (*self.nodes, *(n for lane in self.lanes for n in lane.nodes))}

    @property
    def all_edges(self) -> tuple[Edge, ...]:
        """The shared edges, then those of each lane."""
        return (*self.edges, *(e for lane in self.lanes for e in lane.edges))
