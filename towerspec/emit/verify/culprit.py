"""Names the first op at which a graph, or the code printed from it, leaves the reference."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import FrameType

import torch
from torch import Tensor, nn

from towerspec.diagnostics import Diagnostic
from towerspec.emit import reference, torchscript
from towerspec.emit.python import Rendered, render_surface
from towerspec.emit.verify.cases import Case, counts_of, on_rows
from towerspec.emit.verify.rounding import DOUBLE, differences
from towerspec.ir.graph import Graph, Op
from towerspec.ir.primitives import Opaque
from towerspec.passes.reuse import undo


@dataclass(frozen=True)
class Finding:
    """A head that is further from the reference than its precision allows: in which call, and at which row."""

    case: Case
    head: str
    gap: float
    row: int
    alone: bool = False  # scored by itself, and not with the call's other rows


def mismatch(graph: Graph, op: Op | None, found: Finding) -> Diagnostic:
    """T606: a surface doesn't compute what the spec says."""
    where = f"first at `%{op.id}`, a {op.prim.name}" if op else "in the compiled file alone"
    call = "of a row that is scored by itself" if found.alone else f"with {_counts(found.case.counts)}"
    return Diagnostic(
        "T606",
        f"the graph of surface `{graph.surface or graph.model}` doesn't compute what the spec says: "
        f"head `{found.head}` differs, {where}",
        op.span if op else None,
        "this statement" if op else "",
        notes=(f"the difference is {found.gap:.3g}, {call}", "nothing was written"),
        help="compile with -O0 or without the pass, and report this as a bug of towerspec or of the custom layer",
    )


def _counts(counts: Sequence[int]) -> str:
    shown = ", ".join(map(str, counts[:8]))
    return f"[{shown}{', …' if len(counts) > 8 else ''}] candidates a request"


def culprit(
    sliced: Graph, optimised: Graph, found: Finding, weights: Mapping[str, Tensor], plain: Mapping[str, Tensor]
) -> Diagnostic:
    """The first op at which the optimised graph, or else the code printed from it, leaves the reference.

    `weights` are the optimised graph's parameters by path, `plain` the slice's.
    """
    case = found.case
    wanted, interpreted = _run(sliced, case, plain), _run(optimised, case, weights)
    allowed = DOUBLE.allowed(case.sizes)
    for op in optimised.ops:
        if op.id in wanted:
            theirs = on_rows(interpreted[op.id], op, case)
            if _leaves(theirs, on_rows(wanted[op.id], sliced.by_id[op.id], case), allowed):
                return mismatch(optimised, op, found)
    variables = _trace(*_without_reuse(optimised, weights), case)
    for op in optimised.ops:
        if op.id in variables and _leaves(variables[op.id], interpreted[op.id], DOUBLE.tolerance):
            return mismatch(optimised, op, found)
    return mismatch(optimised, None, found)


def _run(graph: Graph, case: Case, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    with torch.no_grad():
        return reference.run(graph, case.inputs, weights, sum(case.counts), counts_of(graph, case.counts))


def _leaves(found: Tensor, wanted: Tensor, allowed: Tensor | float) -> bool:
    return found.shape != wanted.shape or bool((differences(found, wanted) > allowed).any())


def _without_reuse(optimised: Graph, weights: Mapping[str, Tensor]) -> tuple[nn.Module, Rendered]:
    """The same code but that every result keeps its own memory: what is written over can't be looked at."""
    rendered = render_surface(undo(optimised), "")
    module: nn.Module = getattr(torchscript.load_source(rendered.source, "traced"), rendered.cls)()
    return torchscript.fill(module.double().eval(), weights), rendered


def _trace(wide: nn.Module, rendered: Rendered, case: Case) -> dict[str, Tensor]:
    """The values of `forward`'s variables by op, read from its frame as it returns; arms see only some rows."""
    found: dict[str, Tensor] = {}
    code = type(wide).forward.__code__

    def on_return(frame: FrameType, event: str, _: object) -> None:
        if event == "return" and frame.f_code is code:
            for name, id_ in rendered.variables["forward"].items():
                if isinstance(frame.f_locals.get(name), Tensor):
                    found[id_] = frame.f_locals[name]

    sys.setprofile(on_return)
    try:
        with torch.no_grad():
            wide(*(x.double() if x.is_floating_point() else x for x in case.inputs.values()))
    finally:
        sys.setprofile(None)
    return found


def mixed_rows(sliced: Graph, case: Case, weights: Mapping[str, Tensor]) -> Diagnostic | None:
    """T620: a custom module by whose result a row scored alone differs from the same row among others, if any does."""
    if not any(isinstance(op.prim, Opaque) for op in sliced.ops):
        return None  # every other primitive treats each row by itself
    together = _run(sliced, case, weights)
    for row in case.alone:
        counts = torch.ones(1, dtype=torch.int64) if counts_of(sliced, case.counts) is not None else None
        with torch.no_grad():
            by_itself = reference.run(sliced, case.only(row), weights, 1, counts)
        for op in sliced.ops:
            if isinstance(op.prim, Opaque) and _leaves(
                by_itself[op.id], together[op.id][row : row + 1], DOUBLE.allowed(case.sizes[row : row + 1])
            ):
                return _mixes(sliced, op, op.prim)
    return None


def _mixes(graph: Graph, op: Op, prim: Opaque) -> Diagnostic:
    return Diagnostic(
        "T620",
        f"the custom module `{prim.target.split(':')[1]}` mixes rows: a row's result depends on the rows beside it",
        op.span,
        "this statement",
        notes=(
            f"in surface `{graph.surface}`, a row gets another result alone than among others",
            "a candidate's score must not depend on which other candidates a call holds",
            "nothing was written",
        ),
        help="let it treat each row by itself, with no statistic over the first axis",
    )
