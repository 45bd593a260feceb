"""A run's raw logits and calibrated predictions on a log, for every head where it stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.special import expit, softmax
from torch import nn

from towerspec.check import Checked
from towerspec.check.model import FeatureDef, HeadDef, Model
from towerspec.emit.helpers import hash_ids
from towerspec.emit.torchscript import fill
from towerspec.layers.heads import Product
from towerspec.train import sharing
from towerspec.train.batch import Batch
from towerspec.train.columns import Place, label_columns
from towerspec.train.losses import offset
from towerspec.train.metrics import Array
from towerspec.train.module import shared_module
from towerspec.train.rows import at_place
from towerspec.train.run import Run
from towerspec.weights import match, read_safetensors

SIZE = 8192


@dataclass(frozen=True)
class Stand:
    """A head where it stands: on a surface's tower, or in one of its arms; `path` is that of its parameters."""

    surface: str
    task: str
    path: str
    head: HeadDef
    place: Place
    by: FeatureDef | None  # the key of its calibration
    ids: str  # what the key's ids are: direct, hash or fitted
    table: str  # the path of the table that they are of
    keys: int  # how many values the key has

    @property
    def offset(self) -> float:
        """What thinned-out negatives add to the log-odds of the rows that are left."""
        return offset(self.head)


@dataclass(frozen=True)
class Scores:
    """The labelled rows of one head: logits and predictions `[N]` or `[N, K]`, labels `[N]`.

    `requests` `[N]` is none where the log doesn't have them, and `cells` `[N]`, the key's value, where nothing goes by
    one; a cell below 0 or from `keys` on is that of a missing or unknown value.
    """

    stand: Stand
    logits: Array
    predictions: Array
    labels: Array
    requests: Array | None
    cells: Array | None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def uncalibrated(self) -> Array:
        """The head's own predictions from its logits, in float32; where nothing calibrates it, those that it makes."""
        if self.stand.head.calibrate is None or self.stand.head.calibrate.kind.kind == "none":
            return self.predictions
        return link(self.stand.head.kind.kind, self.logits)

    @property
    def weights(self) -> Array:
        """`[N]`: how many rows each stands for, where negatives were thinned out."""
        return np.asarray(np.where(self.labels > 0, 1.0, np.exp(self.stand.offset)))


def link(kind: str, logits: Array) -> Array:
    """What a head of a kind predicts without calibration, in float32."""
    z = logits.astype(np.float64)
    made = {"regression": lambda: z, "count": lambda: np.exp(np.minimum(z, 30.0)), "multiclass": lambda: softmax(z, -1)}
    return np.asarray(made.get(kind, lambda: expit(z))(), dtype=np.float32)


def stands(model: Model) -> list[Stand]:
    """Every head of every surface, in the order of the text."""
    heads = {
        path.head_key(head): head
        for surface in model.surfaces.values()
        for path in surface.tower.walk()
        for head in path.heads
    }
    names = list(model.surfaces)
    found = []
    for task, column in label_columns(model).items():
        for place in column.places:
            head = heads[place.path]
            by = model.features[head.calibrate.by] if head.calibrate and head.calibrate.by else None
            coding = (by.coding(model.tables) if by else None) or ("", "", 0)
            found.append(Stand(names[place.surface], task, place.path, head, place, by, *coding))
    return sorted(found, key=lambda stand: stand.place.surface)


def load_model(run: Run) -> tuple[Checked, nn.Module]:
    """A run's spec, and its generated module with its weights, ready to predict.

    Raises:
        SpecError: the folder holds no run (T801), or its weights are not those of its spec (T601 to T605).
    """
    checked = run.checked()
    _, graph = checked.sound()
    module = shared_module(checked)
    fill(module, match(graph, read_safetensors(run.weights)))
    return checked, module.eval()


def predict(model: Model, module: nn.Module, batches: Iterator[Batch]) -> dict[str, Scores]:
    """The scores of every head by its path; rows without a label are left out."""
    parts: dict[str, list[Scores]] = {}
    found = stands(model)
    for batch in batches:
        with torch.inference_mode():
            out = sharing.run(module, batch)
        arrays = {name: x.numpy() for name, x in out.items()}
        for stand in found:
            scores = _of(stand, batch, arrays)
            if scores is not None:
                parts.setdefault(stand.path, []).append(scores)
    return {stand.path: join(parts.get(stand.path, [_empty(stand)])) for stand in found}


def _of(stand: Stand, batch: Batch, out: Mapping[str, Array]) -> Scores | None:
    """One batch's rows of a head."""
    labels = label_of(stand, batch)
    if labels is None:
        return None
    features = {arm.key: batch.features[arm.key].numpy() for arm in stand.place.arms}
    rows = np.flatnonzero(at_place(stand.place, batch.surface.numpy(), features) & ~np.isnan(labels))
    cells = None
    if stand.by is not None:
        ids = batch.features[stand.by.name]
        cells = (hash_ids(ids, stand.keys) if stand.ids == "hash" else ids).numpy()[rows]
    logits = out.get(f"{stand.task}.logit", out[stand.task])
    requests = batch.request.numpy()[rows] if batch.request is not None else None
    return Scores(stand, logits[rows], out[stand.task][rows], labels[rows], requests, cells)


def label_of(stand: Stand, batch: Batch) -> Array | None:
    """A head's labels `[B]`; a product's follow from those of its parts where the log has none of its own."""
    if stand.task in batch.labels:
        return batch.labels[stand.task].numpy()
    if not isinstance(stand.head.kind, Product) or any(part not in batch.labels for part in stand.head.parts):
        return None
    parts = np.stack([batch.labels[part].numpy() for part in stand.head.parts])
    return np.asarray(np.where((parts == 0).any(0), 0.0, parts.prod(0)), dtype=np.float32)


def join(parts: list[Scores]) -> Scores:
    """Rows after rows, of heads of one kind."""
    first = parts[0]
    if len(parts) == 1:
        return first

    def all_of(field: str) -> Array | None:
        arrays = [getattr(part, field) for part in parts]
        return None if any(x is None for x in arrays) else np.concatenate(arrays)

    columns = {name: all_of(name) for name in ("logits", "predictions", "labels", "requests", "cells")}
    return replace(first, **columns)  # type: ignore[arg-type]


def _empty(stand: Stand) -> Scores:
    width = stand.head.kind.width()
    nothing = np.zeros((0, width) if width > 1 else 0, dtype=np.float32)
    cells = np.zeros(0, dtype=np.int64) if stand.by else None
    return Scores(stand, nothing, nothing, np.zeros(0, dtype=np.float32), None, cells)
