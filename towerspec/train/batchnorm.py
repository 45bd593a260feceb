"""Batch normalisation as training runs it in the generated code: over the rows of all processes, or frozen."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from towerspec.train.distributed import world


def batch_norm(
    x: Tensor, mean: Tensor, var: Tensor, scale: Tensor, shift: Tensor, training: bool, momentum: float, eps: float
) -> Tensor:
    """The helper of this name in generated code, `[N, D]` to `[N, D]`, where several processes share a step's rows.

    Where the statistics are `frozen` they stay, and stand in for the batch's. Ioffe & Szegedy 2015, arXiv:1502.03167.
    """
    training = training and not hasattr(mean, "frozen")
    if not training or world()[1] == 1:
        return F.batch_norm(x, mean, var, scale, shift, training and x.size(0) > 1, momentum, eps)
    z = x.to(torch.promote_types(x.dtype, torch.float32))
    rows = int(_total(torch.tensor(float(len(z)), device=z.device)))
    if rows < 2:
        return F.batch_norm(x, mean, var, scale, shift, False, momentum, eps)
    centre = _total(z.sum(0)) / rows
    spread = _total((z - centre).square().sum(0)) / rows
    with torch.no_grad():
        mean += momentum * (centre - mean)
        var += momentum * (spread * rows / (rows - 1) - var)
    return ((z - centre) * torch.rsqrt(spread + eps) * scale + shift).to(x.dtype)


def some(rows: Tensor) -> bool:
    """Whether any process has rows, so that all of them enter a part together: they meet in its normalisations."""
    if not _meet():
        return rows.numel() > 0
    return bool(_total(torch.tensor(float(rows.numel()), device=rows.device)) > 0)


def every(rows: Tensor, n: int) -> bool:
    """Whether all rows take one arm; never where processes meet, as its result would replace those of other arms, and
    the way back through them be missing in this process."""
    return not _meet() and rows.numel() == n


def _meet() -> bool:
    return world()[1] > 1 and torch.is_grad_enabled()  # validation normalises by what is known already


class _Total(torch.autograd.Function):
    """The sum over processes; each one's gradient is the sum of what all of them did with it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _summed(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _summed(grad)


def _total(x: Tensor) -> Tensor:
    found: Tensor = _Total.apply(x)
    return found


def _summed(x: Tensor) -> Tensor:
    total = x.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, group=_lane())
    return total


@functools.cache
def _lane() -> Any:
    """A group of all processes apart from the one that exchanges gradients: the two don't keep one order."""
    return dist.new_group()
