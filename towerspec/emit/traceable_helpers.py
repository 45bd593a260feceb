"""The helpers that stand in for those of the same name in code that torch.export traces.

They decide nothing by a number of rows, so that one program serves any; `towerspec.emit.helpers` says what each is.
"""

import torch
from torch import Tensor


def row_map(r: int, n: int, counts: Tensor | None, like: Tensor) -> Tensor:
    """The request that each of n candidates belongs to, from how many candidates each of r requests has."""
    if counts is None:  # all inputs are of one level: nothing asks
        return torch.arange(n, device=like.device)
    return torch.repeat_interleave(torch.arange(r, device=like.device), counts, output_size=n)


def expand(x: Tensor, n: int, request: Tensor) -> Tensor:
    """Each request's row for each of its candidates: [R, ...] to [N, ...]."""
    return x.index_select(0, request)
