"""Weights as training leaves them, not as they begin: large ones, zeros, tables of distinct rows, knots out of line."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from towerspec.ir.graph import Graph
from towerspec.ir.primitives import Param

__all__ = ["draw_weights", "jittered"]


def draw_weights(graph: Graph, seed: int) -> dict[str, Tensor]:
    """A tensor for each of a graph's parameters; each is drawn by its own name, so that no other part changes it."""
    return {param.path: _tensor(param, _generator(f"{seed}:{param.path}")) for _, param in graph.params}


def _generator(name: str) -> torch.Generator:
    digest = hashlib.sha256(name.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))


def _tensor(param: Param, g: torch.Generator) -> Tensor:
    shape, kind = list(param.shape), param.init.kind
    noise = torch.randn(shape, generator=g)
    if param.dtype == "int" or kind == "constant":
        whole = torch.full(shape, param.init.values[0])
        return whole.to(torch.int64) if param.dtype == "int" else whole
    if kind == "range":  # edges and knots ascend, a line's values as well; now and then two knots are one
        low, high = param.init.values
        steps = torch.rand(shape, generator=g) + 0.05
        rise = steps.cumsum(-1)
        return low + (high - low) * (rise - rise[..., :1]) / rise[..., -1:].clamp(min=1e-6)
    if not param.trainable:  # statistics and calibrations
        if kind == "ones":
            return (0.4 * noise).exp()
        return -(noise.abs()) if param.path.endswith(".low") else 0.5 * noise
    return _learned(noise, kind, g)


def _learned(noise: Tensor, kind: str, g: torch.Generator) -> Tensor:
    chance = torch.rand(4, generator=g).tolist()
    fan = noise.shape[-1] if noise.dim() > 1 and kind == "uniform" else 1
    scale = (0.2, 0.7, 1.0, 2.0)[int(chance[0] * 4)] / fan**0.5
    made = scale * noise + (1.0 if kind == "ones" else 0.0)
    if chance[1] < 0.15 and made.numel() > 1:  # a few are far larger than the others
        made = torch.where(torch.rand(made.shape, generator=g) < 0.1, 8.0 * made, made)
    if chance[2] < 0.1 and made.dim() > 1:  # units that died
        made = made * (torch.rand(made.shape[0], generator=g) < 0.7).reshape(-1, *[1] * (made.dim() - 1))
    return torch.zeros_like(made) if chance[3] < 0.04 else made


def jittered(tensors: Mapping[str, Tensor], by: float, seed: int) -> dict[str, Tensor]:
    """The tensors in float64, each number changed at random by a share of itself: what rounding may do to it."""
    g = torch.Generator().manual_seed(seed)
    return {
        name: x.double() * (1.0 + by * torch.randn(x.shape, generator=g, dtype=torch.float64))
        if x.is_floating_point()
        else x
        for name, x in tensors.items()
    }
