"""Weights for benchmarked builds: a seed's own, and what it leaves at zero or one varied, so that equal means equal."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn


def load_model(build: Path) -> nn.Module:
    """The unified model of a build, in eager PyTorch, with the seed's weights."""
    module = _import(build / "model.py")
    made = [x for x in vars(module).values() if isinstance(x, type) and hasattr(x, "forward")][-1]
    model: nn.Module = made(seed=0)
    return model.eval().requires_grad_(False)


def _import(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmarked_{path.parent.name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module


def varied(model: nn.Module, seed: int = 1) -> dict[str, Tensor]:
    """All its tensors by name: biases, norms and calibrations moved a little, buckets within what a spec clips to."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        x, last = tensor.detach().clone(), name.rsplit(".", 1)[-1]
        noise = torch.randn(x.shape, generator=generator)
        if last == "edges":
            x = (20 + 60 * torch.rand(x.shape, generator=generator)).sort(-1).values
        elif last in ("knots", "values"):
            x = (x + 0.02 * noise).sort(-1).values
        elif last == "std":
            x = 1 + noise.abs()
        elif last != "missing" and (x.dim() < 2 or x.size(-1) < 3):
            x = x + 0.05 * noise
        state[name] = x.contiguous()
    return state
