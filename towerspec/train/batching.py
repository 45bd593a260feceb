"""From encoded rows to batches: drawn by weight, shuffled within a buffer, dealt out to ranks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from towerspec.train.batch import Batch
from towerspec.train.encode import Array
from towerspec.train.rows import Rows, join


def shuffled(
    parts: Iterator[Rows], seed: int | None, weights: Array, buffer: int, together: bool = False
) -> Iterator[tuple[Rows, Array]]:
    """Rows with the order in which they come: as they are without a seed, else shuffled `buffer` bytes at a time.

    `weights` has a number for each surface: how often its rows are drawn. With `together`, rows of a request stay so.
    """
    generator = np.random.default_rng([seed or 0, 1])
    waiting: list[Rows] = []
    for rows in parts:
        waiting.append(rows)
        if seed is None or sum(part.bytes for part in waiting) >= buffer:
            joined, waiting = join(waiting), []
            yield joined, drawn(joined, seed is not None, weights, generator, together)
    if waiting:
        joined = join(waiting)
        yield joined, drawn(joined, seed is not None, weights, generator, together)


def drawn(rows: Rows, shuffle: bool, weights: Array, generator: np.random.Generator, together: bool) -> Array:
    """The positions of rows that are drawn, in order: a row of weight 2.3 comes twice, and in 3 of 10 cases thrice."""
    order = np.arange(len(rows))
    if not (weights == 1).all():
        wanted = weights[rows.surface]
        times = np.floor(wanted).astype(np.int64) + (generator.random(len(rows)) < wanted % 1.0)
        order = np.repeat(order, times)
    if not shuffle or not len(rows):
        return order
    if together and rows.request is not None:
        _, request = np.unique(rows.request, return_inverse=True)
        place = generator.permutation(int(request.max()) + 1)
        return order[np.argsort(place[request[order]], kind="stable")]
    return generator.permutation(order)


def deal(parts: Iterator[tuple[Rows, Array]], size: int, rank: int, world: int) -> Iterator[Rows]:
    """This rank's share of each `size` rows: equally many shares on every rank, and none more than a row larger."""
    left: Rows | None = None
    for rows, order in parts:
        if left is not None:
            order = np.concatenate([np.arange(len(left)), order + len(left)])
            rows = join([left, rows])
        full = len(order) // size * size
        for start in range(0, full, size):
            yield rows.take(np.array_split(order[start : start + size], world)[rank])
        left = rows.take(order[full:]) if full < len(order) else None
    if left is not None:
        yield left.take(np.array_split(np.arange(len(left)), world)[rank])


def to_batch(rows: Rows) -> Batch:
    """Rows as tensors of the types that the model takes."""

    def tensor(x: Array) -> torch.Tensor:
        x = np.ascontiguousarray(x, dtype=np.int64 if x.dtype.kind == "i" else x.dtype)
        return torch.from_numpy(x if x.flags.writeable else x.copy())

    return Batch(
        {name: tensor(x) for name, x in rows.features.items()},
        tensor(rows.surface),
        {name: tensor(x) for name, x in rows.labels.items()},
        None if rows.request is None else tensor(rows.request),
    )
