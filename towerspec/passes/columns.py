"""What passes that lay values side by side share: a part of the joined value for each, and parts put together again."""

from __future__ import annotations

from dataclasses import replace

from towerspec.ir.graph import Op, Rewriter
from towerspec.ir.primitives import Concat, Slice


def joined(like: Op) -> Op:
    """The op after which those are named that stand for several statements: a level's, as its inputs together are."""
    word = like.type.level.word
    return replace(like, id=f"{word}.joined", scope=word, span=None, owner=None)


def rejoin(op: Op, rewriter: Rewriter) -> str | None:
    """A concat with neighbouring slices of one value taken together, and a whole value where they are all of it."""
    if op.prim != Concat():
        return None
    pieces: list[str] = []
    for id_ in op.inputs:
        merged = _together(rewriter, op, pieces[-1], id_) if pieces else None
        pieces[-1:] = [merged] if merged else [*pieces[-1:], id_]
    pieces = [_whole(rewriter, id_) for id_ in pieces]
    if tuple(pieces) == op.inputs:
        return None
    return rewriter.keep(replace(op, inputs=tuple(pieces))) if len(pieces) > 1 else pieces[0]


def _together(rewriter: Rewriter, op: Op, left: str, right: str) -> str | None:
    a, b = rewriter.ops[left], rewriter.ops[right]
    if not (isinstance(a.prim, Slice) and isinstance(b.prim, Slice) and a.inputs == b.inputs):
        return None
    return (
        rewriter.make(op, "columns", Slice(a.prim.start, b.prim.stop), *a.inputs)
        if a.prim.stop == b.prim.start
        else None
    )


def _whole(rewriter: Rewriter, id_: str) -> str:
    op = rewriter.ops[id_]
    whole = isinstance(op.prim, Slice) and op.type == rewriter.ops[op.inputs[0]].type
    return op.inputs[0] if whole else id_
