"""What a surface's calls reach, and in words what they don't."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from towerspec.emit.verify.rounding import SINGLE
from towerspec.emit.verify.steer import MISSING, Batch, Steering
from towerspec.ir.graph import Graph, Op
from towerspec.ir.primitives import Bucketize, Embed, Interpolate

TELLING = 0.01  # a row counts where float32 is compared more closely than this


@dataclass(frozen=True)
class Line:
    """A line through knots: the op ids of where it is read, of its knots, and of the cell and table they are from."""

    op: Op
    x: str
    knots: str
    cell: str | None
    table: str


class Coverage:
    """Collects call after call; `watched` are the ops whose values it has to see."""

    def __init__(self, graph: Graph, steering: Steering) -> None:
        self.graph, self.steering, self.tree = graph, steering, steering.tree
        self.lines = [self._line(op) for op in graph.ops if isinstance(op.prim, Interpolate)]
        self.buckets = [op for op in graph.ops if isinstance(op.prim, Bucketize)]
        self.watched = {branch.key for branch in self.tree.branches.values()} | {op.id for op in self.buckets}
        for line in self.lines:
            self.watched |= {line.x, line.knots, line.table} | ({line.cell} if line.cell else set())
        self._hits: dict[str, set[tuple[int, int]]] = {}
        self._totals: dict[str, int] = {}

    def _line(self, op: Op) -> Line:
        x, knots, _ = op.inputs
        of = self.graph.by_id[knots]
        cell, table = of.inputs if isinstance(of.prim, Embed) else (None, knots)
        return Line(op, x, knots, cell, table)

    def add(self, batch: Batch, seen: Mapping[str, Tensor], sizes: Tensor) -> list[Tensor]:
        """Counts a call; returns the rows of each leaf."""
        telling = SINGLE.allowed(sizes) < TELLING
        n = len(sizes)
        of_leaf = [self.tree.rows_in(leaf.region, seen, n) for leaf in self.tree.leaves]
        for leaf, rows in zip(self.tree.leaves, of_leaf, strict=True):
            words = f"leaf `{leaf.name}`" if leaf.name else "rows whose numbers are small enough for float32 to tell"
            self._hit(words, 1, torch.zeros(n), torch.zeros(n), rows & telling)
        for line in self.lines:
            self._intervals(line, seen, telling & self.tree.rows_in(line.op.region, seen, n))
        for op in self.buckets:
            edges = self.graph.by_id[op.inputs[1]].type.numel
            name = op.scope.rsplit(".", 1)[-1]
            self._hit(f"`{name}`: # of {edges + 1} buckets", edges + 1, torch.zeros(n), seen[op.id], telling)
        live = {"request": torch.tensor(batch.counts) > 0, "candidate": torch.ones(n, dtype=torch.bool)}
        for entry in self.steering.entries:
            if (name := entry["name"]) in self.steering.lengths:
                most, ids = self.steering.lengths[name], batch.inputs[name]
                lengths = ((ids != MISSING) * torch.arange(1, most + 1)).amax(-1)
                rows = live[entry["level"]] if len(live[entry["level"]]) == len(ids) else torch.ones(len(ids)) > 0
                words = f"`{name}`: lists of # of {most + 1} lengths"
                self._hit(words, most + 1, torch.zeros(len(ids)), lengths, rows)
        return [rows.nonzero().flatten() for rows in of_leaf]

    def _intervals(self, line: Line, seen: Mapping[str, Tensor], rows: Tensor) -> None:
        table = seen[line.table].reshape(-1, seen[line.table].shape[-1])
        total = int((table.diff() > 0).sum()) + 2 * len(table)
        place = (seen[line.x] >= seen[line.knots]).sum(-1)
        cell = seen[line.cell] if line.cell else torch.zeros(len(place))
        name = line.op.scope.removeprefix(f"surfaces.{self.graph.surface}.tower.").removesuffix(".calibrate")
        name = name.replace("_else.", "else.")
        of = f" of {len(table)} cells" if len(table) > 1 else ""
        self._hit(f"`{name}`: # of {total} intervals between the knots{of}", total, cell, place, rows)

    def _hit(self, words: str, total: int, cell: Tensor, place: Tensor, rows: Tensor) -> None:
        self._totals[words] = total
        found = torch.stack([cell.long(), place.long()], -1)[rows].unique(dim=0).tolist() if bool(rows.any()) else []
        self._hits.setdefault(words, set()).update((c, p) for c, p in found)

    def unreached(self) -> tuple[str, ...]:
        """What no row reached, in the order of the graph."""
        return tuple(
            words.replace("#", str(len(self._hits[words])), 1)
            for words, total in self._totals.items()
            if len(self._hits[words]) < total
        )
