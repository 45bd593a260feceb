"""What each surface of a spec takes and costs, from the op graph alone."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from towerspec.check import Checked
from towerspec.cpu import this_cpu
from towerspec.ir.cost import graph_cost
from towerspec.ir.graph import Graph
from towerspec.ir.primitives import Input, Param
from towerspec.ir.types import Level
from towerspec.passes import optimise, stages


def explain_table(checked: Checked, level: int = 2) -> dict[str, dict[str, Any]]:
    """For each surface its inputs, outputs, parameters, FLOPs a request and a candidate, and bytes of weights.

    Raises `SpecError` where the spec has errors.
    """
    _, graph = checked.sound()
    rows: dict[str, dict[str, Any]] = {}
    for surface in graph.surfaces:
        sliced = optimise(graph, surface, level, cpu=this_cpu())
        cost = graph_cost(sliced)
        rows[surface] = {
            "inputs": [i.feature for _, i in sliced.inputs],
            "outputs": [o.name for o in sliced.outputs],
            "parameters": cost.parameters,
            "own_parameters": sum(p.numel for op, p in sliced.params if op.owner == surface),
            "flops": {"request": cost.request_flops, "candidate": cost.candidate_flops},
            "bytes": cost.bytes,
        }
    return rows


def explain_passes(
    checked: Checked, surface: str, level: int = 2, without: Collection[str] = (), cpu: str = "any"
) -> list[dict[str, Any]]:
    """What a surface's graph is after each pass: operations, FLOPs and bytes moved, for a request and for a candidate.

    `weights` is the bytes of what its file holds. A pass that changes nothing has the numbers of the one before.
    """
    _, graph = checked.sound()
    return [{"pass": name, **_size(made)} for name, made in stages(graph, surface, level, without, cpu=cpu)]


def _size(graph: Graph) -> dict[str, Any]:
    cost = graph_cost(graph)
    work = [op for op in graph.ops if op.type.level > Level.CONSTANT and not isinstance(op.prim, (Input, Param))]
    moved = dict.fromkeys((Level.REQUEST, Level.CANDIDATE), 0)
    for op in work:
        moved[op.type.level] += op.prim.traffic(graph.types(op), op.type)
    return {
        "ops": {level.word: sum(op.type.level == level for op in work) for level in moved},
        "flops": {"request": cost.request_flops, "candidate": cost.candidate_flops},
        "bytes": {level.word: count for level, count in moved.items()},
        "weights": cost.bytes,
    }
