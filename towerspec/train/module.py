"""The generated model in memory, and which of its parameters belong to whom."""

from __future__ import annotations

from torch import nn

from towerspec.check import Checked
from towerspec.emit.names import class_name
from towerspec.emit.python import render_model
from towerspec.emit.torchscript import load_source
from towerspec.ir.graph import Graph
from towerspec.passes import slice_surface


def build_module(checked: Checked, seed: int = 0) -> nn.Module:
    """The generated model of a sound spec, in training mode, its parameters made from the seed.

    `forward(features, surface)` takes `[B, ...]` tensors by feature name and `[B]` indexes of surfaces, and returns
    `{head: prediction, f"{head}.logit": logit}` with NaN in the rows that don't have the head.

    Raises:
        SpecError: the spec has errors.
    """
    model, graph = checked.sound()
    slices = {surface: slice_surface(graph, surface) for surface in graph.surfaces}
    module = load_source(render_model(graph, slices, model.path), "model")
    made: nn.Module = getattr(module, class_name(graph.model))(seed=seed)
    return made.train()


def owners(graph: Graph) -> dict[str, str | None]:
    """For each parameter's path, the surface that it belongs to; none for the trunk's."""
    return {param.path: op.owner for op, param in graph.params}
