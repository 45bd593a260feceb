"""What each surface of a spec takes and costs, from the op graph alone."""

from __future__ import annotations

from typing import Any

from towerspec.check import Checked
from towerspec.ir.cost import graph_cost
from towerspec.passes import optimise


def explain_table(checked: Checked, level: int = 2) -> dict[str, dict[str, Any]]:
    """For each surface its inputs, outputs, parameters, FLOPs a request and a candidate, and bytes of weights.

    Raises `SpecError` where the spec has errors.
    """
    _, graph = checked.sound()
    rows: dict[str, dict[str, Any]] = {}
    for surface in graph.surfaces:
        sliced = optimise(graph, surface, level)
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
