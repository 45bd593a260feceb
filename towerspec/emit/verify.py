"""Compares what is about to be written with the unoptimised reference, and names the first op that differs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from towerspec.diagnostics import Diagnostic, SpecError
from towerspec.emit import names, reference, torchscript
from towerspec.emit.python import COUNTS, Rendered, render_surface
from towerspec.ir.graph import Graph, Op
from towerspec.ir.types import Level
from towerspec.passes.reuse import undo
from towerspec.runtime.samples import sample

# Requests by their numbers of candidates: none, one, several; and several requests, some of them without any.
SHAPES: tuple[tuple[int, ...], ...] = ((0,), (1,), (7,), (3, 0, 4), (1, 1, 1))
EXACT = 1e-9  # float64 against float64
ROUNDING = 2e-4  # float32 against float64
MANY = (64, 64, 64, 64)  # more, where an error is to be measured: the largest of a few scores says little


@dataclass(frozen=True)
class Case:
    """One call: its inputs by name, and what the reference gives for every op of the surface's slice."""

    inputs: dict[str, Tensor]
    counts: tuple[int, ...]
    values: dict[str, Tensor]


def make_cases(
    sliced: Graph,
    entries: Sequence[Mapping[str, Any]],
    weights: Mapping[str, Tensor],
    seed: int,
    shapes: Sequence[tuple[int, ...]] = SHAPES,
) -> list[Case]:
    """Generated inputs of every shape, with the reference's values."""
    levels = {entry["level"] for entry in entries}
    cases = []
    for i, counts in enumerate(shapes):
        if "candidate" not in levels:
            counts = (1,) * max(1, len(counts))
        elif "request" not in levels:
            counts = (sum(counts),)
        inputs = sample(entries, counts, seed + i)
        cases.append(Case(inputs, counts, _reference(sliced, inputs, counts, weights)))
    return cases


def _reference(
    graph: Graph, inputs: Mapping[str, Tensor], counts: Sequence[int], weights: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    requests = {i.level for _, i in graph.inputs} >= {Level.REQUEST}
    with torch.no_grad():
        return reference.run(graph, inputs, weights, sum(counts), torch.tensor(counts) if requests else None)


def difference(found: Tensor, wanted: Tensor) -> float:
    """The largest difference, relative where numbers are above 1; infinite where shapes or NaNs differ."""
    if found.shape != wanted.shape or not torch.equal(found.isnan(), wanted.isnan()):
        return float("inf")
    if not found.numel():
        return 0.0
    gap = (found.double() - wanted.double()).abs() / wanted.double().abs().clamp(min=1.0)
    same = found.double() == wanted.double()  # infinities of one sign
    return float(torch.where(same | wanted.isnan(), 0.0, gap).nan_to_num(float("inf")).max())


Served = Callable[..., Sequence[Tensor]]


def verify_surface(
    sliced: Graph,
    optimised: Graph,
    model: nn.Module,
    served: Served,
    cases: Sequence[Case],
    weights: Mapping[str, Tensor],
) -> float:
    """Checks a surface's source in float64 and its file in float32; returns the file's largest difference.

    `model` is the source's module with its weights, `served` what the file holds. Raises `SpecError` (T606).
    """
    verify_source(sliced, optimised, model, cases, weights)
    gap, head, counts = _largest(sliced, served, cases)
    if gap > ROUNDING:
        raise SpecError(_mismatch(sliced, None, head, gap, counts))
    return gap


def verify_source(
    sliced: Graph,
    optimised: Graph,
    model: nn.Module,
    cases: Sequence[Case],
    weights: Mapping[str, Tensor],
) -> None:
    """Checks a surface's source in float64. Raises `SpecError` (T606)."""
    wide = torchscript.widened(model, weights)
    for case in cases:
        with torch.no_grad():
            exact = wide(*(_wide(x) for x in case.inputs.values()))
        for output, found in zip(sliced.outputs, exact, strict=False):
            if difference(found, case.values[output.prediction]) > EXACT:
                raise SpecError(_culprit(sliced, optimised, case, weights, output.name))


def verify_rounded(sliced: Graph, served: Served, cases: Sequence[Case], bound: float) -> float:
    """The largest difference of a file of fewer bits. Raises `SpecError` (T613) where it is beyond the bound."""
    gap, head, counts = _largest(sliced, served, cases)
    if gap > bound:
        raise SpecError(
            Diagnostic(
                "T613",
                f"in fewer bits, surface `{sliced.surface}` is further from the reference than the bound allows",
                notes=(
                    f"head `{head}` differs by {gap:.2g} with {list(counts)} candidates a request, "
                    f"and the bound is {bound:g}",
                    "nothing was written",
                ),
                help="give a larger bound with `--max-error`, keep the linears in float32 with `--cpu any`, "
                "or compile with -O2",
            )
        )
    return gap


def _largest(sliced: Graph, served: Served, cases: Sequence[Case]) -> tuple[float, str, Sequence[int]]:
    """A file's largest difference from the reference, at which head, and with how many candidates a request."""
    worst: tuple[float, str, Sequence[int]] = (0.0, sliced.outputs[0].name, ())
    for case in cases:
        with torch.no_grad():
            found = served(*case.inputs.values())
        for output, x in zip(sliced.outputs, found, strict=False):
            worst = max(worst, (difference(x, case.values[output.prediction]), output.name, case.counts))
    return worst


def _wide(x: Tensor) -> Tensor:
    return x.double() if x.is_floating_point() else x


def _culprit(
    sliced: Graph,
    optimised: Graph,
    case: Case,
    weights: Mapping[str, Tensor],
    head: str,
) -> Diagnostic:
    """The first op at which the optimised graph, or else the code printed from it, leaves the reference."""
    interpreted = _reference(optimised, case.inputs, case.counts, weights)
    for op in optimised.ops:
        if op.id in case.values:
            gap = difference(
                _on_rows(interpreted[op.id], op, case), _on_rows(case.values[op.id], sliced.by_id[op.id], case)
            )
            if gap > EXACT:
                return _mismatch(optimised, op, head, gap, case.counts)
    variables = _trace(*_without_reuse(optimised, weights), case)
    for op in optimised.ops:
        if op.id in variables and (gap := difference(variables[op.id], interpreted[op.id])) > EXACT:
            return _mismatch(optimised, op, head, gap, case.counts)
    return _mismatch(optimised, None, head, float("nan"), case.counts)


def _on_rows(x: Tensor, op: Op, case: Case) -> Tensor:
    """A value as the candidates see it, whatever level it was computed at."""
    if op.type.level == Level.REQUEST:
        return x[torch.repeat_interleave(torch.arange(len(case.counts)), torch.tensor(case.counts))]
    return x.expand(sum(case.counts), *x.shape) if op.type.level == Level.CONSTANT else x


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
            wide(*(_wide(x) for x in case.inputs.values()))
    finally:
        sys.setprofile(None)
    return found


def _mismatch(graph: Graph, op: Op | None, head: str, gap: float, counts: Sequence[int]) -> Diagnostic:
    where = f"first at `%{op.id}`, a {op.prim.name}" if op else "in the compiled file alone"
    return Diagnostic(
        "T606",
        f"the graph of surface `{graph.surface}` doesn't compute what the spec says: head `{head}` differs, {where}",
        op.span if op else None,
        "this statement" if op else "",
        notes=(f"the difference is {gap:.3g}, with {list(counts)} candidates a request", "nothing was written"),
        help="compile with -O0 or without the pass, and report this as a bug of towerspec or of the custom layer",
    )


def verify_unified(
    graph: Graph,
    slices: Mapping[str, Graph],
    model: nn.Module,
    scripted: torch.jit.ScriptModule,
    cases: Mapping[str, Sequence[Case]],
    weights: Mapping[str, Tensor],
) -> None:
    """Checks each surface's method of the unified model, and its `forward` on rows of all surfaces together."""
    wide = torchscript.widened(model, weights)
    for surface, sliced in slices.items():
        for case in cases[surface]:
            with torch.no_grad():
                exact = getattr(wide, names.method(surface))(*(_wide(x) for x in case.inputs.values()))
            for output, found in zip(sliced.outputs, exact, strict=True):
                gap = difference(found, case.values[output.prediction])
                if gap > EXACT:
                    raise SpecError(_mismatch(sliced, None, output.name, gap, case.counts))
        last = cases[surface][-2]
        with torch.no_grad():
            served = getattr(scripted, names.method(surface))(*last.inputs.values())
        for output, found in zip(sliced.outputs, served, strict=True):
            gap = difference(found, last.values[output.prediction])
            if gap > ROUNDING:
                raise SpecError(_mismatch(sliced, None, output.name, gap, last.counts))
    _verify_routing(graph, wide, weights, cases)


def _verify_routing(
    graph: Graph, wide: nn.Module, weights: Mapping[str, Tensor], cases: Mapping[str, Sequence[Case]]
) -> None:
    """Rows of every surface in one batch, in no order, give what each surface's reference gives."""
    count = 3 * len(graph.surfaces)
    generator = torch.Generator().manual_seed(1)
    surface = torch.randperm(count, generator=generator) % len(graph.surfaces)
    entries = [
        {
            "name": i.feature,
            "dtype": {"int": "int64", "float": "float32"}[i.dtype],
            "shape": ["N", *i.shape],
            "level": "candidate",
            "range": [0, 1],
        }
        for _, i in graph.inputs
    ]
    inputs = sample(entries, (count,), 2)
    with torch.no_grad():
        found = wide({k: _wide(x) for k, x in inputs.items()}, surface)
        values = reference.run(graph, inputs, weights, count, torch.ones(count, dtype=torch.int64), surface)
    for output in graph.outputs:
        rows = surface == graph.surfaces.index(output.surface)
        for key, id_ in ((output.name, output.prediction), (f"{output.name}.logit", output.logit)):
            gap = difference(found[key][rows], values[id_][rows])
            if gap > EXACT:
                raise SpecError(_mismatch(graph, None, f"{output.surface}.{key}", gap, [count]))


__all__ = [
    "COUNTS",
    "Case",
    "difference",
    "make_cases",
    "verify_rounded",
    "verify_source",
    "verify_surface",
    "verify_unified",
]
