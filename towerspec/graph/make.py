"""From a checked spec to the diagram of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from towerspec.check.model import GROUPS, FeatureDef, Model, Operand, SurfaceDef
from towerspec.check.model import Node as Statement
from towerspec.graph.diagram import Diagram, Edge, Item, Lane, Node
from towerspec.graph.flows import Flows
from towerspec.graph.towers import TowerMaker
from towerspec.graph.words import feature_words, kind_name, layer_words
from towerspec.ir.graph import Graph
from towerspec.ir.types import Level

MANY = 6  # with more surfaces than this, those of the same shape share a lane


def make_diagram(model: Model, graph: Graph) -> Diagram:
    """The diagram of a sound spec.

    >>> from towerspec.check import check_text
    >>> spec = "model m candidate { x : number } trunk { t = linear(x, width: 4) } "
    >>> spec += "surface s { tower { head y : binary } }"
    >>> diagram = make_diagram(*check_text(spec).sound())
    >>> [node.id for node in diagram.nodes], [edge.label for edge in diagram.edges]
    (['candidate', 'trunk.t'], ['x · 1'])
    """
    return _Maker(model, graph).diagram()


class _Maker:
    def __init__(self, model: Model, graph: Graph) -> None:
        self.model, self.graph = model, graph
        self.flows = Flows(model, graph)
        self.absorbed = dict(_absorbed(model))
        self.named = _read(model)

    def diagram(self) -> Diagram:
        groups: dict[Lane, list[SurfaceDef]] = {}
        for surface in self.model.surfaces.values():
            alike = self.lane(surface, "*", ()) if len(self.model.surfaces) > MANY else self.lane(surface)
            groups.setdefault(alike, []).append(surface)
        lanes = [self.lane(s[0], names=tuple(x.name for x in s), note=_weights(s)) for s in groups.values()]
        nodes = [*self.cards(self.shared(), None, None), *self.statements(self.model.trunk, None, None)]
        edges = self.edges(self.model.trunk, None, None)
        return Diagram(self.model.name, self.summary(), tuple(nodes), tuple(edges), tuple(lanes))

    def summary(self) -> str:
        weights = sum(p.numel for _, p in self.graph.params if p.trainable)
        counts = (
            (len(self.model.surfaces), "surface"),
            (len({o.name for o in self.graph.outputs}), "task"),
            (len(self.model.features), "feature"),
        )
        return ", ".join([*(f"{n} {word}{'s' * (n != 1)}" for n, word in counts), f"{_short(weights)} parameters"])

    # ---- features ----------------------------------------------------------------------------

    def shared(self) -> list[FeatureDef]:
        return [f for f in self.model.features.values() if f.surface is None]

    def cards(self, features: Iterable[FeatureDef], surface: SurfaceDef | None, root: str | None) -> list[Node]:
        """One card for the features of each level."""
        found = []
        for name, level in GROUPS.items():
            items = tuple(self.item(f) for f in features if f.level == level)
            if items:
                id_ = f"{root}.{name}" if root else name
                lane = surface.name if surface and root != "*" else None
                found.append(Node(id_, "features", f"{name} features", "", lane, level, items))
        return found

    def item(self, feature: FeatureDef) -> Item:
        words = feature_words(feature, self.flows.of(feature.key).dims)
        on = () if feature.kind.on is None else tuple(feature.kind.on)
        return Item(feature.name, words, on, feature.key in self.named)

    # ---- statements --------------------------------------------------------------------------

    def statements(self, nodes: Iterable[Statement], surface: SurfaceDef | None, root: str | None) -> list[Node]:
        return [self.statement(n, surface, root) for n in nodes if n.key not in self.absorbed]

    def statement(self, node: Statement, surface: SurfaceDef | None, root: str | None) -> Node:
        names = {inner: outer for outer, inner in self.absorbed.items()}
        key, kind = node.key, kind_name(node.layer)
        while key in names:
            key = names[key]
        title, lane = key.split(".")[-1], surface.name if surface and root != "*" else None
        inline = title.rstrip("_0123456789") == kind and key.count(".") > (2 if surface else 1)
        owners = () if surface else tuple(s for s in self.model.surfaces if s in self.flows.owners.get(node.key, ()))
        level = self.flows.of(node.key).level
        if kind in ("concat", "same value") and not owners:
            return Node(self.id(node.key, root), "join", title, "" if inline else kind, lane, level)
        words = layer_words(node)
        if inline:
            words = words.removeprefix(kind).removeprefix(" · ")
        return Node(self.id(node.key, root), "layer", title, words, lane, level, owners=owners)

    def edges(self, nodes: Iterable[Statement], surface: SurfaceDef | None, root: str | None) -> list[Edge]:
        found = [
            self.edge(i, self.id(n.key, root), root) for n in nodes if n.key not in self.absorbed for i in n.inputs
        ]
        return list(dict.fromkeys(found))

    def edge(self, operand: Operand, target: str, root: str | None) -> Edge:
        source, name = self.source(operand.key, root)
        return Edge(source, target, self.flows.of(operand.key), name)

    def source(self, key: str, root: str | None) -> tuple[str, str]:
        """The card that a value comes from, and its name on that card where it is one of several."""
        feature = self.model.features.get(key)
        if feature is None:
            return self.id(key, root), ""
        group = "request" if feature.level == Level.REQUEST else "candidate"
        return (f"{root}.{group}" if feature.surface else group), feature.name

    def id(self, key: str, root: str | None) -> str:
        """A card's id: its key in the spec, under another root where lanes are compared."""
        while key in self.absorbed:
            key = self.absorbed[key]
        own = key.startswith("surfaces.") and root is not None
        return ".".join([str(root), *key.split(".")[2:]]) if own else key

    # ---- lanes -------------------------------------------------------------------------------

    def lane(self, surface: SurfaceDef, root: str = "", names: tuple[str, ...] | None = None, note: str = "") -> Lane:
        """A surface's lane; with the root `*` it equals that of every surface of the same shape."""
        root = root or f"surfaces.{surface.name}"
        own = [f for f in self.model.features.values() if f.surface == surface.name]
        nodes = [*self.cards(own, surface, root), *self.statements(surface.nodes, surface, root)]
        edges = self.edges(surface.nodes, surface, root)
        start = self.edge(surface.start, "", root)
        tower = TowerMaker(self.model, self.flows, lambda key: self.id(key, root), lambda o, t: self.edge(o, t, root))
        path = tower.make(surface.tower, start, {})
        lane = surface.name if root != "*" else None
        nodes += [replace(n, lane=lane) for n in tower.nodes]
        names = (surface.name,) if names is None else names
        return Lane(names, note, tuple(nodes), tuple(edges + tower.edges), path, start.source)


def _absorbed(model: Model) -> Iterable[tuple[str, str]]:
    """What a template gives is its last line: one card, under the name of the call."""
    for node in (*model.trunk, *(n for s in model.surfaces.values() for n in s.nodes)):
        if kind_name(node.layer) == "same value" and node.inputs[0].key.startswith(f"{node.key}."):
            yield node.key, node.inputs[0].key


def _read(model: Model) -> set[str]:
    """All that some statement, fusion or tower reads by its name."""
    surfaces = model.surfaces.values()
    statements = (*model.trunk, *(n for s in surfaces for n in s.nodes))
    fused = (f.value.key for s in surfaces for path in s.tower.walk() for f in path.fuses)
    return {*(i.key for n in statements for i in n.inputs), *fused, *(s.start.key for s in surfaces)}


def _weights(surfaces: list[SurfaceDef]) -> str:
    weights = {s.weight for s in surfaces}
    return f"weight {weights.pop():g}" if len(weights) == 1 and weights != {1.0} else ""


def _short(count: int) -> str:
    """A large count for people.

    >>> _short(9_140_000), _short(512)
    ('9.14M', '512')
    """
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return str(count)
