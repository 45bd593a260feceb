"""Batches of a spec's inputs for any mix of its surfaces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from towerspec.check.model import Model
from towerspec.emit.manifest import surface_inputs
from towerspec.ir.graph import Graph
from towerspec.passes import slice_surface
from towerspec.runtime.samples import COUNTS, sample


def inputs_by_surface(model: Model, graph: Graph) -> dict[str, list[dict[str, Any]]]:
    """Each surface's inputs in call order, as the manifest has them."""
    found = {s: surface_inputs(model, slice_surface(graph, s)) for s in graph.surfaces}
    return {s: [e for e in entries if e["name"] != COUNTS] for s, entries in found.items()}


def features_for(inputs: dict[str, list[dict[str, Any]]], rows: int, seed: int = 0) -> dict[str, Tensor]:
    """A column for every feature of every surface, `[rows, ...]`, numbers in float64."""
    entries = {e["name"]: e for es in inputs.values() for e in es}
    made = sample(list(entries.values()), [1] * rows, seed)
    return {name: x.double() if x.is_floating_point() else x for name, x in made.items()}


def mixes(surfaces: Sequence[str], rows: int = 24) -> dict[str, Tensor]:
    """Batches by name: none, one row of the first and of the last, all of one surface, and two mixtures."""
    count = len(surfaces)
    generator = torch.Generator().manual_seed(0)
    mixed = torch.cat([torch.arange(count), torch.randint(0, count, [rows], generator=generator)])
    return {
        "none": torch.zeros([0], dtype=torch.int64),
        "one": torch.zeros([1], dtype=torch.int64),
        "one of the last": torch.full([1], count - 1),
        "all the same": torch.full([rows], count - 1),
        "all but the first": torch.randint(1, count, [rows], generator=generator) if count > 1 else mixed,
        "mixed": mixed[torch.randperm(len(mixed), generator=generator)],
    }
