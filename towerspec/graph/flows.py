"""How wide each value of a spec is and at which level, read from the op graph."""

from __future__ import annotations

from collections.abc import Iterator

from towerspec.check.model import GROUPS, Model
from towerspec.graph.diagram import Flow
from towerspec.ir.graph import Graph, Op, natural_levels
from towerspec.ir.primitives import Param


class Flows:
    """Looks up what flows out of a statement: the value that other statements read of it."""

    def __init__(self, model: Model, graph: Graph) -> None:
        self.model = model
        self.sole = dict(_sole_inputs(model))
        self.levels = natural_levels(graph)
        self.owners: dict[str, set[str]] = {}
        self._units = _Units(model)
        self._out: dict[str, list[Op]] = {}
        self._collect(graph)

    def _collect(self, graph: Graph) -> None:
        unit = {op.id: self._units.of(op.scope) for op in graph.ops}
        read = {i for op in graph.ops for i in op.inputs if unit[i] != unit[op.id]}
        read.update(i for o in graph.outputs for i in (o.logit, o.prediction))
        for op in graph.ops:
            if op.owner:
                self.owners.setdefault(unit[op.id], set()).add(op.owner)
            if op.id in read and op.type.dtype == "float" and not isinstance(op.prim, Param):
                self._out.setdefault(unit[op.id], []).append(op)

    def of(self, key: str) -> Flow:
        """The flow out of a feature, a group, a statement, a layer of a tower or a fusion."""
        while key not in self._out and key in self.sole:  # nothing was computed: `concat` of one value is that value
            key = self.sole[key]
        if key not in self._out:
            return self._joined(key)
        ops = self._out[key]
        return Flow(max(self.levels[op.id] for op in ops), ops[-1].type.shape)

    def _joined(self, key: str) -> Flow:
        """A group that no statement reads as a whole."""
        members = [self.of(f.key) for f in self.model.group(key)] if key in GROUPS else []
        return Flow(GROUPS.get(key, max(GROUPS.values())), (sum(m.shape[-1] for m in members),))


class _Units:
    """Which statement an op's scope is a part of: the longest key that the scope begins with."""

    def __init__(self, model: Model) -> None:
        self.keys = set(GROUPS) | set(model.features) | {f"tables.{name}" for name in model.tables}
        self.keys.update(n.key for n in model.trunk)
        for surface in model.surfaces.values():
            self.keys.update(n.key for n in surface.nodes)
            for path in surface.tower.walk():
                self.keys.update(f"{path.key}.layers.{i}" for i in range(len(path.params.layers)))
                self.keys.update(key for _, key in path.fuse_keys())
                self.keys.update(path.head_key(head) for head in path.heads)

    def of(self, scope: str) -> str:
        at = scope
        while at not in self.keys and "." in at:
            at = at.rsplit(".", 1)[0]
        return at if at in self.keys else scope


def _sole_inputs(model: Model) -> Iterator[tuple[str, str]]:
    """Statements and groups that read one value only, with that value."""
    for group in GROUPS:
        members = model.group(group)
        if len(members) == 1:
            yield group, members[0].key
    for node in (*model.trunk, *(n for s in model.surfaces.values() for n in s.nodes)):
        if len({i.key for i in node.inputs}) == 1:
            yield node.key, node.inputs[0].key
