"""Whether a graph is well formed; run before and after every pass, in tests and under a flag."""

from __future__ import annotations

from towerspec.ir.graph import Graph, Op
from towerspec.ir.primitives import Input, Merge, Param
from towerspec.ir.types import ShapeError


class GraphError(AssertionError):
    """The compiler broke its own rules; always a bug in towerspec, or in a custom layer or pass."""


def verify(graph: Graph) -> Graph:
    """Returns the graph, or raises `GraphError` naming the first op that breaks a rule.

    The rules: ids are unique and defined before use; every type is what its primitive infers; no op mixes two
    surfaces; a value made in a branch arm leaves it through a merge; outputs exist and belong to their surface.
    """
    seen: dict[str, Op] = {}
    paths: dict[str, str] = {}
    for op in graph.ops:
        if op.id in seen:
            raise GraphError(f"%{op.id} is defined twice")
        if isinstance(op.prim, Param) and paths.setdefault(op.prim.path, op.id) != op.id:
            raise GraphError(f"parameter {op.prim.path} has two ops")
        _verify_op(op, seen)
        seen[op.id] = op
    for output in graph.outputs:
        for id_ in (output.logit, output.prediction):
            if id_ not in seen:
                raise GraphError(f"output {output.surface}.{output.name} names %{id_}, which is not there")
            if seen[id_].owner not in (None, output.surface):
                raise GraphError(f"output {output.surface}.{output.name} is {seen[id_].owner}'s")
    return graph


def _verify_op(op: Op, seen: dict[str, Op]) -> None:
    missing = [i for i in op.inputs if i not in seen]
    if missing:
        raise GraphError(f"%{op.id} reads %{missing[0]} before it is defined")
    operands = [seen[i] for i in op.inputs]
    try:
        inferred = op.prim.infer(*(o.type for o in operands))
    except ShapeError as error:
        raise GraphError(f"%{op.id}: {error}") from error
    if inferred != op.type:
        raise GraphError(f"%{op.id} says {op.type} and is {inferred}")
    owners = {o.owner for o in operands if o.owner} | ({op.owner} if op.owner else set())
    if len(owners) > 1:
        raise GraphError(f"%{op.id} mixes the surfaces {' and '.join(sorted(owners))}")
    if owners and op.owner is None:
        raise GraphError(f"%{op.id} reads what belongs to {owners.pop()} but belongs to the trunk")
    if not isinstance(op.prim, (Merge, Param, Input)):
        for o in operands:
            if o.region != op.region[: len(o.region)]:
                raise GraphError(f"%{op.id} reads %{o.id} from inside another branch arm")
