"""What a model should answer: the graph of all surfaces as it was lowered, interpreted in float64, one row at a time.

No pass has seen that graph, nothing is sliced from it, and no row stands beside another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tests.fuzz.draw import Draw
from tests.fuzz.inputs import draw_call
from tests.fuzz.weights import jittered
from towerspec.emit import reference
from towerspec.ir.graph import Graph


class Oracle:
    """Answers for the surfaces of one model with its weights."""

    def __init__(self, graph: Graph, weights: Mapping[str, Tensor], everyone: Sequence[Mapping[str, Any]]) -> None:
        self.graph, self.everyone = graph, everyone
        self.weights = {name: x.double() if x.is_floating_point() else x for name, x in weights.items()}

    def answer(self, surface: str, mine: Mapping[str, Tensor], jitter: float = 0.0) -> dict[str, Tensor]:
        """What a surface's heads say of one candidate; other surfaces' inputs are noise, which must not matter."""
        filler = {e["name"]: self.filler(e) for e in self.everyone if e["name"] not in mine}
        weights = self.weights
        if jitter:
            weights, mine = jittered(weights, jitter, 1), jittered(mine, jitter, 2)
        index = torch.tensor([self.graph.surfaces.index(surface)])
        with torch.no_grad():
            values = reference.run(self.graph, {**filler, **mine}, weights, 1, torch.ones(1, dtype=torch.int64), index)
        found = {}
        for output in self.graph.outputs:
            if output.surface == surface:
                found[output.name] = values[output.prediction][0]
                found[f"{output.name}.logit"] = values[output.logit][0]
        return found

    def sensitivity(self, surface: str, mine: Mapping[str, Tensor], jitter: float) -> dict[str, float]:
        """How far an answer moves, by head, where all that goes into it moves by a share of `jitter`."""
        still, moved = self.answer(surface, mine), self.answer(surface, mine, jitter)
        return {name: gap(moved[name], still[name]) for name in still}

    def filler(self, entry: Mapping[str, Any]) -> Tensor:
        """Any row of an input."""
        call = draw_call(Draw(entry["name"]), [{**entry, "level": "candidate"}], wild=True)
        x = call.inputs[entry["name"]]
        if len(x):
            return x[:1]
        kind = torch.int64 if entry["dtype"] == "int64" else torch.float32
        return torch.full([1, *entry["shape"][1:]], 3, dtype=kind)


def gap(found: Tensor, wanted: Tensor) -> float:
    """The largest difference, relative where numbers are above 1; infinite where NaNs or shapes differ."""
    found, wanted = found.double(), wanted.double()
    if found.shape != wanted.shape or not torch.equal(found.isnan(), wanted.isnan()):
        return float("inf")
    if not found.numel():
        return 0.0
    apart = (found - wanted).abs() / wanted.abs().clamp(min=1.0)
    return float(torch.where((found == wanted) | wanted.isnan(), 0.0, apart).nan_to_num(float("inf")).max())
