"""What a spec declares and no head needs: warnings about it, and the model without it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from towerspec.check.model import GROUPS, Model, Node
from towerspec.check.topology import all_nodes, readers_of, tower_reads
from towerspec.diagnostics import Diagnostic, Source, Span
from towerspec.layers.features import Coded


def unused(model: Model, main: Source, strict: bool) -> list[Diagnostic]:
    """A warning for each value that reaches no head and each feature and table that nothing reads.

    An included file serves other models too, so that only those of the model's own file count; with `strict` all do,
    as errors.
    """
    found = [
        Diagnostic(code, message, span, label, help=help_, severity="error" if strict else "warning")
        for code, message, span, label, help_ in (*_dead(model), *_unread(model))
        if strict or span.source is main
    ]
    return sorted(found, key=lambda d: d.span.start if d.span else 0)


Found = tuple[str, str, Span, str, str]


def _dead(model: Model) -> Iterator[Found]:
    """The last value of each chain that ends short of a tower: the rest of it follows from that one."""
    readers = readers_of(model)
    for node in all_nodes(model):
        if node.key not in readers:
            name = node.key.rsplit(".", 1)[-1]
            yield (
                "T402",
                f"`{name}` reaches no head",
                node.name_span,
                "computed and never used",
                "use it, or remove the line",
            )


def _unread(model: Model) -> Iterator[Found]:
    readers = readers_of(model)
    groups = {group for group in GROUPS if group not in readers}
    for feature in model.features.values():
        if not readers.get(feature.key, set()) - groups:
            encoder = feature.kind.kind == "sequence"
            help_ = "give it to an encoder such as `pooling`" if encoder else "use it, or remove the line"
            yield "T403", f"feature `{feature.name}` is never used", feature.span, "no value reads it", help_
    tables = _tables(model)
    for table in model.tables.values():
        if table.name not in tables:
            help_ = "use it, or remove the line"
            yield "T403", f"table `{table.name}` is never used", table.span, "no feature reads it", help_


def _tables(model: Model) -> set[str | None]:
    return {f.kind.table for f in model.features.values() if isinstance(f.kind, Coded)}


def needed(model: Model, starts: Iterable[str]) -> set[str]:
    """The keys of the values and features that these are computed from, these included."""
    reads = {group: [f.key for f in model.group(group)] for group in GROUPS}
    reads |= {node.key: [i.key for i in node.inputs] for node in all_nodes(model)}
    keys, left = set(starts), list(starts)
    while left:
        fresh = [key for key in reads.get(left.pop(), ()) if key not in keys]
        keys.update(fresh)
        left += fresh
    return keys


def without_unused(model: Model) -> Model:
    """The model of what its heads need: an unused feature is no input of it, and an unused value none of its parts."""
    keys = needed(model, [key for surface in model.surfaces.values() for key in tower_reads(surface)])

    def kept(nodes: Iterable[Node]) -> tuple[Node, ...]:
        return tuple(node for node in nodes if node.key in keys)

    surfaces = {name: replace(surface, nodes=kept(surface.nodes)) for name, surface in model.surfaces.items()}
    features = {key: feature for key, feature in model.features.items() if key in keys}
    model = replace(model, features=features, trunk=kept(model.trunk), surfaces=surfaces)
    tables = _tables(model)
    return replace(model, tables={name: table for name, table in model.tables.items() if name in tables})
