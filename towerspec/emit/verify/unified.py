"""Checks the unified model: each surface's method, and the `forward` that routes rows of all surfaces."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from towerspec.diagnostics import SpecError
from towerspec.emit import reference, torchscript
from towerspec.emit.names import method
from towerspec.emit.verify.cases import Case, Cases, movement
from towerspec.emit.verify.checks import Served, compare, widen
from towerspec.emit.verify.culprit import Finding, mismatch
from towerspec.emit.verify.rounding import DOUBLE, SINGLE, Precision, differences
from towerspec.ir.graph import Graph
from towerspec.ir.primitives import Input
from towerspec.ir.types import Level
from towerspec.runtime.samples import sample

EACH = 3  # rows of each surface, of those that have no cases too
EVERY = 4  # of the requests of a surface's steered call, one in so many is enough where another call has had them all

Forward = Callable[..., Mapping[str, Tensor]]


def verify_unified(
    graph: Graph,
    slices: Mapping[str, Graph],
    model: nn.Module,
    scripted: Any,
    cases: Mapping[str, Cases],
    weights: Mapping[str, Tensor],
) -> None:
    """Checks each surface's method and `forward`, of the source in float64 and of the file.

    `weights` are the parameters by path. Raises `SpecError` (T606).
    """
    wide = torchscript.widened(model, weights)
    few = {surface: cases[surface].classes.part(EVERY) for surface in slices}
    all_ = {surface: cases[surface].classes for surface in slices}
    for surface, sliced in slices.items():
        small = cases[surface].small
        _verify_method(sliced, _widened(getattr(wide, method(surface))), [*small, all_[surface]], DOUBLE)
        _verify_method(sliced, getattr(scripted, method(surface)), [*small, few[surface]], SINGLE)
    forward = _widened(wide)
    _verify_few(graph, forward, weights)
    _verify_routing(graph, slices, forward, DOUBLE, all_, shared=True)
    _verify_routing(graph, slices, forward, DOUBLE, few, shared=False)
    for shared in (True, False):
        _verify_routing(graph, slices, scripted, SINGLE, few, shared)


def _verify_method(sliced: Graph, served: Served, cases: Sequence[Case], precision: Precision) -> None:
    found, _ = compare(sliced, served, cases, precision)
    if found:
        raise SpecError(mismatch(sliced, None, found))


def _widened(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function on numbers in float64."""

    def call(*args: Tensor | Mapping[str, Tensor]) -> Any:
        return function(*(widen(x) if isinstance(x, Tensor) else {k: widen(v) for k, v in x.items()} for x in args))

    return call


def _verify_few(graph: Graph, forward: Forward, weights: Mapping[str, Tensor]) -> None:
    """Some rows of every surface in one batch, in no order, give what the whole model's reference gives."""
    count = EACH * len(graph.surfaces)
    surface = torch.randperm(count, generator=torch.Generator().manual_seed(1)) % len(graph.surfaces)
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
        found = forward(inputs, surface)
        case = _few(graph, inputs, surface, weights)
    for output in graph.outputs:
        rows = surface == graph.surfaces.index(output.surface)
        for key, id_ in ((output.name, output.prediction), (f"{output.name}.logit", output.logit)):
            _check(graph, f"{output.surface}.{key}", found[key], id_, case, DOUBLE, rows)


def _few(graph: Graph, inputs: Mapping[str, Tensor], surface: Tensor, weights: Mapping[str, Tensor]) -> Case:
    """One call of rows of all surfaces, with the whole model's reference."""
    count, ones = len(surface), torch.ones(len(surface), dtype=torch.int64)

    def values(x: Mapping[str, Tensor], w: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return reference.run(graph, x, w, count, ones, surface)

    found = values(inputs, weights)
    wanted = {id_: found[id_] for o in graph.outputs for id_ in (o.prediction, o.logit)}
    moved = movement(wanted, values, inputs, weights)
    return Case(dict(inputs), (count,), wanted, torch.zeros(count), frozenset(), moved)


def _verify_routing(
    graph: Graph,
    slices: Mapping[str, Graph],
    forward: Forward,
    precision: Precision,
    cases: Mapping[str, Case],
    shared: bool,
) -> None:
    """The steered rows of all surfaces in one batch, in no order, give what each surface's reference gives.

    With `shared`, the request's features have a row a request, and each row says which is its own.
    """
    rows = _Rows(graph, cases)
    order = torch.randperm(len(rows.surface), generator=torch.Generator().manual_seed(3))
    back = order.argsort()
    features = {name: x if shared and name in rows.requests else x[order] for name, x in rows.features(shared).items()}
    with torch.no_grad():
        found = forward(features, rows.surface[order], *([rows.request[order]] if shared else []))
    for surface, sliced in slices.items():
        case, mine = cases[surface], rows.surface == graph.surfaces.index(surface)
        for o in sliced.outputs:
            for key, id_ in ((o.name, o.prediction), (f"{o.name}.logit", o.logit)):
                _check(graph, f"{surface}.{key}", found[key][back][mine], id_, case, precision)


class _Rows:
    """The rows of several surfaces' calls, one call after the other, with every feature of the model."""

    def __init__(self, graph: Graph, cases: Mapping[str, Case]) -> None:
        self.graph, self.cases = graph, cases
        self.requests = {i.feature for _, i in graph.inputs if i.level == Level.REQUEST}
        self.surface = torch.cat(
            [torch.full([sum(case.counts)], graph.surfaces.index(surface)) for surface, case in cases.items()]
        )
        before, owners = 0, []
        for case in cases.values():
            owners.append(case.request + before)
            before += len(case.counts)
        self.request, self.count = torch.cat(owners), before

    def features(self, shared: bool) -> dict[str, Tensor]:
        """Each feature by row, or with `shared` those of the request by request; noise where a surface has none."""
        generator = torch.Generator().manual_seed(4)
        made = {}
        for _, prim in self.graph.inputs:
            parts = []
            for case in self.cases.values():
                by_request = prim.feature in self.requests
                n = len(case.counts) if by_request else sum(case.counts)
                x = case.inputs[prim.feature] if prim.feature in case.inputs else _noise(prim, n, generator)
                parts.append(x[case.request] if by_request and not shared else x)
            made[prim.feature] = torch.cat(parts)
        return made


def _noise(prim: Input, n: int, generator: torch.Generator) -> Tensor:
    shape = [n, *prim.shape]
    if prim.dtype == "int":
        return torch.randint(-1, 3, shape, generator=generator)
    return torch.randn(shape, generator=generator)


def _check(
    graph: Graph,
    name: str,
    found: Tensor,
    id_: str,
    case: Case,
    precision: Precision,
    rows: Tensor | None = None,
) -> None:
    """Raises `SpecError` (T606) where some of a case's rows are too far from the reference's."""
    wanted = case.wanted[id_]
    if found.shape != wanted.shape:
        raise SpecError(mismatch(graph, None, Finding(case, name, float("inf"), 0)))
    gap = differences(found, wanted)
    if rows is not None:
        gap = torch.where(rows, gap, 0.0)
    if bool(case.beyond(gap, id_, precision).any()):
        raise SpecError(mismatch(graph, None, Finding(case, name, float(gap.max()), 0)))
