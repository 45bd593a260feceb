"""Each row goes through the trunk and its own surface's tower alone, forwards and backwards, on every spec.

That no surface's own can reach another's output is known of every spec before it is ever run: the checker refuses a
name of another surface (T406, `tests/diagnostics/T406_foreign.tower`), the builder an operation that mixes two
surfaces' own (T407), and `towerspec.ir.verify` checks each graph anew. The first test states what follows; the
others hold the generated model to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from towerspec.check import check
from towerspec.check.model import Model, PathDef
from towerspec.emit.names import path_of
from towerspec.ir.graph import Graph
from towerspec.train.module import build_module, owners

from .batches import features_for, inputs_by_surface, mixes

SPECS = sorted((Path(__file__).parents[2] / "specs").glob("*.tower"))
ROWS = 160  # enough for every arm of every branch


@dataclass(frozen=True)
class Case:
    """A spec, its generated model in float64 with parameters away from their first zeros, and its inputs."""

    model: Model
    graph: Graph
    module: nn.Module
    inputs: dict[str, list[dict[str, Any]]]

    def run(self, surface: Tensor, seed: int = 0) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        features = features_for(self.inputs, len(surface), seed)
        return features, self.module(features, surface)


@pytest.fixture(scope="module", params=SPECS, ids=lambda p: p.stem)
def case(request: pytest.FixtureRequest) -> Case:
    checked = check(request.param)
    model, graph = checked.sound()
    module = build_module(checked).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return Case(model, graph, module.eval(), inputs_by_surface(model, graph))


def test_an_output_is_computed_from_the_trunk_and_its_surface_alone(case: Case) -> None:
    for output in case.graph.outputs:
        ancestors = case.graph.ancestors([output.logit, output.prediction])
        assert {case.graph.by_id[id_].owner for id_ in ancestors} <= {None, output.surface}


@pytest.mark.parametrize("mix", ["none", "one", "one of the last", "all the same", "all but the first", "mixed"])
def test_rows_get_what_their_surface_gives(case: Case, mix: str) -> None:
    surface = mixes(case.graph.surfaces)[mix]
    with torch.no_grad():
        features, out = case.run(surface)
        heads = {o.name for o in case.graph.outputs}
        assert set(out) == heads | {f"{head}.logit" for head in heads}
        for index, name in enumerate(case.graph.surfaces):
            rows = (surface == index).nonzero().flatten()
            wanted = getattr(case.module, name)(*(features[e["name"]][rows] for e in case.inputs[name]))
            own = [o.name for o in case.graph.outputs if o.surface == name]
            for head, values in zip(own, wanted, strict=True):
                torch.testing.assert_close(out[head][rows], values, atol=1e-9, rtol=1e-9, equal_nan=True)
            for head in heads - set(own):
                assert out[head][rows].isnan().all()


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_a_row_gives_no_gradient_to_another_surface(case: Case, training: bool) -> None:
    """In a batch of all surfaces, for each of them: what is another's gets none, or a zero in every bit."""
    names = case.graph.surfaces
    surface = torch.arange(len(names) * 4) % len(names)
    belongs = owners(case.graph)
    case.module.train(training)
    try:
        _, out = case.run(surface)
        for index, name in enumerate(names[:6]):
            grads = gradients(case.module, out, surface == index)
            others = {path: grad for path, grad in grads.items() if belongs[path] not in (None, name)}
            assert all(grad is None or not grad.count_nonzero() for grad in others.values()), name
    finally:
        case.module.eval()


def test_a_batch_of_one_surface_never_touches_another(case: Case) -> None:
    belongs = owners(case.graph)
    for index, name in enumerate(case.graph.surfaces[:6]):
        surface = torch.full([ROWS], index)
        _, out = case.run(surface, seed=index)
        grads = gradients(case.module, out, surface == index)
        assert all(grads[path] is None for path in grads if belongs[path] not in (None, name))
        own = {path: grad for path, grad in grads.items() if belongs[path] == name}
        idle = [path for path, grad in own.items() if grad is None or not grad.count_nonzero()]
        assert not idle, f"{name}: no gradient for {idle}"


def test_an_arm_gives_no_gradient_to_another(case: Case) -> None:
    """Rows that all run one leaf of a tower's tree touch nothing of the arms beside it."""
    for surface in case.model.surfaces.values():
        arms = [path.key for path in surface.tower.walk()][1:]
        for leaf, keys in leaves(surface.tower, {}):
            which = torch.full([48], case.graph.surfaces.index(surface.name))
            features = features_for(case.inputs, 48)
            for key, id_ in keys.items():
                features[case.model.features[key].name].fill_(id_)
            grads = gradients(case.module, case.module(features, which), which >= 0)
            for path, grad in grads.items():
                arm = max((a for a in arms if path.startswith(f"{a}.")), key=len, default=None)
                assert grad is None or arm is None or f"{leaf}.".startswith(f"{arm}."), (leaf, path)
            assert not keys or any(g is not None for path, g in grads.items() if path.startswith(f"{leaf}."))


def leaves(path: PathDef, keys: dict[str, int]) -> Iterator[tuple[str, dict[str, int]]]:
    """The leaves of a tower's tree, each with the ids of the branches' keys that lead to it."""
    if path.branch is None:
        yield path.key, keys
        return
    for arm in path.branch.arms:
        yield from leaves(arm.path, {**keys, path.branch.key: arm.ids[0] if arm.ids else -1})


def test_a_row_costs_the_trunk_and_its_own_tower(case: Case) -> None:
    """The FLOPs of a mixed batch are those of its rows, each on its own surface; no tower runs on another's rows."""
    surface = mixes(case.graph.surfaces, rows=12)["mixed"]
    features = features_for(case.inputs, len(surface))
    alone = 0
    for index in range(len(case.graph.surfaces)):
        rows = (surface == index).nonzero().flatten()
        alone += flops(case.module, {name: x[rows] for name, x in features.items()}, surface[rows])
    assert flops(case.module, features, surface) == alone > 0


@pytest.mark.parametrize("mix", ["none", "one", "all the same", "mixed"])
def test_a_training_step_is_finite(case: Case, mix: str) -> None:
    """Batch normalisation meets batches of no row and of one, as a whole and per surface."""
    surface = mixes(case.graph.surfaces)[mix]
    before = {name: x.clone() for name, x in case.module.state_dict().items()}
    case.module.train()
    try:
        _, out = case.run(surface)
        grads = gradients(case.module, out, torch.ones_like(surface, dtype=torch.bool))
        assert all(grad.isfinite().all() for grad in grads.values() if grad is not None)
        assert all(x.isfinite().all() for x in case.module.buffers())
    finally:
        case.module.load_state_dict(before)
        case.module.eval()


def gradients(module: nn.Module, out: dict[str, Tensor], rows: Tensor) -> dict[str, Tensor | None]:
    """The gradient of the given rows' logits for each parameter, none where they don't reach it."""
    logits = [x[rows] for name, x in out.items() if name.endswith(".logit")]
    known = [x[~x.isnan()] for x in logits]
    generator = torch.Generator().manual_seed(2)
    weighted = [(x * torch.randn(x.shape, generator=generator, dtype=x.dtype)).sum() for x in known]
    names = [path_of(name) for name, _ in module.named_parameters()]
    loss = torch.stack(weighted).sum()
    if not loss.requires_grad:
        return dict.fromkeys(names)
    found = torch.autograd.grad(loss, list(module.parameters()), allow_unused=True, retain_graph=True)
    return dict(zip(names, found, strict=True))


def flops(module: nn.Module, features: dict[str, Tensor], surface: Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(features, surface)
    return int(counter.get_total_flops())
