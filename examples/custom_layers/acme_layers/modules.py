"""The PyTorch modules behind our layers. Generated code imports them; serving graphs carry them inside."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Periodic(nn.Module):
    """`[…, D]` to `[…, 2 D K]`: sines, then cosines, of `2 pi f x`."""

    def __init__(self, numbers: int, frequencies: int) -> None:
        super().__init__()
        self.frequency = nn.Parameter(torch.zeros(numbers, frequencies))

    def forward(self, x: Tensor) -> Tensor:
        angle = (6.283185307179586 * x.unsqueeze(-1) * self.frequency).flatten(-2)
        return torch.cat([angle.sin(), angle.cos()], dim=-1)
