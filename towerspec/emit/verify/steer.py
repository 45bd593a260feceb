"""Inputs that lead where a surface can go: each leaf, each class of id and number, each length of a list."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from towerspec.emit.verify.leaves import Leaf, Tree
from towerspec.emit.verify.trials import KEYS, SMALL, Numbers, chains, id_classes
from towerspec.ir.graph import Graph
from towerspec.runtime.samples import COUNTS

LENGTHS = 129  # of a list up to 128 long every length is tried, of a longer one so many
FEW = 16  # requests, up to which each has several candidates
MISSING = -1
CANDIDATES = (2, 3, 1, 2)  # of requests in turn
LEAST = 3  # candidates of a leaf
Memo = dict[tuple[str, ...], Numbers]


@dataclass(frozen=True)
class Batch:
    """One call: its inputs by name, in order, and the candidates of each request."""

    inputs: dict[str, Tensor]
    counts: tuple[int, ...]


class Steering:
    """What is known of a surface's inputs: their entries in the manifest, the leaves, and what each can be."""

    def __init__(
        self,
        graph: Graph,
        entries: Sequence[Mapping[str, Any]],
        weights: Mapping[str, Tensor],
        memo: Memo | None = None,
    ) -> None:
        self.entries, self.tree = entries, Tree(graph)
        self.levels = {e["level"] for e in entries}
        self.requests = {e["name"] for e in entries if e["level"] == "request"}
        memo = {} if memo is None else memo
        self.numbers: dict[str, Numbers] = {}
        for name, chain in chains(graph).items():
            key = tuple(op.id for op in chain)
            if key not in memo:  # surfaces share most of their inputs
                memo[key] = Numbers(graph, chain, weights)
            self.numbers[name] = memo[key]
        keys = self.tree.keys
        self.ids = {
            e["name"]: id_classes(e, KEYS if e["name"] in keys else SMALL)
            for e in entries
            if e["dtype"] == "int64" and e["name"] != COUNTS
        }
        self.ranges = {e["name"]: e.get("range", (0, 1))[1] for e in entries if e["name"] in self.ids}
        self.hashed = {e["name"] for e in entries if e.get("ids") == "hash"}
        self.lengths = {e["name"]: e["shape"][1] for e in entries if e["name"] in self.ids and len(e["shape"]) > 1}

    # ---- calls ---------------------------------------------------------------------------------

    def classes(self, seed: int) -> Batch:
        """Requests of every leaf, in which each input is of each class at least once; two have no candidates."""
        requests = _round(self._requests(), self._most("request"))
        counts = [CANDIDATES[i % len(CANDIDATES)] if len(requests) <= FEW else 1 for i in range(len(requests))]
        for leaf in self.tree.leaves:
            mine = [i for i, (of, _) in enumerate(requests) if of == leaf]
            needed = max([LEAST, *(len(self.ids[k]) for k in self._cells(leaf, "candidate"))])
            if mine:
                counts[mine[0]] = LEAST  # together in one request
            for k in range(max(0, needed - sum(counts[i] for i in mine)) if mine else 0):
                counts[mine[k % len(mine)]] += 1
        for k in range(max(0, self._most("candidate") - sum(counts))):
            counts[k % len(counts)] += 1
        made = self._batch(requests, counts, seed, _ordinary, odd=1.0)
        return self._with_idle(made, (0, len(requests) - 1)) if len(self.levels) > 1 else made

    def every_length(self, rows: int, seed: int) -> Batch | None:
        """Rows in which each list has each length, one candidate a request; none where there are no lists.

        There are `rows` at most: of longer lists so many lengths, from none to full.
        """
        if not self.lengths:
            return None
        requests = _round(self._requests(), min(max(self.lengths.values()) + 1, LENGTHS, rows))
        return self._batch(requests, [1] * len(requests), seed, _ordinary, odd=0.1)

    def wide(self, rows: int, seed: int) -> Batch:
        """Rows of every leaf whose numbers grow from ordinary ones to a thousand standard deviations."""
        requests = _round(self._requests(), -(-rows // LEAST))
        return self._batch(requests, [LEAST] * len(requests), seed, grown(3.0), odd=0.1)

    def of_leaf(self, leaf: Leaf, requests: int, candidates: int, seed: int, spread: Spread) -> Batch | None:
        """Requests of one leaf with ids that are mostly known; none where nothing is known to lead there."""
        keys = self._keys(leaf)
        if not keys:
            return None
        rows = [(leaf, keys[i % len(keys)]) for i in range(requests)]
        return self._batch(rows, [candidates] * len(rows), seed, spread, odd=0.06)

    def of_rows(self, columns: Mapping[str, Tensor]) -> Batch:
        """Rows that are given by feature name, each a request with one candidate."""
        count = len(next(iter(columns.values())))
        counts = (1,) * count if "request" in self.levels else (count,)
        given = {**columns, COUNTS: torch.ones(count, dtype=torch.int64)}
        return Batch({e["name"]: given[e["name"]] for e in self.entries}, counts)

    def _requests(self) -> list[tuple[Leaf, dict[str, int]]]:
        """Each leaf with all values of the keys that lead there, the leaves in turn."""
        led = [[(leaf, keys) for keys in self._keys(leaf)] for leaf in self.tree.leaves]
        turns = [of[i] for i in range(max(map(len, led))) for of in led if i < len(of)]
        return turns or [(self.tree.leaves[0], {})]

    def _most(self, level: str) -> int:
        return max((len(self._classes_of(e)) for e in self._of(level)), default=1)

    def _with_idle(self, batch: Batch, after: Sequence[int]) -> Batch:
        """The same with requests that have no candidates, each behind the one that it is a copy of."""
        order = sorted([*range(len(batch.counts)), *after])
        idle = [i for i in range(1, len(order)) if order[i] == order[i - 1]]
        counts = tuple(0 if i in idle else batch.counts[of] for i, of in enumerate(order))
        made = {name: x[order] if name in self.requests else x for name, x in batch.inputs.items()}
        return Batch({name: torch.tensor(counts) if name == COUNTS else x for name, x in made.items()}, counts)

    # ---- how they are made ---------------------------------------------------------------------

    def _of(self, level: str) -> list[Mapping[str, Any]]:
        return [e for e in self.entries if e["level"] == level and e["name"] != COUNTS]

    def _classes_of(self, entry: Mapping[str, Any]) -> Tensor:
        name = entry["name"]
        return self.ids[name] if name in self.ids else self.numbers[name].classes

    def _cells(self, leaf: Leaf, level: str) -> list[str]:
        wanted = self.tree.cells_of(leaf)
        return [e["name"] for e in self._of(level) if e["name"] in wanted and e["name"] in self.ids]

    def _keys(self, leaf: Leaf) -> list[dict[str, int]]:
        """Values of the keys that lead to a leaf, and with them each value of what chooses its calibration."""
        found = self.tree.assignments(leaf, self.ranges)
        for name in self._cells(leaf, "request"):
            if found and name not in found[0]:
                ids = self.ids[name].tolist()
                found = [{**found[i % len(found)], name: ids[i % len(ids)]} for i in range(max(len(found), len(ids)))]
        return found

    def _batch(
        self,
        requests: Sequence[tuple[Leaf, Mapping[str, int]]],
        counts: Sequence[int],
        seed: int,
        spread: Spread,
        odd: float,
    ) -> Batch:
        """Inputs of some requests; a share `odd` of the values goes through the classes in turn."""
        if "candidate" not in self.levels:
            counts = [1] * len(counts)
        generator = torch.Generator().manual_seed(seed)
        owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
        rows = {"request": len(counts), "candidate": sum(counts)}
        scale = {level: spread(n, generator) for level, n in rows.items()}
        made: dict[str, Tensor] = {}
        for entry in self.entries:
            name, n = entry["name"], rows[entry["level"]]
            if name == COUNTS:
                made[name] = torch.tensor(counts, dtype=torch.int64)
            elif name in self.lengths:
                made[name] = self._list(name, n, generator)
            elif name in self.ids:
                made[name] = self._ids(name, n, odd, generator)
            else:
                made[name] = self._number(name, n, odd, scale[entry["level"]], generator)
        self._lead(made, requests, owner)
        return Batch(made, tuple(counts) if "request" in self.levels else (sum(counts),))

    def _lead(self, made: dict[str, Tensor], requests: Sequence[tuple[Leaf, Mapping[str, int]]], owner: Tensor) -> None:
        """Sets the keys of each request's leaf, and lets what chooses its calibration take each value in turn."""
        for i, (_, keys) in enumerate(requests):
            for name, value in keys.items():
                made[name][i] = value
        for leaf in self.tree.leaves:
            of = torch.tensor([leaf == other for other, _ in requests])[owner].nonzero().flatten()
            for name in self._cells(leaf, "candidate"):
                made[name][of] = self.ids[name][torch.arange(len(of)) % len(self.ids[name])]

    def _ids(self, name: str, n: int, odd: float, generator: torch.Generator) -> Tensor:
        return _mixed(self.ids[name], self._known(name, [n], generator), odd, generator)

    def _known(self, name: str, shape: list[int], generator: torch.Generator) -> Tensor:
        last = 2**62 if name in self.hashed else self.ranges[name]
        return torch.randint(0, last + 1, shape, generator=generator)

    def _list(self, name: str, n: int, generator: torch.Generator) -> Tensor:
        """Lists of lengths from none to full, with ids of every class and missing ones inside."""
        most = self.lengths[name]
        known = self._known(name, [n, most], generator)
        strange = torch.rand(n, most, generator=generator) < 0.15
        classes = _in_turn(self.ids[name], n * most, generator).reshape(n, most)
        lengths = torch.linspace(0, most, n).round().long() if n > 1 else torch.tensor([most] * n)
        lengths = lengths[torch.randperm(n, generator=generator)].reshape(n, 1)
        at = torch.arange(most)
        strange &= at != lengths - 1  # a missing id at the end would make the list shorter
        return torch.where(at < lengths, torch.where(strange, classes, known), MISSING)

    def _number(self, name: str, n: int, odd: float, scale: Tensor, generator: torch.Generator) -> Tensor:
        of = self.numbers[name]
        made = of.draw(torch.randn(n, of.width, generator=generator) * scale.reshape(-1, 1))
        if of.shape:  # some of a vector's numbers are of a class, and sometimes all
            some = of.classes[torch.randint(len(of.classes), made.shape, generator=generator)]
            made = torch.where(torch.rand(made.shape, generator=generator) < 0.05, some, made)
        return _mixed(of.classes, made, odd, generator)


Spread = Callable[[int, torch.Generator], Tensor]  # how large the numbers of each row are


def _ordinary(n: int, generator: torch.Generator) -> Tensor:
    return torch.ones(n)


def grown(decades: float) -> Spread:
    """Rows of which each is of another size, up to so many decades above the ordinary; half of them are near it."""
    return lambda n, generator: 10.0 ** (decades * torch.rand(n, generator=generator).square())


def _mixed(classes: Tensor, ordinary: Tensor, odd: float, generator: torch.Generator) -> Tensor:
    """Half a share `odd` of the rows is of some class; with a share of 1, each class is there at least once."""
    n = len(ordinary)
    order = torch.randperm(n, generator=generator)
    chosen = torch.rand(n, generator=generator) < 0.5 * odd
    chosen[order[: len(classes)]] |= odd == 1.0
    turns = torch.empty(n, dtype=classes.dtype)
    turns[order] = _in_turn(classes, n, generator)
    rest = [1] * (ordinary.dim() - 1)
    return torch.where(chosen.reshape(-1, *rest), turns.reshape(-1, *rest), ordinary)


def _round(requests: Sequence[Any], least: int) -> list[Any]:
    """The same requests again and again, at least so many of them."""
    return [requests[i % len(requests)] for i in range(max(least, len(requests)))]


def _in_turn(values: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Each of some values equally often, in no order `[n]`."""
    turns = [values[torch.randperm(len(values), generator=generator)] for _ in range(-(-n // len(values)))]
    return torch.cat([values[:0], *turns])[:n]
