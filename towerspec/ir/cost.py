"""What a graph costs: parameters, bytes, and floating-point operations a request and a candidate."""

from __future__ import annotations

from dataclasses import dataclass

from towerspec.ir.graph import Graph, Op
from towerspec.ir.types import Level


@dataclass(frozen=True)
class Cost:
    """`parameters` counts numbers, `bytes` what a file holds of them; FLOPs are a row of their level.

    A branch counts all of its arms' parameters, and the FLOPs of its most expensive arm: a request runs one.
    """

    parameters: int
    bytes: int
    request_flops: int
    candidate_flops: int


def op_flops(graph: Graph) -> dict[str, int]:
    """Each op's floating-point operations a row; constants are computed once, at compile time, and count nothing."""
    return {op.id: op.prim.flops(graph.types(op), op.type) if op.type.level > Level.CONSTANT else 0 for op in graph.ops}


def graph_cost(graph: Graph) -> Cost:
    """The cost of a slice, from its primitives alone."""
    flops = op_flops(graph)
    params = graph.params
    return Cost(
        parameters=sum(p.numel for _, p in params),
        bytes=sum(op.type.bytes for op in stored(graph)),
        request_flops=_path_flops(graph, flops, Level.REQUEST),
        candidate_flops=_path_flops(graph, flops, Level.CANDIDATE),
    )


def stored(graph: Graph) -> list[Op]:
    """The constants that a file holds: those that are left when arithmetic of constants has been carried out."""
    read = {i for op in graph.ops if op.type.level > Level.CONSTANT for i in op.inputs}
    read |= {i for o in graph.outputs for i in (o.logit, o.prediction)}
    return [op for op in graph.ops if op.id in read and op.type.level == Level.CONSTANT]


def _path_flops(graph: Graph, flops: dict[str, int], level: Level) -> int:
    by_region: dict[tuple[str, ...], int] = {}
    for op in graph.ops:
        if op.type.level == level:
            by_region[op.region] = by_region.get(op.region, 0) + flops[op.id]
    return _most(by_region, ())


def _most(by_region: dict[tuple[str, ...], int], at: tuple[str, ...]) -> int:
    branches: dict[str, set[str]] = {}
    for region in by_region:
        if len(region) > len(at) and region[: len(at)] == at:
            branches.setdefault(region[len(at)].split("=")[0], set()).add(region[len(at)])
    deeper = sum(max(_most(by_region, (*at, arm)) for arm in arms) for arms in branches.values())
    return by_region.get(at, 0) + deeper
