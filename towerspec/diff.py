"""What a change of a spec means: surfaces, inputs, outputs, parameters, training options, and the costs of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from towerspec.check import Checked
from towerspec.explain import explain_table
from towerspec.ir.graph import Graph
from towerspec.ir.printer import print_graph
from towerspec.passes import slice_surface


@dataclass(frozen=True)
class Change:
    """What was added, what was lost, and what became something else: its description before and after."""

    added: dict[str, Any]
    lost: dict[str, Any]
    changed: dict[str, tuple[Any, Any]]

    def __bool__(self) -> bool:
        return bool(self.added or self.lost or self.changed)

    def as_json(self) -> dict[str, Any]:
        changed = {name: {"old": old, "new": new} for name, (old, new) in self.changed.items()}
        return {"added": self.added, "lost": self.lost, "changed": changed}


@dataclass(frozen=True)
class SurfaceChange:
    """One surface: `state` is `added`, `removed`, `changed`, or `same` where it computes what it did.

    `old` and `new` are its costs as `towerspec explain` has them, none where it isn't there.
    """

    state: str
    inputs: Change
    outputs: Change
    old: Mapping[str, Any] | None
    new: Mapping[str, Any] | None


@dataclass(frozen=True)
class SpecDiff:
    """All that differs between two specs; `kept` counts the parameters whose name and shape are in both."""

    surfaces: dict[str, SurfaceChange]
    parameters: Change
    kept: int
    training: Change

    def __bool__(self) -> bool:
        changed = any(surface.state != "same" for surface in self.surfaces.values())
        return changed or bool(self.parameters) or bool(self.training)

    def as_json(self) -> dict[str, Any]:
        """The difference for machines; parameters' descriptions are their shapes."""
        parameters = self.parameters.as_json()
        return {
            "different": bool(self),
            "surfaces": {
                name: {
                    "state": s.state,
                    "inputs": s.inputs.as_json(),
                    "outputs": s.outputs.as_json(),
                    "cost": {"old": _cost(s.old), "new": _cost(s.new)},
                }
                for name, s in self.surfaces.items()
            },
            "parameters": {
                "kept": self.kept,
                **{("resized" if k == "changed" else k): v for k, v in parameters.items()},
            },
            "training": self.training.as_json(),
        }


COSTS = ("parameters", "flops", "bytes")


def _cost(row: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return {key: row[key] for key in COSTS} if row is not None else None


def diff(old: Checked, new: Checked, level: int = 2) -> SpecDiff:
    """What changes from one spec to another; costs are those at an optimisation level.

    Raises:
        SpecError: one of them has errors.
    """
    (old_model, before), (new_model, after) = old.sound(), new.sound()
    costs = explain_table(old, level), explain_table(new, level)
    names = list(dict.fromkeys([*before.surfaces, *after.surfaces]))
    shapes = [{p.path: list(p.shape) for _, p in graph.params} for graph in (before, after)]
    parameters = change(*shapes)
    return SpecDiff(
        {name: _surface(name, before, after, costs[0].get(name), costs[1].get(name)) for name in names},
        parameters,
        len(shapes[0]) - len(parameters.lost) - len(parameters.changed),
        change(old_model.train.model_dump(mode="json"), new_model.train.model_dump(mode="json")),
    )


def change(old: Mapping[str, Any], new: Mapping[str, Any]) -> Change:
    """What differs between two descriptions by name.

    >>> change({"a": 1, "b": 2}, {"b": 3, "c": 4})
    Change(added={'c': 4}, lost={'a': 1}, changed={'b': (2, 3)})
    """
    return Change(
        {name: x for name, x in new.items() if name not in old},
        {name: x for name, x in old.items() if name not in new},
        {name: (x, new[name]) for name, x in old.items() if name in new and new[name] != x},
    )


def _surface(
    name: str, before: Graph, after: Graph, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None
) -> SurfaceChange:
    slices = [slice_surface(graph, name) if name in graph.surfaces else None for graph in (before, after)]
    state = "added" if old is None else "removed" if new is None else "changed"
    texts = [_text(graph) for graph in slices if graph is not None]
    if len(texts) == 2 and texts[0] == texts[1]:
        state = "same"
    inputs = [_inputs(graph) if graph else {} for graph in slices]
    outputs = [{o.name: o.kind for o in graph.outputs} if graph else {} for graph in slices]
    return SurfaceChange(state, change(*inputs), change(*outputs), old, new)


def _text(graph: Graph) -> str:
    """A surface's graph as text, without what names the model and the places in its files."""
    return re.sub(r"\s*#.*", "", print_graph(graph).split("\n", 1)[1])


def _inputs(graph: Graph) -> dict[str, str]:
    return {i.feature: f"{i.level.word}, {i.dtype}{list(i.shape) if i.shape else ''}" for _, i in graph.inputs}
