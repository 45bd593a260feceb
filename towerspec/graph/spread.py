"""Places things side by side, each as near as it can be to where it wants to be."""

from __future__ import annotations

import itertools
from collections.abc import Sequence


def spread(wanted: Sequence[float], widths: Sequence[float], gap: float) -> list[float]:
    """Centres in the given order, at least the widths and the gap apart, that move least from where they are wanted.

    Least squares under an order is isotonic regression, by pooling adjacent violators: Barlow et al. 1972.

    >>> spread([0, 0, 100], [10, 10, 10], 2)
    [-6.0, 6.0, 100.0]
    """
    offsets = [0.0]
    for left, right in itertools.pairwise(widths):
        offsets.append(offsets[-1] + (left + right) / 2 + gap)
    pools: list[tuple[float, int]] = []  # the mean of each pool, and how many are in it
    for want, offset in zip(wanted, offsets, strict=False):
        mean, count = float(want) - offset, 1
        while pools and pools[-1][0] > mean:
            before, many = pools.pop()
            mean, count = (before * many + mean * count) / (many + count), many + count
        pools.append((mean, count))
    flat = [mean for mean, count in pools for _ in range(count)]
    return [mean + offset for mean, offset in zip(flat, offsets, strict=False)]
