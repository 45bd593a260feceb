"""The passes: each a pure function from a graph to an equal one, in a file of its own.

`PIPELINE` is the order. A surface's slice comes first and is the reference; every later pass keeps its numbers, but for
`precision`, which rounds them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from towerspec.diagnostics import Diagnostic, SpecError, did_you_mean, listing
from towerspec.ir.graph import Graph
from towerspec.ir.verify import verify
from towerspec.passes.bag import pool_lookups
from towerspec.passes.batch import batch_numbers
from towerspec.passes.cse import share_common
from towerspec.passes.dead import remove_dead
from towerspec.passes.features import fold_features
from towerspec.passes.fold import fold_constants
from towerspec.passes.fuse import fuse
from towerspec.passes.gather import gather
from towerspec.passes.hoist import hoist
from towerspec.passes.inference import drop_training
from towerspec.passes.join import join_linears
from towerspec.passes.order import order
from towerspec.passes.pack import pack
from towerspec.passes.precision import narrow
from towerspec.passes.reuse import reuse
from towerspec.passes.slice import slice_surface
from towerspec.passes.split import split_linears

__all__ = ["PIPELINE", "Pass", "check_names", "optimise", "slice_surface", "stages"]


@dataclass(frozen=True)
class Pass:
    """A pass by name, and the lowest `-O` level that runs it; `by_cpu`, if it asks for which CPU."""

    name: str
    run: Callable[..., Graph]
    level: int
    by_cpu: bool = False


PIPELINE: tuple[Pass, ...] = (
    Pass("features", fold_features, 1),
    Pass("inference", drop_training, 1),
    Pass("cse", share_common, 2),
    Pass("fold", fold_constants, 2),
    Pass("hoist", hoist, 2),
    Pass("dead", remove_dead, 1),
    Pass("split", split_linears, 2),
    Pass("join", join_linears, 2),
    Pass("fuse", fuse, 2),
    Pass("precision", narrow, 3, by_cpu=True),
    Pass("bag", pool_lookups, 2),
    Pass("batch", batch_numbers, 2),
    Pass("gather", gather, 2),
    Pass("pack", pack, 2),
    Pass("order", order, 2),
    Pass("reuse", reuse, 2),
)


def check_names(graph: Graph, surfaces: Collection[str], without: Collection[str]) -> None:
    """Raises `SpecError` for a surface that the spec lacks (T607), or a pass that isn't there (T609)."""
    passes = [step.name for step in PIPELINE]
    for name in surfaces:
        if name not in graph.surfaces:
            notes = (f"its surfaces are {listing(graph.surfaces)}",)
            hint = did_you_mean(name, graph.surfaces)
            raise SpecError(Diagnostic("T607", f"the spec has no surface `{name}`", notes=notes, help=hint))
    for name in without:
        if name not in passes:
            notes = (f"the passes are {listing(passes)}",)
            raise SpecError(
                Diagnostic("T609", f"there is no pass `{name}`", notes=notes, help=did_you_mean(name, passes))
            )


def optimise(
    graph: Graph, surface: str, level: int = 2, without: Collection[str] = (), logits: bool = False, cpu: str = "any"
) -> Graph:
    """A surface's slice after the passes of an `-O` level, verified after each; at -O3 for one kind of `cpu`.

    Raises `GraphError` where a pass leaves the graph ill-formed.
    """
    *_, (_, last) = stages(graph, surface, level, without, logits, cpu)
    return last


def stages(
    graph: Graph, surface: str, level: int = 2, without: Collection[str] = (), logits: bool = False, cpu: str = "any"
) -> Iterator[tuple[str, Graph]]:
    """A surface's slice, and the graph after each pass that an `-O` level runs, each by its name."""
    sliced = verify(slice_surface(graph, surface, logits))
    yield "slice", sliced
    for step in PIPELINE:
        if level >= step.level and step.name not in without:
            sliced = verify(step.run(sliced, cpu) if step.by_cpu else step.run(sliced))
            yield step.name, sliced
