"""A tower's cards and edges: its layers, the fusions at their depths, heads, and the arms of its branch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from towerspec.check.model import BranchDef, FuseDef, HeadDef, Model, Operand, PathDef
from towerspec.graph.diagram import Edge, Flow, Node, Path
from towerspec.graph.flows import Flows
from towerspec.graph.words import arm_words, calibration_words, dense_words, head_words, options
from towerspec.layers.heads import Product


class TowerMaker:
    """Collects a tower's cards and edges, path by path; `at` is the edge that the next card continues."""

    def __init__(
        self, model: Model, flows: Flows, id_: Callable[[str], str], edge: Callable[[Operand, str], Edge]
    ) -> None:
        self.model, self.flows, self.id, self.edge = model, flows, id_, edge
        self.nodes: list[Node] = []
        self.edges: list[Edge] = []

    def make(self, path: PathDef, at: Edge, heads: dict[str, str], first: tuple[str, ...] = ()) -> Path:
        """A path that starts from `at`; `heads` are those around it, by name, which a product may multiply."""
        spine = list(first)
        for depth in range(len(path.params.layers) + 1):
            if depth:
                at = self._dense(path, depth - 1, at, spine)
            for fuse, key in path.fuse_keys():
                if fuse.after == depth:
                    at = self._fuse(key, fuse, at, spine)
        heads = dict(heads)
        ordered = sorted(path.heads, key=lambda head: isinstance(head.kind, Product))
        made = tuple(self._head(path, head, at, heads) for head in ordered)
        arms = self._branch(path, path.branch, at, heads, spine) if path.branch else ()
        return Path(tuple(spine), made, arms)

    def _on(self, node: Node, at: Edge, spine: list[str], flow: Flow | None = None) -> Edge:
        """Puts a card on the spine, and gives the edge that leaves it."""
        self.nodes.append(node)
        self.edges.append(replace(at, target=node.id))
        spine.append(node.id)
        return Edge(node.id, "", flow or at.flow)

    def _dense(self, path: PathDef, index: int, at: Edge, spine: list[str]) -> Edge:
        key = f"{path.key}.layers.{index}"
        flow = self.flows.of(key)
        node = Node(self.id(key), "dense", f"dense {flow.dims}", dense_words(path), level=flow.level)
        return self._on(node, at, spine, flow)

    def _fuse(self, key: str, fuse: FuseDef, at: Edge, spine: list[str]) -> Edge:
        kind = fuse.fusion
        flow = self.flows.of(key)
        words = " · ".join([f"fuse {fuse.value.key.rsplit('.', 1)[-1]}", *options(kind)])
        node = Node(self.id(key), "fusion", kind.kind, words, level=flow.level)
        after = self._on(node, at, spine, flow)
        self.edges.append(self.edge(fuse.value, node.id))
        return after

    def _head(self, path: PathDef, head: HeadDef, at: Edge, heads: dict[str, str]) -> str:
        id_ = self.id(path.head_key(head))
        calibration = calibration_words(head, self.model)
        self.nodes.append(Node(id_, "head", head.name, head_words(head), level=at.flow.level, calibration=calibration))
        if head.parts:
            self.edges += [Edge(heads[p], id_, Flow(at.flow.level, (1,))) for p in head.parts if p in heads]
        else:
            self.edges.append(replace(at, target=id_))
        heads[head.name] = id_
        return id_

    def _branch(
        self, path: PathDef, branch: BranchDef, at: Edge, heads: dict[str, str], spine: list[str]
    ) -> tuple[Path, ...]:
        node = Node(
            self.id(f"{path.key}.{branch.name}") + "?", "branch", f"branch by {branch.name}", level=at.flow.level
        )
        at = self._on(node, at, spine)
        arms = []
        for arm in branch.arms:
            label = Node(f"{self.id(arm.path.key)}=", "arm", arm_words(branch, arm, self.model), level=at.flow.level)
            first: list[str] = []
            after = self._on(label, at, first)
            arms.append(self.make(arm.path, after, heads, tuple(first)))
        return tuple(arms)
