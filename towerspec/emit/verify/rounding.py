"""How far arithmetic of so many bits may be from the reference.

A difference is relative where a number is above 1. What is rounded most is a row's largest number: where a request's
numbers are huge, and cancel, nothing smaller than its rounding can be told. So the bound grows with it, and no number
has to be left out for its size; where products could overflow, a row isn't compared.

A model can also amplify: where a rounding of its weights and inputs alone moves a prediction by more than the bound,
float arithmetic can't be held to it, and a difference counts only beyond what such roundings do (N. Higham, Accuracy
and Stability of Numerical Algorithms, section 1.6: the forward error is the condition number times the backward error).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Precision:
    """`tolerance` for ordinary rows, `unit` times a row's largest number for others, up to `limit`."""

    tolerance: float
    unit: float
    limit: float

    @property
    def backward(self) -> float:
        """The share by which rounding is taken to change each weight and input."""
        return self.unit / 4

    def allowed(self, sizes: Tensor) -> Tensor:
        """How far a row may be off, by its largest number `[N]`; infinite where anything may come out."""
        bound = (self.unit * sizes).clamp(min=self.tolerance)
        return torch.where(sizes < self.limit, bound, torch.full_like(bound, float("inf")))

    def ordinary(self, sizes: Tensor) -> Tensor:
        """Which rows have the bound of ordinary ones."""
        return self.unit * sizes <= self.tolerance


EXACT = 1e-9  # float64 against float64
ROUNDING = 2e-4  # float32 against float64
AMPLIFIED = 8.0  # times what a few changes at random do: how far off a row may be that amplifies roundings
DOUBLE = Precision(EXACT, 64 * 2.0**-53, 1e60)
SINGLE = Precision(ROUNDING, 64 * 2.0**-24, 1e12)


def difference(found: Tensor, wanted: Tensor) -> float:
    """The largest difference, relative where numbers are above 1; infinite where shapes or NaNs differ."""
    if found.shape != wanted.shape:
        return float("inf")
    return float(differences(found.reshape(-1), wanted.reshape(-1)).max()) if found.numel() else 0.0


def differences(found: Tensor, wanted: Tensor) -> Tensor:
    """The largest difference in each row `[N]`, as `difference` has it; both have one shape."""
    found, wanted = found.double(), wanted.double()
    gap = (found - wanted).abs() / wanted.abs().clamp(min=1.0)
    same = (found == wanted) | (found.isnan() & wanted.isnan())  # infinities of one sign, and no head for this row
    gap = torch.where(same, 0.0, gap).nan_to_num(nan=float("inf"), posinf=float("inf"))
    return gap.flatten(1).amax(-1) if gap.dim() > 1 else gap


def jittered(tensors: Mapping[str, Tensor], by: float, generator: torch.Generator) -> dict[str, Tensor]:
    """The tensors in float64, each number changed at random by a share of itself."""
    return {
        name: x.double() * (1.0 + by * torch.randn(x.shape, generator=generator, dtype=torch.float64))
        if x.is_floating_point()
        else x
        for name, x in tensors.items()
    }
