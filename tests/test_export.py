"""What torch.export traces: every layer, fusion and spec, for any number of rows, none and one included.

torch.export alone runs here, without a C++ compiler.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fusions.cases import CASES as FUSIONS
from fusions.cases import IDS as FUSION_IDS
from layers.cases import CASES as LAYERS
from layers.cases import IDS as LAYER_IDS
from layers.harness import exported
from torch import Tensor, nn

from towerspec.check import check
from towerspec.check.model import Model
from towerspec.emit import aoti, constants, reference, torchscript
from towerspec.emit.manifest import surface_inputs
from towerspec.emit.python import render_surface
from towerspec.emit.verify import ROUNDING, SHAPES, difference
from towerspec.ir.graph import Graph
from towerspec.ir.types import Level
from towerspec.layers.base import Fusion, Layer
from towerspec.passes import optimise, slice_surface
from towerspec.runtime.samples import sample

SPECS = sorted((Path(__file__).parent.parent / "specs").glob("*.tower"))
PARTS = [*((case.layer, case.arrays(4)) for case in LAYERS), *((case.fusion, case.arrays(4)) for case in FUSIONS)]


@pytest.mark.parametrize(("part", "arrays"), PARTS, ids=[*LAYER_IDS, *FUSION_IDS])
def test_a_layers_program_serves_any_number_of_rows(part: Layer | Fusion, arrays: tuple[np.ndarray, ...]) -> None:
    for found, wanted in exported(part, *arrays, rows=(0, 1, 4)):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("spec", SPECS, ids=lambda p: p.stem)
def test_a_surfaces_program_serves_any_number_of_requests_and_candidates(spec: Path) -> None:
    model, graph = check(spec).sound()
    sliced = slice_surface(graph, graph.surfaces[0])
    weights = random_weights(sliced)
    program = traced(model, *constants.fold(optimise(graph, graph.surfaces[0]), weights))
    entries = surface_inputs(model, sliced)
    requests = Level.REQUEST in {i.level for _, i in sliced.inputs}
    for counts in SHAPES:
        counts = counts if requests else (sum(counts),)
        inputs = sample(entries, counts, 5)
        wanted = reference.run(sliced, inputs, weights, sum(counts), torch.tensor(counts) if requests else None)
        for output, found in zip(sliced.outputs, program(*inputs.values()), strict=True):
            assert difference(found, wanted[output.prediction]) <= ROUNDING, (counts, output.name)


def random_weights(graph: Graph) -> dict[str, Tensor]:
    """Small numbers by path; what divides is away from zero, and a calibration's knots ascend."""
    generator = torch.Generator().manual_seed(0)
    made = {}
    for _, param in graph.params:
        x = 0.1 * torch.randn(param.shape, generator=generator)
        if param.path.endswith(("std", "var", "temperature")):
            x = x.abs() + 0.5
        made[param.path] = x.sort(-1).values if param.path.endswith(("knots", "edges")) else x
    return made


def traced(model: Model, graph: Graph, weights: dict[str, Tensor]) -> nn.Module:
    """A surface's exported program, as a module."""
    rendered = render_surface(graph, model.path, traceable=True)
    module = getattr(torchscript.load_source(rendered.source, "traced"), rendered.cls)()
    module = torchscript.fill(module, weights).eval().requires_grad_(False)
    entries = surface_inputs(model, graph)
    both = {entry["level"] for entry in entries} == {"request", "candidate"}
    inputs = sample(entries, (3, 0, 4) if both else (7,), 0)
    return aoti.export(module, entries, list(inputs.values())).module()
