"""What the candidates of one request share is computed once, in training and evaluation too.

Request-only optimisation: arXiv:2508.05640.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from towerspec.train.batch import Batch

WORTH = 0.9  # requests a row from which on nothing is gained


def run(module: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """What a model says of a batch's rows, by head; of one from `shared_module`, the request's part once a request."""
    names = [name for name in module.REQUEST if name in batch.features]  # type: ignore[union-attr]
    found = requests(batch, names)
    if found is None:
        return dict(module(dict(batch.features), batch.surface))
    first, request = found
    once = {name: batch.features[name][first] for name in names}
    return dict(module({**batch.features, **once}, batch.surface, request))


def requests(batch: Batch, names: Sequence[str]) -> tuple[Tensor, Tensor] | None:
    """The first row of each request, `[R]`, and which request each row is of, `[B]`; none where few rows share one.

    Rows share a request where the log says so, and the surface and all the request's features are the same; a row that
    differs from its request's first one is a request of its own. So the numbers are those of rows that share nothing.
    """
    if batch.request is None or not names:
        return None
    rows = torch.arange(len(batch), device=batch.surface.device)
    ids, request = torch.unique(batch.request, return_inverse=True)
    if len(ids) > WORTH * len(batch):
        return None
    first = torch.full_like(ids, len(batch)).scatter_reduce(0, request, rows, "amin")
    same = batch.surface == batch.surface[first][request]
    for name in names:
        x = batch.features[name]
        y = x[first][request]
        same &= ((x == y) | ((x != x) & (y != y))).reshape(len(x), -1).all(1)  # not-a-number is like itself here
    alone = (~same).nonzero().flatten()
    request = request.index_copy(0, alone, len(ids) + torch.arange(len(alone), device=rows.device))
    return torch.cat([first, alone]), request
