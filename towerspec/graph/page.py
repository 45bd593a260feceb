"""The whole picture: features at the bottom, the trunk above them, above it a lane for each surface."""

from __future__ import annotations

import math
from collections import Counter

from towerspec.graph.diagram import Diagram, Edge, Lane
from towerspec.graph.lanes import LaneDrawing, draw_lane, start_edge
from towerspec.graph.layered import LABELS, arrange
from towerspec.graph.scene import Band, Box, Scene, Wire
from towerspec.graph.text import fit, width, wrap
from towerspec.ir.types import Level

MARGIN = 28.0
HEAD = 76.0  # the title
FOOT = 52.0  # the legend
PAD = 18.0  # inside a lane
BETWEEN = 14.0  # between lanes
BUS = 58.0  # between the trunk and the lanes, where its value is led to each
SHAPE = 1.45  # the picture's width to its height, about
NARROWEST = 760.0
NUDGE = 60.0
LINE = 19.0  # a line of a lane's heading
NAMES = 6  # lines of surface names before the rest is counted


def layout(diagram: Diagram) -> Scene:
    """Places everything.

    >>> layout(Diagram("m", "", (), (), ())).width
    816.0
    """
    return _Page(diagram).draw()


class _Page:
    def __init__(self, diagram: Diagram) -> None:
        self.diagram = diagram
        self.trunk = _trunk_start(diagram)
        source, name = self.trunk
        exits = [Edge(source, ">", start_edge(lane).flow, name) for lane in diagram.lanes if _starts(lane, self.trunk)]
        self.base = arrange(diagram.nodes, diagram.edges, exits[:1], True) if diagram.nodes else None
        self.lanes = [draw_lane(lane, diagram, self.trunk) for lane in diagram.lanes]
        self.rows = self._wrapped()
        self.gutter = 26.0 if len(self.rows) > 1 else 0.0
        self.wide = self._width()
        self.scene = Scene()

    def _wrapped(self) -> list[list[int]]:
        """The lanes in rows of about the same width, as many as make the picture neither wide nor tall."""

        def off(rows: list[list[int]]) -> float:
            wide = max((sum(_outer(self.lanes[i]) + BETWEEN for i in row) for row in rows), default=1)
            high = sum(max(self.lanes[i].scene.height for i in row) + BUS + 60 for row in rows)
            return abs(math.log(wide / (high + (self.base.scene.height if self.base else 0) + 150) / SHAPE))

        return min((_rows([_outer(d) for d in self.lanes], n + 1) for n in range(len(self.lanes) or 1)), key=off)

    def _width(self) -> float:
        rows = [sum(_outer(self.lanes[i]) for i in row) + BETWEEN * (len(row) - 1) for row in self.rows]
        base = self.base.scene.width + 2 * PAD if self.base else 0
        return max([NARROWEST, base, *rows])

    def draw(self) -> Scene:
        left = MARGIN + self.gutter
        y = self._base(left, 0.0)
        bus = y - BUS + 14
        for row in self.rows:
            y = self._row(row, left, y - BUS, bus)
        whole, scene = Scene(), self.scene
        whole.width, whole.height = self.wide + 2 * MARGIN + self.gutter, HEAD - y + FOOT
        whole.put(scene, 0, HEAD - y)
        return whole

    # ---- the trunk ---------------------------------------------------------------------------

    def _base(self, left: float, y: float) -> float:
        """Features and trunk, from y upwards; gives the top."""
        self.out = (left + self.wide / 2, y)
        if self.base is None:
            return y
        x = left + (self.wide - self.base.scene.width) / 2
        x += self._nudge(x, left)
        self.scene.put(self.base.scene, x, y)
        top = y + self.base.top - 12
        layers = [n for n in self.diagram.nodes if n.role != "features"]
        if layers:
            features = [c.box.y for c in self.base.scene.cards if c.node.role == "features"]
            bottom = y + (min(features) - LABELS - 6 if features else 14)
            top = min(top, bottom - 60)
            box = Box(left, top, self.wide, bottom - top)
            self.scene.bands.append(Band(box, ("trunk",), "shared by all surfaces"))
        if ">" in self.base.exits:
            ex, ey = self.base.exits[">"]
            self.out = (x + ex, y + ey)
        return top

    def _nudge(self, x: float, left: float) -> float:
        """How far to move the trunk so that it stands right below a lane's spine, where it nearly does."""
        if self.base is None or ">" not in self.base.exits:
            return 0.0
        out = x + self.base.exits[">"][0]
        places = ((inner, self.lanes[i].feed) for i, _, _, inner in self._places(self.rows[0], left))
        near = min((inner + feed[0] - out for inner, feed in places if feed), key=abs, default=0.0)
        room = min(x - left, left + self.wide - x - self.base.scene.width)
        return near if abs(near) <= min(NUDGE, room) else 0.0

    # ---- lanes -------------------------------------------------------------------------------

    def _row(self, row: list[int], left: float, y: float, bus: float) -> float:
        """A row of lanes whose bottom is at y; each gets a share of the room that is left over."""
        places = self._places(row, left)
        headings = {i: self._heading(i, wide - 2 * PAD) for i, _, wide, _ in places}
        ceiling = max(self.lanes[i].scene.height for i in row)
        high = ceiling + max(len(headings[i]) * LINE + (LINE if _note(self.diagram.lanes[i]) else 0) for i in row) + 34
        for index, x, wide, inner in places:
            box = Box(x, y - high, wide, high)
            lane = self.diagram.lanes[index]
            drawing = draw_lane(lane, self.diagram, self.trunk, ceiling)
            self.scene.bands.append(Band(box, headings[index], _note(lane), index, ", ".join(lane.names)))
            self.scene.put(drawing.scene, inner, y - PAD / 2, index)
            self._feed(index, inner, y, bus)
        return y - high

    def _places(self, row: list[int], left: float) -> list[tuple[int, float, float, float]]:
        """For each lane of a row its number, where it begins, its width, and where what is in it begins."""
        spare = self.wide - sum(_outer(self.lanes[i]) for i in row) - BETWEEN * (len(row) - 1)
        found = []
        for index in row:
            wide = _outer(self.lanes[index]) + spare / len(row)
            found.append((index, left, wide, left + (wide - self.lanes[index].scene.width) / 2))
            left += wide + BETWEEN
        return found

    def _heading(self, index: int, room: float) -> tuple[str, ...]:
        names = self.diagram.lanes[index].names
        if len(names) == 1:
            return (fit(names[0], room - 16, 15, True),)
        lines = wrap([f"{n}," for n in names[:-1]] + [names[-1]], room - 16, 13, width(" ", 13, True), True)
        if len(lines) > NAMES:
            shown = sum(map(len, lines[: NAMES - 1]))
            lines = [*lines[: NAMES - 1], [f"and {len(names) - shown} more"]]
        return tuple(" ".join(line) for line in lines)

    def _feed(self, index: int, inner: float, y: float, bus: float) -> None:
        """The trunk's value, from its last card along the bus into a lane."""
        feed = self.lanes[index].feed
        if feed is None:
            return
        x, level = inner + feed[0], y + BUS - (BUS - 14)
        edge = start_edge(self.diagram.lanes[index])
        points = [self.out, (self.out[0], bus)]
        if abs(level - bus) > 1:  # an upper row: around the lower ones, at the left
            points += [(MARGIN + 6, bus), (MARGIN + 6, level)]
        points += [(x, level), (x, y - PAD / 2)]
        self.scene.wires.append(Wire(tuple(points), edge.flow.level == Level.REQUEST, arrow=False, tip=edge.label))


def _rows(widths: list[float], count: int) -> list[list[int]]:
    """Indices in a number of rows of about the same width.

    >>> _rows([100, 100, 100, 300], 2)
    [[0, 1, 2], [3]]
    """
    rows: list[list[int]] = [[] for _ in range(count)]
    for index, w in enumerate(widths):
        before = sum(widths[:index]) + w / 2
        rows[min(count - 1, int(before * count / sum(widths)))].append(index)
    return [row for row in rows if row]


def _outer(drawing: LaneDrawing) -> float:
    return max(drawing.scene.width, 150) + 2 * PAD


def _note(lane: Lane) -> str:
    same = f"{len(lane.names)} surfaces of this shape" if len(lane.names) > 1 else ""
    return " · ".join(word for word in (same, lane.note) if word)


def _starts(lane: Lane, trunk: tuple[str, str]) -> bool:
    edge = start_edge(lane)
    return (edge.source, edge.name) == trunk


def _trunk_start(diagram: Diagram) -> tuple[str, str]:
    """The shared value that most towers start from."""
    shared = {n.id for n in diagram.nodes}
    starts = [start_edge(lane) for lane in diagram.lanes]
    counts = Counter((e.source, e.name) for e in starts if e.source in shared)
    return counts.most_common(1)[0][0] if counts else ("", "")
