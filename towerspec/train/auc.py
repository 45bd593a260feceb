"""The area under the ROC curve, by ranks."""

from __future__ import annotations

import torch
from torch import Tensor


def auc(scores: Tensor, labels: Tensor) -> float:
    """How often a positive row scores above a negative one, ties counting half; NaN where one of them is missing.

    The Mann-Whitney statistic from mean ranks; `scores` and `labels` are `[N]`. Fawcett 2006,
    doi:10.1016/j.patrec.2005.10.010, section 7.

    >>> auc(torch.tensor([0.1, 0.4, 0.4, 0.8]), torch.tensor([0.0, 0.0, 1.0, 1.0]))
    0.875
    """
    positive = labels > 0.5
    n, m = int(positive.sum()), int((~positive).sum())
    if not n or not m:
        return float("nan")
    _, inverse, counts = torch.unique(scores, return_inverse=True, return_counts=True)
    last = counts.cumsum(0)  # the rank of each distinct score's last row, from 1
    ranks = (last - (counts - 1) / 2.0).double()[inverse]
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * m))
