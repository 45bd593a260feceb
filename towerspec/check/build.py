"""From the expanded syntax tree to the model graph: every name resolved, every parameter checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from towerspec.check.expressions import Expressions
from towerspec.check.features import Features, duplicate_tables
from towerspec.check.model import GROUPS, Model, Node, Operand, SurfaceDef
from towerspec.check.names import Entry, Namespace, check_usable
from towerspec.check.params import build
from towerspec.check.topology import check_topology, in_order
from towerspec.check.towers import Towers
from towerspec.diagnostics import Label, Report, Span
from towerspec.layers.blocks import Surface, Train
from towerspec.syntax import tree


def build_model(spec: tree.Spec, report: Report) -> Model | None:
    """The model graph of an expanded spec; none where something is missing that no model can do without."""
    by_type = _by_type(spec.items)
    surfaces: list[tree.Surface] = _unique_surfaces(by_type[tree.Surface], report)
    features = Features(report, frozenset(s.name.text for s in surfaces), {}, {})
    duplicate_tables(by_type[tree.Table], report)
    for table in by_type[tree.Table]:
        features.table(table)
    top = Namespace()
    for name in GROUPS:
        top.entries[name] = Entry(name, spec.span)
    for block in by_type[tree.FeatureBlock]:
        features.block(block, top, None)
    owners = _owners(surfaces)
    trunk, trunk_names, last = _trunk(by_type[tree.Trunk], top, surfaces, report)
    if not surfaces:
        report.error(
            "T412",
            "the model has no surface",
            spec.name.span if spec.name else None,
            help="add `surface home_feed { tower { … } }`",
        )
    built = {}
    for node in surfaces:
        surface = _Surface(node, trunk_names, last, features, report).build(owners)
        if surface is not None:
            built[surface.name] = surface
    tables = {name: t for name, t in features.tables.items() if t is not None}
    found = {key: f for key, f in features.features.items() if f is not None}
    name = spec.name.text if spec.name else "model"
    if spec.name:
        check_usable(spec.name, report)
    complete = len(found) == len(features.features) and len(built) == len(surfaces)
    source, train = spec.span.source, _train(by_type[tree.Train], report)
    model = Model(name, source.path, tables, found, tuple(trunk), built, source.text, complete, train)
    return check_topology(model, complete, report)


def _train(nodes: list[tree.Train], report: Report) -> Train:
    """How the model is trained: the block's options, or the defaults."""
    for second in nodes[1:]:
        report.error(
            "T210",
            "`train` is defined twice",
            _word(second, "train"),
            "defined again here",
            labels=[Label(_word(nodes[0], "train"), "first defined here")],
        )
    if not nodes:
        return Train()
    return build(Train, nodes[0].options, _word(nodes[0], "train"), "`train`", report) or Train()


def _by_type(items: Iterable[tree.Item]) -> dict[type, list[Any]]:
    found: dict[type, list[Any]] = {
        t: [] for t in (tree.Table, tree.FeatureBlock, tree.Trunk, tree.Surface, tree.Train)
    }
    for item in items:
        found.setdefault(type(item), []).append(item)
    return found


def _unique_surfaces(nodes: list[tree.Surface], report: Report) -> list[tree.Surface]:
    first: dict[str, tree.Surface] = {}
    for node in nodes:
        check_usable(node.name, report)
        # Each surface becomes a file of its name, and some file systems take `Search` for `search`.
        other = first.setdefault(node.name.text.lower(), node)
        if other is not node:
            report.error(
                "T210",
                f"surface `{node.name.text}` is defined twice",
                node.name.span,
                "defined again here",
                labels=[Label(other.name.span, "first defined here")],
                notes=["a surface is a file of its name, and some systems take `A` for `a`"]
                if other.name.text != node.name.text
                else [],
            )
    return list(first.values())


def _trunk(
    nodes: list[tree.Trunk], top: Namespace, surfaces: list[tree.Surface], report: Report
) -> tuple[tuple[Node, ...], Namespace, Operand | None]:
    names = Namespace(top)
    if not nodes or not nodes[0].body:
        at = nodes[0].span if nodes else (surfaces[0].name.span if surfaces else None)
        report.error(
            "T411",
            "the model has no trunk",
            at,
            "nothing to start a tower from" if at else "",
            help="add `trunk { mixed = concat(request, candidate) }`",
        )
        return (), names, None
    for second in nodes[1:]:
        report.error(
            "T210",
            "the trunk is defined twice",
            _word(second, "trunk"),
            "defined again here",
            labels=[Label(_word(nodes[0], "trunk"), "first defined here")],
        )
    expressions = Expressions(report, _owners(surfaces))
    expressions.assign(nodes[0].body, names, "trunk")
    last = nodes[0].body[-1].name
    return tuple(in_order(expressions.nodes, report)), names, Operand(f"trunk.{last.text}", last.span)


def _owners(surfaces: Iterable[tree.Surface]) -> dict[str, list[str]]:
    """For each name of a surface's own, the surfaces that have it."""
    found: dict[str, list[str]] = {}
    for surface in surfaces:
        for name in _own_names(surface):
            found.setdefault(name, []).append(surface.name.text)
    return found


def _own_names(surface: tree.Surface) -> list[str]:
    names = [i.name.text for i in surface.items if isinstance(i, tree.Assign)]
    return names + [f.name.text for i in surface.items if isinstance(i, tree.FeatureBlock) for f in i.features]


def _word(node: tree.Node, word: str) -> Span:
    return Span(node.span.source, node.span.start, node.span.start + len(word))


class _Surface:
    def __init__(
        self, node: tree.Surface, trunk: Namespace, last: Operand | None, features: Features, report: Report
    ) -> None:
        self.node, self.features, self.report, self.last = node, features, report, last
        self.name = node.name.text
        self.names = Namespace(trunk)

    def build(self, owners: Mapping[str, Sequence[str]]) -> SurfaceDef | None:
        node, report = self.node, self.report
        options = [i for i in node.items if isinstance(i, tree.Option)]
        params = build(Surface, options, node.name.span, "a surface", report) or Surface()
        for block in (i for i in node.items if isinstance(i, tree.FeatureBlock)):
            self.features.block(block, self.names, self.name)
        expressions = Expressions(report, owners, self.name)
        expressions.assign([i for i in node.items if isinstance(i, tree.Assign)], self.names, f"surfaces.{self.name}")
        tower = self._tower()
        if tower is None:
            return None
        towers = Towers(self.name, self.names, expressions, self.features.features, self.features.tables, report)
        start = expressions.name(tower.start.text, tower.start.span, self.names) if tower.start else self.last
        calibrates = towers.surface_calibrates(node.items, tower)
        path = towers.path(tower.items, f"surfaces.{self.name}.tower", tower, calibrates)
        nodes = tuple(in_order(expressions.nodes, report))
        if path is None or start is None:
            return None
        start = replace(start, span=tower.start.span if tower.start else _word(tower, "tower"))
        return SurfaceDef(self.name, params.weight, nodes, start, path, node.name.span)

    def _tower(self) -> tree.Tower | None:
        towers = [i for i in self.node.items if isinstance(i, tree.Tower)]
        if not towers:
            self.report.error(
                "T410",
                f"surface `{self.name}` has no tower, so it predicts nothing",
                self.node.name.span,
                "no tower",
                help="add `tower { layers: [128]  head click : binary }`",
            )
            return None
        for second in towers[1:]:
            self.report.error(
                "T210",
                f"surface `{self.name}` has two towers",
                _word(second, "tower"),
                "a second tower",
                labels=[Label(_word(towers[0], "tower"), "the first tower")],
            )
        return towers[0]
