"""Split: a linear over request and candidate parts becomes two, the request's on its R rows.

`[r, c] W^T + b = c Wc^T + (r Wr^T + b)`: the bracket is computed once a request and becomes each candidate's bias, at
no cost where one request is served. By hand, and as user-group separation: arXiv:2602.10455.
"""

from __future__ import annotations

from dataclasses import dataclass

from towerspec.ir.graph import Graph, Op, Rewriter
from towerspec.ir.primitives import Concat, Expand, Linear, Slice
from towerspec.ir.types import Level

# Operations that have to be saved for each candidate before another call pays for itself. A call costs about as
# much as 100,000 operations of a product do on one core; half of that, shared by the 16 candidates of a small request.
WORTH = 4096


@dataclass(frozen=True)
class Piece:
    """One operand of a concat, and the columns that it takes."""

    id: str
    start: int
    stop: int


def split_linears(graph: Graph) -> Graph:
    """Moves what the request alone adds to a linear into its bias, wherever that saves work."""

    def rule(op: Op, rewriter: Rewriter) -> str | None:
        if not isinstance(op.prim, Linear) or len(op.type.shape) != 1 or op.region:
            return None
        pieces = _pieces(rewriter, op.inputs[0], 0)
        expanded = [isinstance(rewriter.ops[p.id].prim, Expand) for p in pieces]
        theirs = [p for p, once in zip(pieces, expanded, strict=True) if once]
        ours = [p for p, once in zip(pieces, expanded, strict=True) if not once]
        bias = op.inputs[2:]
        if not ours or any(rewriter.ops[b].type.level > Level.CONSTANT for b in bias):
            return None
        if 2 * op.type.numel * sum(p.stop - p.start for p in theirs) < WORTH:
            return None
        request = _request(rewriter, op, theirs)
        once = rewriter.make(op, "request", Linear(), request, _columns(rewriter, op, theirs, "request"), *bias)
        if rewriter.ops[once].type.level > Level.CONSTANT:
            once = rewriter.make(op, "bias", Expand(Level.CANDIDATE), once)
        x = _joined(rewriter, op, "candidate", [p.id for p in ours])
        return rewriter.make(op, "split", Linear(), x, _columns(rewriter, op, ours, "candidate"), once)

    return graph.rewrite(rule).without_dead()


def _pieces(rewriter: Rewriter, id_: str, start: int) -> list[Piece]:
    """The operands of nested concats, those without an expanded one inside kept whole."""
    op = rewriter.ops[id_]
    if not isinstance(op.prim, Concat) or not _has_expand(rewriter, op):
        return [Piece(id_, start, start + op.type.shape[-1])]
    pieces: list[Piece] = []
    for operand in op.inputs:
        pieces += _pieces(rewriter, operand, start)
        start = pieces[-1].stop
    return pieces


def _has_expand(rewriter: Rewriter, op: Op) -> bool:
    operands = [rewriter.ops[i] for i in op.inputs]
    return any(
        isinstance(o.prim, Expand) or (isinstance(o.prim, Concat) and _has_expand(rewriter, o)) for o in operands
    )


def _request(rewriter: Rewriter, op: Op, pieces: list[Piece]) -> str:
    """What was expanded, joined at the level it had before."""
    sources = [rewriter.ops[p.id].inputs[0] for p in pieces]
    level = max(rewriter.ops[s].type.level for s in sources)
    raised = [
        s if rewriter.ops[s].type.level == level else rewriter.make(op, "repeat", Expand(level), s) for s in sources
    ]
    return _joined(rewriter, op, "request_part", raised)


def _columns(rewriter: Rewriter, op: Op, pieces: list[Piece], name: str) -> str:
    """The weight's columns for some pieces, neighbours taken together."""
    ranges: list[list[int]] = []
    for piece in pieces:
        if ranges and ranges[-1][1] == piece.start:
            ranges[-1][1] = piece.stop
        else:
            ranges.append([piece.start, piece.stop])
    weight = op.inputs[1]
    return _joined(
        rewriter, op, f"{name}_weight", [rewriter.make(op, "columns", Slice(a, b), weight) for a, b in ranges]
    )


def _joined(rewriter: Rewriter, op: Op, name: str, ids: list[str]) -> str:
    return ids[0] if len(ids) == 1 else rewriter.make(op, name, Concat(), *ids)
