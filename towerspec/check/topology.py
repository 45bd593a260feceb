"""What only the whole graph shows: cycles, values that reach no head, unused features, towers without a trunk.

networkx finds cycles, and the order of what is used before the line that defines it. It takes longer to import than
a spec does to check, and a text whose lines stand in order has no cycle, so it is imported where a text has not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from towerspec.check.model import GROUPS, FeatureDef, Model, Node, SurfaceDef
from towerspec.diagnostics import Label, Report
from towerspec.layers.features import Coded

Readers = Mapping[str, set[str]]  # for each key that is read, the keys that read it


def in_order(nodes: Iterable[Node], report: Report) -> list[Node]:
    """The nodes, each after what it reads; those on a cycle are reported and left out."""
    by_key = {node.key: node for node in nodes}
    later = set(by_key)
    for node in by_key.values():
        if any(i.key in later for i in node.inputs):
            return _sorted(by_key, report)
        later.remove(node.key)
    return list(by_key.values())


def _sorted(by_key: Mapping[str, Node], report: Report) -> list[Node]:
    import networkx as nx

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


def readers_of(model: Model) -> Readers:
    """What reads each value that is read; a tower is `surfaces.<name>.tower`."""
    found: dict[str, set[str]] = {}
    reads = [(group, [f.key for f in model.group(group)]) for group in GROUPS]
    reads += [(node.key, [i.key for i in node.inputs]) for node in _nodes(model)]
    reads += [(surface.tower.key, tower_reads(surface)) for surface in model.surfaces.values()]
    for reader, keys in reads:
        for key in keys:
            found.setdefault(key, set()).add(reader)
    return found


def _nodes(model: Model) -> Iterator[Node]:
    yield from model.trunk
    for surface in model.surfaces.values():
        yield from surface.nodes


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
    # Where no tower stands on the trunk, all of it would look dead.
    if not cut and model.surfaces and _from_trunk(model, report):
        readers = readers_of(model)
        _dead(model, readers, report)
        _unused(model, readers, report)
    return model


def _dead(model: Model, readers: Readers, report: Report) -> None:
    """Reports the last value of each chain that ends short of a tower: the rest of it follows from that one."""
    for node in _nodes(model):
        if node.key not in readers:
            name = node.key.rsplit(".", 1)[-1]
            report.error(
                "T402",
                f"`{name}` reaches no head",
                node.name_span,
                "computed and never used",
                help="use it, or remove the line",
            )


def _unused(model: Model, readers: Readers, report: Report) -> None:
    unread = {group for group in GROUPS if group not in readers}
    for feature in model.features.values():
        if not readers.get(feature.key, set()) - unread:
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


def _from_trunk(model: Model, report: Report) -> bool:
    sound, trunk = True, {node.key for node in model.trunk}
    for surface in model.surfaces.values():
        start, above = surface.start, set[str]()
        for node in surface.nodes:  # each comes after what it reads
            if any(i.key in trunk or i.key in above for i in node.inputs):
                above.add(node.key)
        if start.key not in trunk and start.key not in above:
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
