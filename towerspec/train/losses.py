"""What a head's raw logit costs against its label, and the mean of it over a batch's rows, by task."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from towerspec.check.model import BranchDef, HeadDef, Model, PathDef
from towerspec.layers.heads import Head
from towerspec.train.batch import Batch

_Arms = tuple[tuple[str, tuple[int, ...], bool], ...]
LARGEST_LOG_RATE = 30.0  # where the count head's link stops to grow


def binary_cross_entropy(z: Tensor, y: Tensor) -> Tensor:
    """`-y log p - (1 - y) log(1 - p)` with `p = sigmoid(z)`, each `[N]`.

    Written with two log-sigmoids, whose gradients `sigmoid(-z)` and `sigmoid(z)` keep their digits where p is close to
    0 or 1. A product head divides by `1 - p` on the way back, and there the usual `p - y` has none left.
    """
    return -(y * F.logsigmoid(z) + (1 - y) * F.logsigmoid(-z))


def squared_error(z: Tensor, y: Tensor) -> Tensor:
    """`(z - y)^2`, each `[N]`."""
    return (z - y).square()


def huber(z: Tensor, y: Tensor) -> Tensor:
    """Half the squared error up to a distance of 1, and linear beyond: Huber 1964, doi:10.1214/aoms/1177703732."""
    return F.huber_loss(z, y, reduction="none")


def poisson(z: Tensor, y: Tensor) -> Tensor:
    """`exp(z) - y z`, the negative log-likelihood of a count but for what doesn't depend on `z`; each `[N]`.

    Beyond a log rate of 30 the exponential goes on as its tangent, so that the gradient stays finite and keeps its
    sign.
    """
    beyond = F.relu(z - LARGEST_LOG_RATE)
    return (z - beyond).exp() * (1 + beyond) - y * z


def cross_entropy(z: Tensor, y: Tensor) -> Tensor:
    """`-log softmax(z)[y]`: logits `[N, C]`, classes `[N]` from 0 to C - 1 as numbers."""
    return F.cross_entropy(z, y.long(), reduction="none")


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "binary_cross_entropy": binary_cross_entropy,
    "squared_error": squared_error,
    "huber": huber,
    "poisson": poisson,
    "cross_entropy": cross_entropy,
}


@dataclass(frozen=True)
class Term:
    """One task's losses on a batch: `values` `[N]` of the rows that have it, and which rows those are."""

    values: Tensor
    rows: Tensor
    weights: Tensor

    @property
    def total(self) -> Tensor:
        """The sum over the rows, each times its head's weight and its surface's."""
        return (self.values * self.weights).sum()


@dataclass(frozen=True)
class _Place:
    """Where a head stands: its surface, the arms on the way to it, its weight and its logit's offset in the loss."""

    surface: int
    arms: _Arms  # a key's feature, ids, and whether the arm takes these or all others
    weight: float
    offset: float

    def holds(self, rows: Tensor, batch: Batch) -> Tensor:
        """Which of the rows run through this place."""
        here = batch.surface[rows] == self.surface
        for feature, ids, these in self.arms:
            one = torch.isin(batch.features[feature][rows], torch.tensor(ids, device=rows.device))
            here = here & (one if these else ~one)
        return here


class Losses:
    """The losses of a model's tasks; a task is a head's name, on whatever surfaces and arms it stands."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.kinds: dict[str, Head] = {}
        self.places: dict[str, list[_Place]] = {}
        for index, surface in enumerate(model.surfaces.values()):
            self._collect(surface.tower, index, surface.weight, ())

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(self.kinds)

    def _collect(self, path: PathDef, surface: int, weight: float, arms: _Arms) -> None:
        for head in path.heads:
            self.kinds.setdefault(head.name, head.kind)
            place = _Place(surface, arms, weight * head.kind.weight, offset(head))
            self.places.setdefault(head.name, []).append(place)
        for arm in path.branch.arms if path.branch else ():
            assert path.branch is not None
            self._collect(arm.path, surface, weight, (*arms, self._chosen(path.branch, arm.ids)))

    def _chosen(self, branch: BranchDef, ids: tuple[int, ...]) -> tuple[str, tuple[int, ...], bool]:
        listed = tuple(i for arm in branch.arms for i in arm.ids)
        return (self.model.features[branch.key].name, ids or listed, bool(ids))

    def __call__(self, out: Mapping[str, Tensor], batch: Batch) -> dict[str, Term]:
        """The terms of the tasks that the batch has labels of, by task; there may be no row in one.

        A row has a task where its surface, and its arm, has the head and where its label is not NaN.
        """
        return {task: self._term(task, out[f"{task}.logit"], batch) for task in self.kinds if task in batch.labels}

    def _term(self, task: str, z: Tensor, batch: Batch) -> Term:
        labels = batch.labels[task]
        rows = self._held(task, (~labels.isnan()).nonzero().flatten(), z, batch)
        weights = self._each(task, "weight", rows, batch)
        z, y = z[rows].float(), labels[rows]
        if any(p.offset for p in self.places[task]):
            z = z + self._each(task, "offset", rows, batch)
        return Term(LOSSES[self.kinds[task].loss](z, y), rows, weights)

    def _held(self, task: str, rows: Tensor, z: Tensor, batch: Batch) -> Tensor:
        """Those of the rows that run through a head of the task.

        Its logit is NaN in all others. It is in some that do where the model has diverged: they have to stay, so that
        the loss shows it.
        """
        if not z[rows].isnan().any():
            return rows
        return rows[torch.stack([place.holds(rows, batch) for place in self.places[task]]).any(0)]

    def _each(self, task: str, field: str, rows: Tensor, batch: Batch) -> Tensor:
        """A property of the place that each row runs through, `[N]`."""
        values = torch.zeros(len(self.model.surfaces), device=rows.device)
        for place in self.places[task]:
            values[place.surface] = getattr(place, field)
        found = values[batch.surface[rows]]
        for place in self.places[task]:
            if place.arms and getattr(place, field) != values[place.surface]:
                found = torch.where(place.holds(rows, batch), getattr(place, field), found)
        return found


def offset(head: HeadDef) -> float:
    """What thinned-out negatives add to the log-odds of the rows that are left: `-log` of the share that was kept.

    The loss sees the logit plus the offset, so that the logit itself, and all that is made of it, is of the traffic as
    it was: the correction of He et al. 2014, doi:10.1145/2648584.2648589, section 6.3, learned instead of applied.
    """
    return -math.log(getattr(head.kind, "negatives_kept", 1.0))
