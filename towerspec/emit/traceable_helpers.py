"""The helpers that stand in for those of the same name in code that torch.export traces.

They decide nothing by a number of rows, so that one program serves any; `towerspec.emit.helpers` says what each is.
"""

import torch
from torch import Tensor


def row_map(r: int, n: int, counts: Tensor | None, like: Tensor) -> Tensor:
    """The request that each of n candidates belongs to, from how many candidates each of r requests has."""
    if counts is None:  # all inputs are of one level: nothing asks
        return torch.arange(n, device=like.device)
    fit = ((counts >= 0) & (counts <= n)).all() & (counts.sum() == n)
    torch.ops.aten._assert_async.msg(fit, "candidates_per_request must hold counts that add up to the candidates")
    # No count leads out of the requests, whether or not a backend keeps the assertion.
    return torch.searchsorted(counts.cumsum(0), torch.arange(n, device=like.device), right=True).clamp(max=r - 1)


def expand(x: Tensor, n: int, request: Tensor) -> Tensor:
    """Each request's row for each of its candidates: [R, ...] to [N, ...]."""
    return x.index_select(0, request)
