"""A log of impressions in memory, for what needs no files: made from a teacher, so that there is something to learn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from towerspec.check import Checked
from towerspec.train.batch import Batch
from towerspec.train.module import build_module

from .batches import features_for, inputs_by_surface


@dataclass(frozen=True)
class Fitted:
    statistics: Mapping[str, Any] = field(default_factory=dict)
    vocabularies: Mapping[str, list[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Memory:
    """Rows held as tensors, drawn in an order that follows from the seed."""

    held: Batch
    surfaces: tuple[str, ...]
    fitted: Fitted = Fitted()

    def rows(self) -> int:
        return len(self.held)

    @property
    def counts(self) -> dict[str, int]:
        found = torch.bincount(self.held.surface, minlength=len(self.surfaces)).tolist()
        return dict(zip(self.surfaces, found, strict=True))

    def with_vocabularies(self, vocabularies: Mapping[str, Any]) -> Memory:
        return self

    def fit(self) -> Fitted:
        return self.fitted

    def batches(
        self,
        size: int,
        seed: int | None = None,
        weights: Mapping[str, float] | None = None,
        rank: int = 0,
        world: int = 1,
        together: bool = False,
    ) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(seed or 0)
        order = torch.arange(len(self.held)) if seed is None else torch.randperm(len(self.held), generator=generator)
        for start in range(0, len(self.held), size):
            yield pick(self.held, order[start : start + size][rank::world])


def pick(batch: Batch, rows: Tensor) -> Batch:
    """Some rows of a batch."""
    features = {name: x[rows] for name, x in batch.features.items()}
    labels = {name: x[rows] for name, x in batch.labels.items()}
    return Batch(features, batch.surface[rows], labels, None if batch.request is None else batch.request[rows])


def learnable(checked: Checked, rows: int, seed: int = 0, teacher: int = 99) -> Memory:
    """Random inputs with the labels that a model of other weights gives them."""
    model, graph = checked.sound()
    features = {
        name: x.float() if x.is_floating_point() else x
        for name, x in features_for(inputs_by_surface(model, graph), rows, seed).items()
    }
    generator = torch.Generator().manual_seed(seed)
    surface = torch.randint(0, len(graph.surfaces), [rows], generator=generator)
    with torch.no_grad():
        out = build_module(checked, teacher).eval()(features, surface)
    labels = {o.name: _label(o.kind, out[f"{o.name}.logit"], generator) for o in graph.outputs}
    return Memory(Batch(features, surface, labels), graph.surfaces)


def _label(kind: str, z: Tensor, generator: torch.Generator) -> Tensor:
    if kind in ("binary", "product"):
        drawn = (torch.rand(z.shape, generator=generator) < torch.sigmoid(4 * z)).float()
        return torch.where(z.isnan(), z, drawn)
    if kind == "multiclass":
        return torch.where(z[:, 0].isnan(), torch.nan, z.argmax(-1).float())
    return z if kind == "regression" else torch.where(z.isnan(), z, z.exp().round())
