"""Parts of a model by name: `trunk`, a surface, or a path of parameters or the start of one."""

from __future__ import annotations

from collections.abc import Iterable

from towerspec.diagnostics import Report, Span, did_you_mean, listing
from towerspec.ir.graph import Graph
from towerspec.syntax import tree


def part_paths(graph: Graph, part: str) -> list[str]:
    """The parameters' paths that belong to a part; none where there is no such part.

    `trunk` is all that no surface owns, shared features and tables included, and a surface's name all that it owns,
    its parts of the trunk included. `crossed`, `pins` and `country` stand for a trunk's statement, a table, a feature.
    """
    if part == "trunk" or part in graph.surfaces:
        owner = None if part == "trunk" else part
        return [param.path for op, param in graph.params if op.owner == owner]
    paths = [param.path for _, param in graph.params]
    for start in ("", "trunk.", "tables.", "features."):
        found = [path for path in paths if f"{path}.".startswith(f"{start}{part}.")]
        if found:
            return found
    return []


def part_names(graph: Graph) -> list[str]:
    """The parts that people name: those of two steps of a path at most."""
    starts = {".".join(param.path.split(".")[:2]) for _, param in graph.params}
    return ["trunk", *graph.surfaces, *sorted(s for s in starts if not s.startswith("surfaces."))]


def report_unknown_part(graph: Graph, part: str, span: Span | None, report: Report) -> None:
    """Reports a part that the model doesn't have (T825)."""
    known = part_names(graph)
    report.error(
        "T825",
        f"the model has no part `{part}` to freeze",
        span,
        "no such part" if span else "",
        notes=[f"its parts are {listing(known)}, and paths of parameters below them"],
        help=did_you_mean(part, [*known, *(k.split(".")[-1] for k in known)]),
    )


def check_freeze(items: Iterable[tree.Item], graph: Graph, report: Report) -> None:
    """Checks that what a `train` block freezes is there."""
    options = [o for item in items if isinstance(item, tree.Train) for o in item.options if o.name.text == "freeze"]
    for option in options:
        for item in option.value.items if isinstance(option.value, tree.ListExpr) else ():
            part = item.name if isinstance(item, tree.Ref) else str(getattr(item, "value", ""))
            if not part_paths(graph, part):
                report_unknown_part(graph, part, item.span, report)
