"""What only the whole graph shows: cycles, towers without a trunk, surfaces without an input.

networkx finds cycles, and the order of what is used before the line that defines it. It takes longer to import than
a spec does to check, and a text whose lines stand in order has no cycle, so it is imported where a text has not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from towerspec.check.model import GROUPS, FeatureDef, Model, Node, SurfaceDef
from towerspec.diagnostics import Label, Report
from towerspec.syntax.constants import circle

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
    report.error(
        "T401",
        f"`{name}` depends on itself",
        read.span,
        "this leads back to it",
        labels=[Label(node.name_span, "on the way") for node in rest[:4]],
        notes=[f"the cycle is {circle([node.key.rsplit('.', 1)[-1] for node in nodes])}"],
    )


def readers_of(model: Model) -> Readers:
    """What reads each value that is read; a tower is `surfaces.<name>.tower`."""
    found: dict[str, set[str]] = {}
    reads = [(group, [f.key for f in model.group(group)]) for group in GROUPS]
    reads += [(node.key, [i.key for i in node.inputs]) for node in all_nodes(model)]
    reads += [(surface.tower.key, tower_reads(surface)) for surface in model.surfaces.values()]
    for reader, keys in reads:
        for key in keys:
            found.setdefault(key, set()).add(reader)
    return found


def all_nodes(model: Model) -> Iterator[Node]:
    """The trunk's values, then each surface's."""
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
    if not cut and model.surfaces and _from_trunk(model, report):
        _inputs(model, report)
    return model


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


def _inputs(model: Model, report: Report) -> None:
    """Reports each surface whose heads depend on no input: all that it reads is on others, or constant."""
    names = list(model.surfaces)
    everywhere = (1 << len(names)) - 1
    bit = {name: 1 << i for i, name in enumerate(names)}
    on = {}  # for each key the surfaces that have an input below it, one bit each
    for feature in model.features.values():
        some = (feature.surface,) if feature.surface else feature.kind.on
        on[feature.key] = everywhere if some is None else sum(bit.get(name, 0) for name in set(some))
    for group in GROUPS:
        on[group] = _joined(on, [f.key for f in model.group(group)])
    for node in all_nodes(model):  # each comes after what it reads
        on[node.key] = _joined(on, [i.key for i in node.inputs])
    for surface in model.surfaces.values():
        if not _joined(on, tower_reads(surface)) & bit[surface.name]:
            report.error(
                "T413",
                f"surface `{surface.name}` has no input",
                surface.span,
                "scores all candidates alike",
                notes=["all that its heads depend on is constant, or a feature of other surfaces"],
                help=f"fuse in a feature that it has, or add `{surface.name}` to the `on` of one that its tower reads",
            )


def _joined(on: Mapping[str, int], keys: Iterable[str]) -> int:
    joined = 0
    for key in keys:
        joined |= on.get(key, 0)
    return joined


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
