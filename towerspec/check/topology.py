"""What only the whole graph shows: cycles, values that reach no head, unused features, towers without a trunk."""

from __future__ import annotations

from collections.abc import Iterable

import networkx as nx

from towerspec.check.model import GROUPS, FeatureDef, Model, Node, SurfaceDef
from towerspec.diagnostics import Label, Report
from towerspec.layers.features import Coded


def in_order(nodes: Iterable[Node], report: Report) -> list[Node]:
    """The nodes, each after what it reads; those on a cycle are reported and left out."""
    by_key = {node.key: node for node in nodes}
    graph = nx.DiGraph()
    graph.add_nodes_from(by_key)
    graph.add_edges_from((i.key, node.key) for node in by_key.values() for i in node.inputs if i.key in by_key)
    broken: set[str] = set()
    for component in nx.strongly_connected_components(graph):
        if len(component) > 1 or any(graph.has_edge(key, key) for key in component):
            broken |= component
            _cycle([by_key[key] for key in by_key if key in component], report)
    for key in broken:
        graph.remove_nodes_from([*nx.descendants(graph, key), key] if key in graph else [])
    position = {key: i for i, key in enumerate(by_key)}
    return [by_key[key] for key in nx.lexicographical_topological_sort(graph, position.__getitem__)]


def _cycle(nodes: list[Node], report: Report) -> None:
    first, *rest = nodes
    name = first.key.rsplit(".", 1)[-1]
    keys = {node.key for node in nodes}
    read = next(i for i in first.inputs if i.key in keys)
    chain = " -> ".join(f"`{node.key.rsplit('.', 1)[-1]}`" for node in (*nodes, first))
    report.error(
        "T401",
        f"`{name}` depends on itself",
        read.span,
        "this leads back to it",
        labels=[Label(node.name_span, "on the way") for node in rest[:4]],
        notes=[f"the cycle is {chain}"],
    )


def model_graph(model: Model) -> nx.DiGraph:
    """Every value by key, with an edge to each that reads it; a tower is `surfaces.<name>.tower`."""
    graph = nx.DiGraph()
    for group in GROUPS:
        graph.add_edges_from((f.key, group) for f in model.group(group))
    for node in (*model.trunk, *(n for s in model.surfaces.values() for n in s.nodes)):
        graph.add_node(node.key)
        graph.add_edges_from((i.key, node.key) for i in node.inputs)
    for surface in model.surfaces.values():
        graph.add_edges_from((key, surface.tower.key) for key in tower_reads(surface))
    return graph


def tower_reads(surface: SurfaceDef) -> list[str]:
    """The keys that a tower reads: its start, what it fuses, what it branches by and what its calibration goes by."""
    keys = [surface.start.key]
    for path in surface.tower.walk():
        keys += [fuse.value.key for fuse in path.fuses]
        keys += [path.branch.key] if path.branch else []
        keys += [h.calibrate.by for h in path.heads if h.calibrate and h.calibrate.by]
    return keys


def check_topology(model: Model, complete: bool, report: Report) -> Model:
    """Reports what is wrong with the whole; where a name is unknown, what it would have reached is not called dead."""
    _task_kinds(model, report)
    _one_input_a_name(model, report)
    cut = not complete or any(
        d.code.startswith("T2") or d.code in ("T303", "T401", "T404", "T406", "T410", "T411")
        for d in report.diagnostics
    )
    if not cut and model.surfaces:
        graph = model_graph(model)
        if _from_trunk(model, graph, report):  # else the trunk looks dead because no tower stands on it
            _dead(model, graph, report)
            _unused(model, graph, report)
    return model


def _dead(model: Model, graph: nx.DiGraph, report: Report) -> None:
    alive = set().union(*(nx.ancestors(graph, s.tower.key) for s in model.surfaces.values()))
    for node in (*model.trunk, *(n for s in model.surfaces.values() for n in s.nodes)):
        if node.key not in alive and not list(graph.successors(node.key)):
            name = node.key.rsplit(".", 1)[-1]
            report.error(
                "T402",
                f"`{name}` reaches no head",
                node.name_span,
                "computed and never used",
                help="use it, or remove the line",
            )


def _unused(model: Model, graph: nx.DiGraph, report: Report) -> None:
    groups = {g for g in GROUPS if g in graph and list(graph.successors(g))}
    for feature in model.features.values():
        readers = set(graph.successors(feature.key)) if feature.key in graph else set()
        if not readers - (set(GROUPS) - groups):
            help_ = (
                "give it to an encoder such as `pooling`"
                if feature.kind.kind == "sequence"
                else "use it, or remove the line"
            )
            report.error(
                "T403", f"feature `{feature.name}` is never used", feature.span, "no value reads it", help=help_
            )
    tables = {f.kind.table for f in model.features.values() if isinstance(f.kind, Coded)}
    for table in model.tables.values():
        if table.name not in tables:
            report.error("T403", f"table `{table.name}` is never used", table.span, "no feature reads it")


def _from_trunk(model: Model, graph: nx.DiGraph, report: Report) -> bool:
    sound = True
    trunk = {node.key for node in model.trunk}
    for surface in model.surfaces.values():
        start = surface.start
        if not trunk & (nx.ancestors(graph, start.key) | {start.key}):
            sound = False
            name = start.key.rsplit(".", 1)[-1]
            report.error(
                "T405",
                f"the tower of `{surface.name}` has no path from the trunk",
                start.span,
                f"`{name}` reads no trunk value",
                help="start from a trunk value, and fuse this one in",
            )
    return sound


def _task_kinds(model: Model, report: Report) -> None:
    first: dict[str, tuple[str, int, object]] = {}
    for surface in model.surfaces.values():
        for path in surface.tower.walk():
            for head in path.heads:
                mine = (head.kind.kind, head.kind.width(), head.span)
                kind, width, span = first.setdefault(head.name, mine)
                if (kind, width) != mine[:2]:
                    report.error(
                        "T504",
                        f"head `{head.name}` is {_shown(*mine[:2])} here and {_shown(kind, width)} elsewhere",
                        head.span,
                        f"{_shown(*mine[:2])}",
                        labels=[Label(span, _shown(kind, width))],  # type: ignore[arg-type]
                        notes=["heads of one name are one task, on every surface and in every branch"],
                    )


def _one_input_a_name(model: Model, report: Report) -> None:
    """Surfaces may each declare a feature of one name; in a batch of all surfaces it is one column."""
    first: dict[str, FeatureDef] = {}
    for feature in model.features.values():
        other = first.setdefault(feature.name, feature)
        mine, its = ((f.kind.dtype, f.kind.shape(), f.level) for f in (feature, other))
        if mine != its:
            report.error(
                "T218",
                f"feature `{feature.name}` is another input on surface `{other.surface}`",
                feature.span,
                f"a {feature.level.word}'s {feature.kind.kind}",
                labels=[Label(other.span, f"a {other.level.word}'s {other.kind.kind}")],
                notes=["features of one name are one column of the data, on every surface that has them"],
                help="give one of them another name",
            )


def _shown(kind: str, width: int) -> str:
    return kind if width == 1 else f"{kind} of {width}"
