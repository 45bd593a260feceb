"""A layered drawing of a small graph, the flow from the bottom up: the trunk, or the modules of a surface.

Sugiyama, Tagawa & Toda 1981: a rank for each card, a place-holder in each rank that an edge passes, an order that
crosses few edges, then places. It is small because the graphs are: tens of cards at most.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from towerspec.graph.cards import TAG, features_height, ports, size, tag_width
from towerspec.graph.diagram import Edge, Node
from towerspec.graph.scene import Box, Card, Point, Scene, Tag, Wire
from towerspec.graph.spread import spread
from towerspec.ir.types import Level

STRAIGHT = 5  # how much more than past cards a line wants to be straight between cards
GAP = 22.0  # between cards of a rank
LABELS = 24.0  # above each card, where its labels are
CURVES = 26.0  # above that, where edges turn; more where they go far to a side
SWEEPS = 12


@dataclass
class Layered:
    """The drawing, its bottom at y = 0 and its left at x = 0, and where each edge to the outside leaves its top."""

    scene: Scene
    exits: dict[str, Point]
    top: float


def arrange(nodes: Sequence[Node], edges: Sequence[Edge], exits: Sequence[Edge], pinned: bool) -> Layered:
    """Draws cards and the edges between them; `exits` are edges whose target is outside, in order from the left.

    Feature cards are all in the lowest rank where `pinned` is set.
    """
    return _Drawing(nodes, [*edges, *exits], {e.target for e in exits}, pinned).draw()


@dataclass
class _Vertex:
    """A card, a place-holder, or an exit."""

    w: float
    h: float
    rank: int
    x: float = 0
    y: float = 0
    below: list[str] = field(default_factory=list)
    above: list[str] = field(default_factory=list)


class _Drawing:
    def __init__(self, nodes: Sequence[Node], edges: list[Edge], exits: set[str], pinned: bool) -> None:
        self.nodes, self.edges, self.exits, self.pinned = nodes, edges, exits, pinned
        self.leaving = {n.id: [e for e in edges if e.source == n.id] for n in nodes}
        ranks = self._ranks()
        self.at: dict[str, _Vertex] = {}
        for node in nodes:
            w, h = size(node)
            labels = [tag_width(e.label) + 8 for e in ports(self.leaving[node.id])] if node.role != "tap" else []
            w = max(w, sum(labels))
            h = features_height(node, w) if node.role == "features" else h
            self.at[node.id] = _Vertex(w, h, ranks[node.id])
        self.at.update({e: _Vertex(14, 0, ranks[e]) for e in sorted(exits)})
        self.chains = [self._chain(index, e) for index, e in enumerate(edges)]
        self.rows = self._rows()

    def _ranks(self) -> dict[str, int]:
        """The longest way from the bottom; a card that reads nothing stands right below its first reader."""
        ranks = {n.id: 0 for n in self.nodes} | dict.fromkeys(self.exits, 0)
        for _ in range(len(ranks)):
            for e in self.edges:
                ranks[e.target] = max(ranks[e.target], ranks[e.source] + 1)
        top = max([0, *(ranks[e.source] for e in self.edges), *(ranks[n.id] for n in self.nodes)]) + 1
        ranks.update(dict.fromkeys(self.exits, top))
        reads = {e.target for e in self.edges}
        for node in self.nodes:
            if node.id not in reads and self.leaving[node.id] and not (self.pinned and node.role == "features"):
                ranks[node.id] = min(ranks[e.target] for e in self.leaving[node.id]) - 1
        return ranks

    def _chain(self, index: int, edge: Edge) -> list[str]:
        """An edge's vertices, with a place-holder in each rank between its ends."""
        between = []
        for rank in range(self.at[edge.source].rank + 1, self.at[edge.target].rank):
            between.append(f"{index}/{rank}")
            self.at[between[-1]] = _Vertex(16, 0, rank)
        chain = [edge.source, *between, edge.target]
        for below, above in itertools.pairwise(chain):
            self.at[below].above.append(above)
            self.at[above].below.append(below)
        return chain

    # ---- places ------------------------------------------------------------------------------

    def _rows(self) -> list[list[str]]:
        rows: list[list[str]] = [[] for _ in range(max((v.rank for v in self.at.values()), default=0) + 1)]
        for key, vertex in self.at.items():
            rows[vertex.rank].append(key)
        for row in rows:
            self._place(row, [float(i) for i in range(len(row))])
        for sweep in range(2 * SWEEPS):  # the last one goes upwards, so that a chain of cards stands straight
            up = sweep % 2 == 1
            for row in rows if up else rows[::-1]:
                wanted = {key: self._wanted(key, up) for key in row}
                if sweep < SWEEPS and not self.exits.issuperset(row):  # exits keep the order that they came in
                    row.sort(key=wanted.__getitem__)
                self._place(row, [wanted[key] for key in row])
        return rows

    def _wanted(self, key: str, up: bool) -> float:
        vertex = self.at[key]
        near = (vertex.below or vertex.above) if up else (vertex.above or vertex.below)
        weights = [STRAIGHT if n in self.leaving and key in self.leaving else 1 for n in near]
        return sum(self.at[n].x * w for n, w in zip(near, weights, strict=True)) / sum(weights) if near else vertex.x

    def _place(self, row: list[str], wanted: list[float]) -> None:
        for key, x in zip(row, spread(wanted, [self.at[k].w for k in row], GAP), strict=True):
            self.at[key].x = x

    # ---- drawing -----------------------------------------------------------------------------

    def draw(self) -> Layered:
        left = min((v.x - v.w / 2 for v in self.at.values()), default=0)
        right = max((v.x + v.w / 2 for v in self.at.values()), default=0)
        y, top, features = 0.0, 0.0, {n.id for n in self.nodes if n.role == "features"}
        for row in self.rows:
            high = max(self.at[k].h for k in row)
            for key in row:
                self.at[key].y = y - high / 2  # the middle
                if "/" in key or key in features:
                    self.at[key].h = high
            top, y = y - high, y - high - LABELS - self._turn(row)
        for vertex in self.at.values():
            vertex.x -= left
        scene = Scene(width=right - left, height=-top)
        self._wires(scene)
        for node in self.nodes:
            w, h = size(node)
            vertex = self.at[node.id]
            if node.role == "features":  # as wide as its labels, and as high as the others beside it
                w, h = vertex.w, vertex.h
            scene.cards.append(Card(Box(vertex.x - w / 2, vertex.y - h / 2, w, h), node))
        exits = {e: (self.at[e].x, self.at[e].y) for e in self.exits}
        return Layered(scene, exits, top)

    def _turn(self, row: list[str]) -> float:
        """The room above a rank for edges to turn in."""
        far = [abs(self.at[a].x - self.at[key].x) for key in row for a in self.at[key].above]
        return CURVES + min(max(far, default=0) * 0.12, 36)

    def _wires(self, scene: Scene) -> None:
        starts = {n.id: self._ports(scene, n) for n in self.nodes}
        ends = self._entries()
        for index, (edge, chain) in enumerate(zip(self.edges, self.chains, strict=True)):
            points = [starts[edge.source][edge.name, edge.flow]]
            points += [point for key in chain[1:-1] for point in self._past(self.at[key])]
            points.append(ends[index])
            out, dashed = edge.target in self.exits, edge.flow.level == Level.REQUEST
            scene.wires.append(Wire(tuple(_stretched(points, out)), dashed, None, not out, True, edge.label))

    @staticmethod
    def _past(holder: _Vertex) -> list[Point]:
        """An edge passes a rank straight, beside its cards and their labels."""
        return [(holder.x, holder.y + holder.h / 2), (holder.x, holder.y - holder.h / 2 - LABELS)]

    def _ports(self, scene: Scene, node: Node) -> dict[tuple[object, ...], Point]:
        """Where each value leaves a card's top, with its label."""
        vertex, values = self.at[node.id], ports(self.leaving[node.id])
        top = vertex.y - vertex.h / 2
        wanted = [self._toward(node.id, value) for value in values]
        ordered = sorted(range(len(values)), key=lambda i: wanted[i])
        widths = [tag_width(values[i].label) for i in ordered]
        inside = vertex.w
        middle = _within(spread([wanted[i] for i in ordered], widths, 8), widths, vertex.x - inside / 2, inside)
        found: dict[tuple[object, ...], Point] = {}
        for i, x, w in zip(ordered, middle, widths, strict=True):
            if len(values) == 1:
                x = vertex.x
            found[values[i].name, values[i].flow] = (x, top)
            if node.role != "tap":
                scene.tags.append(Tag(Box(x - w / 2, top - 5 - TAG, w, TAG), values[i].label))
        return found

    def _toward(self, source: str, value: Edge) -> float:
        """Where the edges of one value go to, on the average."""
        pairs = zip(self.edges, self.chains, strict=True)
        same = [c[1] for e, c in pairs if (e.source, e.name, e.flow) == (source, value.name, value.flow)]
        return sum(self.at[k].x for k in same) / len(same)

    def _entries(self) -> list[Point]:
        """Where each edge enters its target's bottom: side by side, in the order they come from."""
        found: list[Point] = [(0, 0)] * len(self.edges)
        for target, vertex in self.at.items():
            into = [i for i, e in enumerate(self.edges) if e.target == target]
            into.sort(key=lambda i: self.at[self.chains[i][-2]].x)
            step = min(22.0, (vertex.w - 40) / max(1, len(into) - 1))
            for place, index in enumerate(into):
                x = vertex.x + (place - (len(into) - 1) / 2) * step
                found[index] = (x, vertex.y + vertex.h / 2)
        return found


def _within(centres: list[float], widths: list[float], left: float, room: float) -> list[float]:
    """Moves a row of things as a whole, or closes them up, so that they stay in the room."""
    if not centres:
        return centres
    low, high = centres[0] - widths[0] / 2, centres[-1] + widths[-1] / 2
    if high - low > room:  # close up: side by side, in the middle
        x = left + (room - sum(widths) - 8 * (len(widths) - 1)) / 2
        closed = []
        for w in widths:
            closed.append(x + w / 2)
            x += w + 8
        return closed
    shift = max(left - low, 0) + min(left + room - high, 0)
    return [c + shift for c in centres]


def _stretched(points: list[Point], out: bool) -> list[Point]:
    """A wire's points: straight up through the labels, curved between ranks, straight into its target."""
    (x, y), last = points[0], points[-1]
    end = [last] if out else [(last[0], last[1] + 10), last]
    return [(x, y), (x, y - LABELS), *points[1:-1], *end]
