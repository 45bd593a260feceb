"""What the manifest says of a surface in fewer bits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from towerspec.ir.graph import Graph
from towerspec.ir.primitives import (
    Cast,
    Codes,
    Concat,
    Embed,
    EmbedBag,
    Linear,
    LinearInt8,
    LinearPacked,
    Param,
    ZeroRow,
)
from towerspec.ir.types import Level

MAX_ERROR = 0.02  # how far a prediction may be from the reference unless the user says otherwise
NAMES = {"float": "float32", "bf16": "bfloat16", "fp16": "float16", "int8": "int8"}


def is_rounded(graph: Graph) -> bool:
    """Whether the precision pass changed anything."""
    return any(isinstance(op.prim, (Cast, Codes)) for op in graph.ops)


def precision_entry(
    graph: Graph, cpu: str, max_error: float, difference: float, errors: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """How many linears and tables of an optimised surface have which type, and what that cost in the outputs.

    `errors` say so for each leaf and head, on rows of each kind.
    """
    linears = Counter(
        NAMES["int8" if isinstance(op.prim, LinearInt8) else op.type.dtype]
        for op in graph.ops
        if isinstance(op.prim, (Linear, LinearPacked, LinearInt8)) and op.type.level > Level.CONSTANT
    )
    tables = {i for op in graph.ops if isinstance(op.prim, (Embed, EmbedBag)) for i in _tables(graph, op.inputs[1])}
    kinds = Counter(NAMES[op.type.dtype] for op in graph.ops if op.id in tables and _is_learned(op.prim))
    return {
        "cpu": cpu,
        "linears": dict(sorted(linears.items())),
        "tables": dict(sorted(kinds.items())),
        "largest_difference": difference,
        "max_error": max_error,
        "errors": list(errors),
    }


def _tables(graph: Graph, id_: str) -> list[str]:
    """The tables that a look-up reads: several where they were joined, and what one was before a row became zeros."""
    op = graph.by_id[id_]
    return (
        [i for table in op.inputs for i in _tables(graph, table)] if isinstance(op.prim, (Concat, ZeroRow)) else [id_]
    )


def _is_learned(prim: object) -> bool:
    """Whether a table is a feature's, as it is or in fewer bits: not a calibration, not the scales of another."""
    return isinstance(prim, (Cast, Codes)) or (isinstance(prim, Param) and prim.trainable)
