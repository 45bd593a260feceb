"""One surface's lane: its own modules beside its tower, the tower's spine with its fusions, arms and heads."""

from __future__ import annotations

from dataclasses import dataclass, replace

from towerspec.graph.cards import SPINE, TAG, size, tag_width
from towerspec.graph.diagram import Diagram, Edge, Lane, Node, Path
from towerspec.graph.layered import Layered, arrange
from towerspec.graph.scene import Box, Card, Point, Scene, Tag, Wire
from towerspec.ir.types import Level

STEP = 44.0  # between two cards of a spine, with a label between them
BESIDE = 28.0  # between a spine and what is beside it
COLUMN = 22.0  # between arms
RAIL = 16.0  # from the line that feeds a stack of heads to the heads
STACK = 10.0  # between stacked heads
FORK = 20.0
START = "^"  # the exit of the modules that the tower starts from


@dataclass
class LaneDrawing:
    """A lane's scene, its bottom at y = 0 and its left at x = 0; `feed` is where the trunk's value comes in."""

    scene: Scene
    feed: Point | None


def draw_lane(lane: Lane, diagram: Diagram, trunk: tuple[str, str], ceiling: float = 0) -> LaneDrawing:
    """Draws a lane whose tower starts from the trunk's value, or from another one; its heads hang from the ceiling."""
    return _Lane(lane, diagram, ceiling).draw(trunk)


def start_edge(lane: Lane) -> Edge:
    """The edge that a lane's tower starts with."""
    firsts = (*lane.path.spine[:1], *(() if lane.path.spine else lane.path.heads))
    return next(e for e in lane.edges if e.target in firsts and e.source == lane.start)


def tap(edge: Edge, diagram: Diagram, suffix: str = "") -> Node:
    """The card that stands for a value from elsewhere."""
    source = diagram.by_id[edge.source]
    title = edge.name or (source.title.removesuffix(" features") if source.role == "features" else source.title)
    return Node(f"{edge.source}/{edge.name}{suffix}", "tap", title, edge.flow.label, source.lane, edge.flow.level)


class _Lane:
    def __init__(self, lane: Lane, diagram: Diagram, ceiling: float) -> None:
        self.lane, self.diagram, self.ceiling = lane, diagram, ceiling
        self.cards = {n.id: n for n in lane.nodes}
        self.own = [n for n in lane.nodes if n.role in ("features", "layer", "join")]
        self.scene = Scene()
        self.start = start_edge(lane)
        self.joins = {e.target: e for e in lane.edges if self._joins(e)}
        mine = {n.id for n in self.own}
        spine = [self.joins[i] for i in lane.path.spine if i in self.joins and self.joins[i].source in mine]
        self.exits = {e.target: e for e in spine}
        if self.start.source in mine:
            self.exits = {START: self.start, **self.exits}
        self.modules = self._modules(mine)
        self.fed = {e.target for e in lane.edges if e.source not in self.cards or self.cards[e.source].role != "head"}
        self.right = 0.0

    def _joins(self, edge: Edge) -> bool:
        return self.cards[edge.target].role == "fusion" and edge is not self.start and self._side(edge)

    def _side(self, edge: Edge) -> bool:
        """Whether an edge enters a fusion from the side: it is the second of the two that do."""
        return edge is [e for e in self.lane.edges if e.target == edge.target][-1]

    def _modules(self, mine: set[str]) -> Layered | None:
        inner = [e for e in self.lane.edges if e.target in mine]
        taps: dict[str, Node] = {}
        edges = []
        for e in inner:
            if e.source not in mine:
                node = tap(e, self.diagram)
                taps[node.id] = node
                e = Edge(node.id, e.target, e.flow, e.name)
            edges.append(e)
        exits = [replace(e, target=t) for t, e in self.exits.items()]
        return arrange([*self.own, *taps.values()], edges, exits, False) if self.own else None

    # ---- how wide ----------------------------------------------------------------------------

    def _extent(self, path: Path) -> tuple[float, float]:
        """How far a path reaches to the left and to the right of its spine."""
        left = right = self._half(path)
        columns = self._columns(path)
        for id_ in path.spine:
            if id_ in self.joins and id_ not in self.exits:
                beside = size(tap(self.joins[id_], self.diagram))[0]
                right = max(right, size(self.cards[id_])[0] / 2 + BESIDE + beside)
        if columns:
            total = sum(a + b for a, b in columns) + COLUMN * (len(columns) - 1)
            left, right = max(left, total / 2), max(right, total / 2)
        elif path.heads:
            a, b = self._heads_extent(path)
            left, right = max(left, a), max(right, b)
        return left, right

    def _half(self, path: Path) -> float:
        return max([SPINE, *(size(self.cards[i])[0] for i in path.spine)]) / 2

    def _columns(self, path: Path) -> list[tuple[float, float]]:
        """What stands side by side above a branch: its arms, after the heads that the path has itself."""
        if not path.arms:
            return []
        return [*([self._heads_extent(path)] if path.heads else []), *(self._extent(arm) for arm in path.arms)]

    def _heads_extent(self, path: Path) -> tuple[float, float]:
        wide = max(size(self.cards[h])[0] for h in path.heads) / 2
        return wide + (RAIL if len(path.heads) > 1 else 0), wide

    # ---- drawing -----------------------------------------------------------------------------

    def draw(self, trunk: tuple[str, str]) -> LaneDrawing:
        left, right = self._extent(self.lane.path)
        self.right, x = left + self._half(self.lane.path) + BESIDE, left
        y, feed = 0.0, None
        if self.modules:
            self.scene.put(self.modules.scene, self.right, 0)
        if START in self.exits:
            y = self._from_module(x)
        elif (self.start.source, self.start.name) == trunk:
            feed = (x, 0.0)
        else:
            y = self._tapped(tap(self.start, self.diagram, "^"), x - SPINE / 2, 0, SPINE)
        top = self._path(self.lane.path, x, y, self.start, feed is not None)
        self.scene.height = max(-top, self.modules.scene.height if self.modules else 0)
        boxes = [c.box.right for c in self.scene.cards]
        self.scene.width = max([left + right, *boxes, self.right + self.modules.scene.width if self.modules else 0])
        return LaneDrawing(self.scene, feed)

    def _from_module(self, x: float) -> float:
        """The tower starts from the surface's own module: over the top of the modules, to the spine."""
        assert self.modules is not None
        ex, ey = self.modules.exits[START]
        y = self.modules.top - 12
        self._wire([(ex + self.right, ey), (ex + self.right, y), (x, y)], self.start, arrow=False)
        return y

    def _tapped(self, node: Node, x: float, bottom: float, wide: float = 0) -> float:
        w, h = size(node)
        self.scene.cards.append(Card(Box(x + max(wide - w, 0) / 2, bottom - h, w, h), node))
        return bottom - h

    def _wire(self, points: list[Point], edge: Edge, arrow: bool = True) -> None:
        self.scene.wires.append(Wire(tuple(points), edge.flow.level == Level.REQUEST, arrow=arrow, tip=edge.label))

    def _tag(self, x: float, y: float, edge: Edge) -> None:
        w = tag_width(edge.label)
        self.scene.tags.append(Tag(Box(x - w / 2, y - TAG / 2, w, TAG), edge.label))

    def _path(self, path: Path, x: float, y: float, at: Edge, fed: bool = False, rise: float = STEP) -> float:
        """Draws a path from y upwards; the value that comes in is `at`. Gives its top."""
        root = path is self.lane.path
        for index, id_ in enumerate(path.spine):
            node = self.cards[id_]
            w, h = size(node)
            bottom = min(y - (rise if index == 0 else STEP), self._floor(id_, h) if root else 0)
            self._wire([(x, y), (x, bottom)], at)
            if index or not (fed or node.role == "arm"):
                self._tag(x, (y + bottom) / 2, at)
            self.scene.cards.append(Card(Box(x - w / 2, bottom - h, w, h), node))
            if id_ in self.joins:
                self._joined(id_, x, bottom - h / 2)
            y, at = bottom - h, self._leaving(id_, at)
        if root and self.modules and path.arms:
            y = self._above(x, y, at)
        if path.arms:
            return self._fork(path, x, y, at)
        return self._heads(path, x, y, at, not fed or bool(path.spine)) if path.heads else y

    def _above(self, x: float, y: float, at: Edge) -> float:
        """Arms are wide: they begin above the modules."""
        assert self.modules is not None
        if y <= self.modules.top:
            return y
        self._wire([(x, y), (x, self.modules.top)], at, arrow=False)
        return self.modules.top

    def _floor(self, id_: str, high: float) -> float:
        """How low the bottom of a card of the spine may be: a fusion is above the modules."""
        return self.modules.top - 22 + high / 2 if self.modules and id_ in self.joins else 0.0

    def _leaving(self, id_: str, at: Edge) -> Edge:
        return next((e for e in self.lane.edges if e.source == id_), at)

    def _joined(self, id_: str, x: float, y: float) -> None:
        """What a fusion joins in, from the right: a module, or a value from elsewhere right beside it."""
        edge, side = self.joins[id_], x + size(self.cards[id_])[0] / 2
        if id_ in self.exits and self.modules and edge is self.exits[id_]:
            ex, ey = self.modules.exits[id_]
            self._wire([(self.right + ex, ey), (self.right + ex, y), (side, y)], edge)
            return
        node = tap(edge, self.diagram, f"@{id_}")
        at = side + BESIDE
        if id_ in self.lane.path.spine and self.modules:
            later = self.lane.path.spine[self.lane.path.spine.index(id_) :]
            at = max([at, *(self.right + self.modules.exits[i][0] + 16 for i in later if i in self.exits)])
        _, h = size(node)
        self._tapped(node, at, y + h / 2)
        self._wire([(at, y), (side, y)], edge)

    def _fork(self, path: Path, x: float, y: float, at: Edge) -> float:
        columns = self._columns(path)
        total = sum(a + b for a, b in columns) + COLUMN * (len(columns) - 1)
        left, top = x - total / 2, y
        arms: list[Path | None] = [*([None] if path.heads else []), *path.arms]
        for (before, after), arm in zip(columns, arms, strict=True):
            middle = left + before
            self._wire([(x, y), (x, y - FORK), (middle, y - FORK)], at, arrow=False)
            if arm is None:
                top = min(top, self._heads(path, middle, y - FORK, at, True))
            else:
                top = min(top, self._path(arm, middle, y - FORK, at, rise=FORK))
            left += before + after + COLUMN
        return top

    def _heads(self, path: Path, x: float, y: float, at: Edge, tagged: bool) -> float:
        """A path's heads in a stack, the first on top, each fed from a line at their left."""
        if tagged:
            self._tag(x, y - STEP / 2, at)
        wide = max(size(self.cards[h])[0] for h in path.heads)
        high = sum(size(self.cards[h])[1] + STACK for h in path.heads) - STACK
        rail, bottom = x - wide / 2 - RAIL, min(y - STEP, high - self.ceiling)
        for id_ in reversed(path.heads):
            _, h = size(self.cards[id_])
            box = Box(x - wide / 2, bottom - h, wide, h)
            self.scene.cards.append(Card(box, self.cards[id_]))
            if len(path.heads) == 1:
                self._wire([(x, y), (x, bottom)], at)
            elif id_ in self.fed:  # a product reads other heads, which its words name
                turn = y - STEP + 6
                self._wire([(x, y), (x, turn), (rail, turn), (rail, box.y + 16), (box.x, box.y + 16)], at)
            bottom -= h + STACK
        return bottom + STACK
