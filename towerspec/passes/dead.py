"""Dead: drops what no output needs."""

from __future__ import annotations

from towerspec.ir.graph import Graph


def remove_dead(graph: Graph) -> Graph:
    """Keeps the ancestors of the outputs, in their order."""
    return graph.without_dead()
