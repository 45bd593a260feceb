"""Surfaces that one process serves hold the trunk's weights once, and predict what they do alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import towerspec
from towerspec.check import check
from towerspec.emit.build import compile_spec
from towerspec.runtime.sharing import Pool

SPECS = Path(__file__).parent.parent / "specs"


def constants(module: Any) -> list[torch.Tensor]:
    return [
        node.t("value")
        for node in module.graph.findAllNodes("prim::Constant")
        if node.hasAttribute("value") and node.kindOf("value") == "t"
    ]


@pytest.mark.parametrize("name", ["quickstart", "view_types", "star"])
def test_surfaces_share_and_predict_what_they_do_alone(name: str, tmp_path: Path) -> None:
    compile_spec(check(SPECS / f"{name}.tower"), tmp_path / "build")
    bundle = towerspec.load(tmp_path / "build")
    weights: list[torch.Tensor] = []
    for surface in bundle.surfaces.values():
        alone = torch.jit.load(str(tmp_path / "build" / surface.entry["file"]))
        inputs = surface.sample_inputs(candidates=5)
        with torch.inference_mode():
            for wanted, found in zip(alone(*inputs.values()), surface(inputs).values(), strict=True):
                assert torch.equal(wanted.nan_to_num(-1.0), found.nan_to_num(-1.0))
        weights += [x for x in constants(surface.module) if x.numel() > 1024]
    for i, x in enumerate(weights):
        for other in weights[:i]:
            assert x.data_ptr() == other.data_ptr() or not torch.equal(x, other)
    assert len({x.data_ptr() for x in weights}) < len(weights)


def test_only_what_is_alike_bit_for_bit_is_shared() -> None:
    pool, x = Pool(), torch.zeros(2000)
    minus, nan = -torch.zeros(2000), torch.full([2000], float("nan"))
    assert pool._one(x) is x
    assert pool._one(x.clone()) is x
    assert pool._one(minus) is minus  # -0.0 == 0.0, but 1 / -0.0 isn't 1 / 0.0
    assert pool._one(nan) is nan
    assert pool._one(nan.clone()) is nan
    for other in (x.double(), x.reshape(40, 50), x.reshape(40, 50).t(), torch.zeros(3)):
        assert pool._one(other) is other
