"""The leaves of a surface's branches: which rows take which, and which values of the keys lead there."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from towerspec.ir.graph import Graph
from towerspec.ir.primitives import Embed, Expand, Input, Merge, Param

OPTIONS = 6  # values of a key that are tried for one arm


@dataclass(frozen=True)
class Branch:
    """A branch's key, as an op id and as the input that it is, and the ids that each arm takes; of one, all others."""

    key: str
    feature: str | None
    arms: Mapping[str, tuple[int, ...]]

    def takes(self, arm: str, ids: Tensor) -> Tensor:
        """Which ids take an arm."""
        mine = self.arms[arm] or [i for listed in self.arms.values() for i in listed]
        inside = torch.isin(ids, torch.tensor(mine, dtype=ids.dtype))
        return inside if self.arms[arm] else ~inside

    def options(self, arm: str, last: int) -> list[int]:
        """Some ids that take an arm, of a key whose ids go to `last`: also an unknown and a missing one."""
        listed = {i for ids in self.arms.values() for i in ids}
        others = [i for i in range(min(last + 1, len(listed) + 2)) if i not in listed][:2]
        return list((self.arms[arm] or [last + 1, -1, *others])[:OPTIONS])


@dataclass(frozen=True)
class Leaf:
    """A path through the branches, each as `branch=arm`; the whole tower where there are none."""

    region: tuple[str, ...]

    @property
    def name(self) -> str:
        """The arms' labels, outermost first."""
        return " / ".join(part.rsplit("=", 1)[1].replace("_else", "else") for part in self.region)

    def holds(self, region: Sequence[str]) -> bool:
        """Whether what stands in a region is computed for the leaf's rows."""
        return self.region[: len(region)] == tuple(region)


class Tree:
    """The branches of a slice, and their leaves in the order of the text."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.branches: dict[str, Branch] = {}
        regions: dict[tuple[str, ...], None] = {}
        for op in graph.ops:
            if isinstance(op.prim, Merge):
                self.branches[op.prim.branch] = Branch(op.inputs[0], self._feature(op.inputs[0]), dict(op.prim.arms))
                regions |= {(*op.region, f"{op.prim.branch}={label}"): None for label, _ in op.prim.arms}
        inner = {region[:-1] for region in regions}
        self.leaves = [Leaf(region) for region in regions if region not in inner] or [Leaf(())]

    def _feature(self, id_: str) -> str | None:
        op = self.graph.by_id[id_]
        while isinstance(op.prim, Expand):
            op = self.graph.by_id[op.inputs[0]]
        return op.prim.feature if isinstance(op.prim, Input) else None

    def rows_in(self, region: Sequence[str], keys: Mapping[str, Tensor], n: int) -> Tensor:
        """Which of n rows take a region's arms; `keys` holds each branch's key `[N]` by op id."""
        found = torch.ones(n, dtype=torch.bool)
        for branch, arm in (part.rsplit("=", 1) for part in region):
            found &= self.branches[branch].takes(arm, keys[self.branches[branch].key])
        return found

    def leaf_of(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Each row's leaf as an index, of inputs that all have a row each."""
        n = len(next(iter(inputs.values())))
        keys = {b.key: inputs[b.feature or ""] for b in self.branches.values()}
        found = torch.zeros(n, dtype=torch.int64)
        for index, leaf in enumerate(self.leaves):
            found[self.rows_in(leaf.region, keys, n)] = index
        return found

    def assignments(self, leaf: Leaf, ranges: Mapping[str, int]) -> list[dict[str, int]]:
        """Values of the keys that lead to a leaf, each tried in turn; none where no value is known to lead there.

        `ranges` has the last id of each input.
        """
        options: dict[str, list[int]] = {}
        for branch, arm in (part.rsplit("=", 1) for part in leaf.region):
            of = self.branches[branch]
            if of.feature is None or of.feature not in ranges:
                continue
            found = options.setdefault(of.feature, []) + of.options(arm, ranges[of.feature])
            options[of.feature] = list(dict.fromkeys(found))
        for branch, arm in (part.rsplit("=", 1) for part in leaf.region):  # one key may be asked twice
            of = self.branches[branch]
            if of.feature in options:
                ids = torch.tensor(options[of.feature], dtype=torch.int64)
                options[of.feature] = ids[of.takes(arm, ids)].tolist()
        count = max((len(ids) for ids in options.values()), default=1)
        if not all(options.values()):
            return []
        return [{name: ids[i % len(ids)] for name, ids in options.items()} for i in range(count)]

    @property
    def keys(self) -> set[str]:
        """The inputs that choose an arm or a calibrator's cell."""
        branches = {b.feature for b in self.branches.values() if b.feature is not None}
        return branches.union(*self.cells.values())

    @functools.cached_property
    def cells(self) -> dict[tuple[str, ...], set[str]]:
        """The inputs that choose a row of a calibrator's parameters, by the region that it stands in."""
        found: dict[tuple[str, ...], set[str]] = {}
        for op in self.graph.ops:
            table = self.graph.by_id[op.inputs[1]].prim if isinstance(op.prim, Embed) else None
            if isinstance(table, Param) and not table.trainable:
                before = self.graph.ancestors([op.inputs[0]])
                names = {i.feature for of, i in self.graph.inputs if of.id in before}
                found.setdefault(op.region, set()).update(names)
        return found

    def cells_of(self, leaf: Leaf) -> set[str]:
        """The inputs that choose a calibrator's cell on a leaf's rows."""
        return {name for region, names in self.cells.items() if leaf.holds(region) for name in names}
