"""A hidden teacher: the spec's own model with weights that make realistic probabilities of realistic features.

Since it is one of the models that training can find, no model can predict its labels better than it does.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from towerspec.check import Checked
from towerspec.emit.torchscript import tensors
from towerspec.layers.features import Number
from towerspec.layers.heads import Count, Multiclass, Product, Regression
from towerspec.train.batching import to_batch
from towerspec.train.columns import LabelColumn, Place
from towerspec.train.encode import Array
from towerspec.train.fitting import Moments
from towerspec.train.module import build_module
from towerspec.train.rows import Encoder, Rows, at_place

STEP = 1024  # rows that the teacher looks at together: sequences take room
NOISE = 0.5  # the deviation of a regression's labels around the truth


class Teacher:
    """The teacher of a spec; `fit` it to some rows before it is asked."""

    def __init__(self, checked: Checked, encoder: Encoder, seed: int) -> None:
        self.encoder = encoder
        self.module: nn.Module = build_module(checked, seed).eval().requires_grad_(False)
        self.rng = np.random.default_rng([seed, 20])

    def fit(self, rows: Rows) -> None:
        """Sets the features' statistics, the tables' spread, and each head's scale and base rate, by some rows."""
        state = tensors(self.module)
        for of in self.encoder.features.values():
            for feature in of:
                if isinstance(feature.kind, Number):
                    moments = Moments(feature)
                    moments.add(rows.features[feature.name])
                    for path, x in moments.result().items():
                        if path in state:
                            state[path].copy_(torch.from_numpy(x))
                weight = f"{feature.coding.table if feature.coding else feature.path}.weight"
                if weight in state:
                    # Rare ids of large tables say little: what is told of few rows nobody could learn.
                    known = state[weight].shape[0]
                    state[weight].mul_(12.0 * min(1.0, (30 / known) ** 0.25))
        logits = self.logits(rows)
        for label in self.encoder.labels.values():
            for place in label.places:
                here = at_place(place, rows.surface, rows.features)
                if here.any() and not isinstance(label.kind, Product):  # a product follows from its parts
                    self._set_head(label, place, logits[label.name][here].reshape(int(here.sum()), -1))

    def _set_head(self, label: LabelColumn, place: Place, logits: Array) -> None:
        state = tensors(self.module)
        weight, bias = state[f"{place.path}.weight"], state[f"{place.path}.bias"]
        # By quantiles: products of features have long tails, and a few rows must not decide how far apart the rest are.
        low, middle, high = np.quantile(logits, [0.16, 0.5, 0.84], axis=0)
        factor = self._spread(label) / ((high - low) / 2 + 1e-6)
        centred = (logits - middle) * factor
        offset = self._offset(label, centred)
        weight.mul_(torch.from_numpy(factor)[:, None])
        bias.copy_(torch.from_numpy((bias.numpy() - middle) * factor + offset))

    def _spread(self, label: LabelColumn) -> float:
        if isinstance(label.kind, Count):
            return 0.6
        return 1.0 if isinstance(label.kind, (Regression, Multiclass)) else float(self.rng.uniform(1.0, 1.6))

    def _offset(self, label: LabelColumn, z: Array) -> Array:
        """What to add to centred logits for a drawn base rate."""
        if isinstance(label.kind, Regression):
            return self.rng.normal(size=1)
        if isinstance(label.kind, Multiclass):
            return self.rng.normal(size=z.shape[1])
        if isinstance(label.kind, Count):
            return np.array([np.log(self.rng.uniform(0.5, 3.0)) - np.log(np.exp(z).mean())])
        rate = np.exp(self.rng.uniform(np.log(0.03), np.log(0.4)))
        low, high = -30.0, 30.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if _sigmoid(z + middle).mean() < rate else (low, middle)
        return np.array([low])

    def logits(self, rows: Rows) -> dict[str, Array]:
        """The logits by task, `[n]` or `[n, classes]`; NaN where a row doesn't have the task."""
        parts: list[dict[str, Tensor]] = []
        for start in range(0, len(rows), STEP):
            batch = to_batch(rows.take(slice(start, start + STEP)))
            with torch.inference_mode():
                parts.append(self.module(dict(batch.features), batch.surface))
        logits = {name: torch.cat([part[f"{name}.logit"] for part in parts]) for name in self.encoder.labels}
        return {name: z.double().numpy() for name, z in logits.items()}

    def truth(self, rows: Rows) -> dict[str, Array]:
        """By task the true probability, rate, mean, or classes' probabilities; NaN where a row has no such task."""
        return {name: _link(self.encoder.labels[name], z) for name, z in self.logits(rows).items()}

    def labels(self, truth: dict[str, Array], rng: np.random.Generator) -> dict[str, Array]:
        """Labels drawn from the truth, in float64; a product's follow from its parts'."""
        return {name: _draw(self.encoder.labels[name], x, rng) for name, x in truth.items()}


def _link(label: LabelColumn, z: Array) -> Array:
    if isinstance(label.kind, Regression):
        return z
    if isinstance(label.kind, Count):
        return np.asarray(np.exp(np.minimum(z, 30.0)))
    if isinstance(label.kind, Multiclass):
        e = np.exp(z - z.max(-1, keepdims=True))
        return np.asarray(e / e.sum(-1, keepdims=True))
    return _sigmoid(z)


def _sigmoid(z: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-z)))


def _draw(label: LabelColumn, truth: Array, rng: np.random.Generator) -> Array:
    gone = np.isnan(truth).reshape(len(truth), -1).any(1)
    if isinstance(label.kind, Regression):
        return np.asarray(truth + NOISE * rng.normal(size=len(truth)))
    if isinstance(label.kind, Count):
        return np.where(gone, np.nan, rng.poisson(np.where(gone, 0.0, truth)).astype(np.float64))
    if isinstance(label.kind, Multiclass):
        drawn = (rng.random((len(truth), 1)) > np.cumsum(truth, -1)).sum(-1).clip(max=truth.shape[1] - 1)
        return np.where(gone, np.nan, drawn.astype(np.float64))
    return np.where(gone, np.nan, (rng.random(len(truth)) < truth).astype(np.float64))
