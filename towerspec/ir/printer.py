"""The op graph as text, for people, for golden tests and for comparing."""

from __future__ import annotations

import re

from towerspec.ir.graph import Graph, Op
from towerspec.ir.primitives import Init, Input, Param


def _attribute(value: object) -> str:
    if isinstance(value, Init):
        return value.kind + (f"({', '.join(f'{v:g}' for v in value.values)})" if value.values else "")
    if isinstance(value, tuple):
        return f"[{', '.join(_attribute(v) for v in value)}]"
    return getattr(value, "word", None) or str(value)


def print_op(op: Op) -> str:
    """One operation on one line: `%id = name(%operands) {attributes} : type  @owner !region`."""
    attributes = op.prim.attributes()
    if isinstance(op.prim, (Input, Param)):
        for repeated in ("level", "shape", "dtype"):
            attributes.pop(repeated, None)
    shown = f" {{{', '.join(f'{k}={_attribute(v)}' for k, v in attributes.items())}}}" if attributes else ""
    operands = ", ".join(f"%{i}" for i in op.inputs)
    owner = f"  @{op.owner}" if op.owner else ""
    region = f"  !{'/'.join(op.region)}" if op.region else ""
    return f"%{op.id} = {op.prim.name}({operands}){shown} : {op.type}{owner}{region}"


def print_graph(graph: Graph) -> str:
    """The whole graph, grouped by the statements of the spec, then its outputs."""
    lines = [f"graph {graph.model}" + (f" / {graph.surface}" if graph.surface else "")]
    scope = None
    for op in graph.ops:
        if op.scope != scope:
            scope = op.scope
            where = f"  # {op.span.source.path}:{op.span.line}" if op.span else ""
            lines.append(f"\n{scope}{where}")
        lines.append(f"  {print_op(op)}")
    lines.append("\noutputs")
    lines += [f"  {o.surface}.{o.name} : {o.kind}  logit=%{o.logit} prediction=%{o.prediction}" for o in graph.outputs]
    return re.sub(r" +$", "", "\n".join(lines), flags=re.M) + "\n"
