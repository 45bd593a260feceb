"""The generated model in memory, and which of its parameters belong to whom."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from towerspec.check import Checked
from towerspec.emit.names import class_name
from towerspec.emit.python import render_model
from towerspec.emit.torchscript import load_source, tensors
from towerspec.ir.graph import Graph
from towerspec.ir.primitives import BatchNorm, Embed, Param
from towerspec.ir.verify import verify
from towerspec.passes import slice_surface
from towerspec.passes.hoist import hoist
from towerspec.train.batchnorm import batch_norm, every, some


def build_module(checked: Checked, seed: int = 0) -> nn.Module:
    """The generated model of a sound spec, in training mode, its parameters made from the seed.

    `forward(features, surface)` takes `[B, ...]` tensors by feature name and `[B]` indexes of surfaces, and returns
    `{head: prediction, f"{head}.logit": logit}` with NaN in the rows that don't have the head.

    Raises:
        SpecError: the spec has errors.
    """
    _, graph = checked.sound()
    slices = {surface: slice_surface(graph, surface) for surface in graph.surfaces}
    return _load(checked, graph, slices, seed)


def shared_module(checked: Checked, seed: int = 0) -> nn.Module:
    """The same model, in which what depends on the request alone is computed on its `R` rows.

    `forward(features, surface, request)` takes `[R, ...]` tensors of the features that it names in `REQUEST`, and in
    `request` `[B]` which of their rows is each row's. It has no method for a single surface.

    Raises:
        SpecError: the spec has errors.
    """
    _, graph = checked.sound()
    return _load(checked, verify(hoist(graph, training=True).without_dead()), {}, seed)


def _load(checked: Checked, graph: Graph, slices: dict[str, Graph], seed: int) -> nn.Module:
    model, _ = checked.sound()
    module = load_source(render_model(graph, slices, model.path), "model")
    module.__dict__["F"] = _Functional()
    if any(isinstance(op.prim, BatchNorm) for op in graph.ops):
        module.__dict__.update(batch_norm=batch_norm, some=some, every=every)
    made: nn.Module = getattr(module, class_name(graph.model))(seed=seed)
    return made.train()


class _Functional:
    """`torch.nn.functional` as training wants it of the generated code: gradients of a table's looked-up rows alone
    where it has `sparse_rows`.
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(F, name)

    @staticmethod
    def embedding(ids: Tensor, weight: Tensor) -> Tensor:
        return F.embedding(ids, weight, sparse=getattr(weight, "sparse_rows", False))


def sparse_gradients(module: nn.Module, paths: Iterable[str]) -> None:
    """Gives these tables of a generated module gradients that hold the looked-up rows and no others."""
    found = tensors(module)
    for path in paths:
        found[path].sparse_rows = True  # type: ignore[attr-defined]


def owners(graph: Graph) -> dict[str, str | None]:
    """For each parameter's path, the surface that it belongs to; none for the trunk's."""
    return {param.path: op.owner for op, param in graph.params}


def tables(graph: Graph) -> frozenset[str]:
    """The paths of the embedding tables: what training changes, and look-ups, and nothing else, read."""
    read = [(id_, isinstance(op.prim, Embed)) for op in graph.ops for id_ in op.inputs]
    otherwise = {id_ for id_, looked_up in read if not looked_up}
    found = [graph.by_id[id_].prim for id_, looked_up in read if looked_up and id_ not in otherwise]
    return frozenset(prim.path for prim in found if isinstance(prim, Param) and prim.trainable)


def shared_layer(graph: Graph) -> list[str]:
    """The paths of the trained parameters of the trunk's last statement that has any which all surfaces share."""
    found = [
        (op.scope, op.prim.path)
        for op in graph.ops
        if isinstance(op.prim, Param) and op.prim.trainable and op.owner is None and op.prim.path.startswith("trunk.")
    ]
    return [path for scope, path in found if scope == found[-1][0]]
