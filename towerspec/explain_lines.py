"""Which statement of a spec is responsible for which share of a surface's cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from towerspec.check import Checked
from towerspec.ir.graph import Graph, Op
from towerspec.ir.primitives import Input
from towerspec.ir.types import Level
from towerspec.passes import optimise

_LONGEST = 60
_LEVELS = (Level.REQUEST, Level.CANDIDATE)


def explain_lines(checked: Checked, surface: str, level: int = 2) -> list[dict[str, Any]]:
    """What each statement costs a surface after optimisation, and its share of the whole; the costliest first.

    FLOPs and bytes moved are of a request and of a candidate, `weights` are bytes of parameters. All arms of a branch
    count, though a request runs one of them. What a pass joined belongs to the first of the statements.

    >>> from towerspec.check import check_text
    >>> text = "candidate { a : number }\\ntrunk { b = mlp(a, hidden: [4]) }\\nsurface s { tower { head h : binary } }"
    >>> [(r["line"], r["flops"]["candidate"]) for r in explain_lines(check_text("model m\\n" + text), "s")][:2]
    [(3, 8), (4, 8)]
    """
    _, graph = checked.sound()
    return explain_graph(optimise(graph, surface, level))


def explain_graph(graph: Graph) -> list[dict[str, Any]]:
    """The same, of one graph."""
    places: dict[tuple[str, int, str], list[Op]] = {}
    for op in graph.ops:
        if not isinstance(op.prim, Input):
            places.setdefault(_place(op), []).append(op)
    rows = [_row(graph, *place, ops) for place, ops in places.items()]
    for what in ("flops", "bytes"):
        whole = {level.word: sum(row[what][level.word] for row in rows) for level in _LEVELS}
        for row in rows:
            shares = {level: count / whole[level] if whole[level] else 0.0 for level, count in row[what].items()}
            row.setdefault("share", {})[what] = shares
    return sorted(rows, key=lambda row: max(row["share"]["flops"].values()), reverse=True)


def _place(op: Op) -> tuple[str, int, str]:
    if op.span is None:
        return "", 0, op.scope
    whole, start = op.span.source.text, op.span.start
    line = whole[whole.rfind("\n", 0, start) + 1 :].split("\n", 1)[0]
    text = " ".join(line.split("  #")[0].split())
    return op.span.source.path, op.span.line, text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _row(graph: Graph, path: str, line: int, text: str, ops: Sequence[Op]) -> dict[str, Any]:
    flops, moved = ({level.word: 0 for level in _LEVELS} for _ in range(2))
    for op in ops:
        if op.type.level in _LEVELS:
            flops[op.type.level.word] += op.prim.flops(graph.types(op), op.type)
            moved[op.type.level.word] += op.prim.traffic(graph.types(op), op.type)
    kept = {op.id for op, _ in graph.params}
    weights = sum(op.type.bytes for op in ops if op.id in kept)
    return {"file": path, "line": line, "statement": text, "flops": flops, "bytes": moved, "weights": weights}
