"""A model's parameters in float64, as far as anything needs them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

from towerspec.ir.graph import Graph


class Wide(Mapping[str, Tensor]):
    """Parameters by path, each widened when it is first asked for, and then kept.

    A table from which nothing but rows is read stays as it is: whoever reads rows widens those.
    """

    def __init__(self, graph: Graph, weights: Mapping[str, Tensor]) -> None:
        self._weights, self._made = weights, dict[str, Tensor]()
        self._tables = {p.path for op, p in graph.params if op.id in graph.tables}

    def __getitem__(self, path: str) -> Tensor:
        if path not in self._made:
            x = self._weights[path]
            self._made[path] = x.double() if x.is_floating_point() and path not in self._tables else x
        return self._made[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)
