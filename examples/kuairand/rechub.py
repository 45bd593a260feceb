"""torch-rechub's MMoE and PLE, as they come from PyPI: its tasks are the tasks, and the place is a feature.

They see what the spec says of each feature: its table's rows, its transform, which tables are shared. Rows, batches,
optimiser, schedule and loss are those of `towerspec train` under the `train` block of the compared specs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from methods import TASKS, Platted, Predictions, labels_of
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy

from towerspec.check.model import Model
from towerspec.ids import by_value
from towerspec.layers.features import Coded, Feature, List, Number
from towerspec.train import encode
from towerspec.train.columns import Coding
from towerspec.train.optimizers import clip, make_optimizer, schedule

WIDTH = 8  # of every embedding: the library takes one
EXPERT, TOWER = {"dims": [128, 64], "activation": "relu", "dropout": 0.2}, {"dims": [32], "activation": "relu"}
PLACES = ["tab_0", "tab_1", "tab_2", "tab_4", "tab_6", "other"]


def fit_rechub(
    build: Callable[[list[Any]], nn.Module], model: Model, table: pa.Table, seed: int, epochs: int, folder: Path
) -> Platted:
    """Trains what `build` makes of the features, for so many epochs."""
    torch.manual_seed(seed)
    inputs = Inputs(model, table)
    module = build(inputs.features())
    x = inputs(table)
    y = torch.from_numpy(np.column_stack([labels_of(table, task) for task in TASKS]).astype(np.float32))
    options = model.train
    steps = epochs * math.ceil(len(y) / options.batch)
    tables = {id(p) for layer in module.modules() if isinstance(layer, nn.Embedding) for p in layer.parameters()}
    dense = [p for p in module.parameters() if id(p) not in tables]
    optimizer = make_optimizer(options, dense, [p for p in module.parameters() if id(p) in tables])
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule(options, steps))
    draw = torch.Generator().manual_seed(seed)
    module.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(y), generator=draw).split(options.batch):
            p = module({name: column[rows] for name, column in x.items()})
            loss = binary_cross_entropy(p, y[rows]) * len(TASKS)  # the sum of the tasks' means
            optimizer.zero_grad()
            loss.backward()
            clip(module.parameters(), options.clip)
            optimizer.step()
            rates.step()
    return Platted(lambda rows: _predict(module, inputs(rows)))


def _predict(module: nn.Module, x: dict[str, Tensor]) -> Predictions:
    module.eval()
    count = len(next(iter(x.values())))
    with torch.inference_mode():
        p = torch.cat([module({n: c[rows] for n, c in x.items()}) for rows in torch.arange(count).split(8192)])
    return {task: p[:, i].numpy() for i, task in enumerate(TASKS)}


def mmoe(features: list[Any]) -> nn.Module:
    """MMoE: Ma et al. 2018."""
    from torch_rechub.models.multi_task import MMOE

    return MMOE(features, ["classification"] * len(TASKS), 4, EXPERT, [TOWER] * len(TASKS))


def ple(features: list[Any]) -> nn.Module:
    """PLE of one level: Tang et al. 2020."""
    from torch_rechub.models.multi_task import PLE

    return PLE(features, ["classification"] * len(TASKS), 1, 1, 3, EXPERT, [TOWER] * len(TASKS))


# ---- inputs ------------------------------------------------------------------------------------


class Inputs:
    """A spec's features as torch-rechub's: numbers standardised by the training rows, ids with rows for unknown,
    missing and padding."""

    def __init__(self, model: Model, train: pa.Table) -> None:
        self.model = model
        self.kinds = {f.name: f.kind for f in model.features.values() if f.surface is None}
        self.statistics = {
            name: (np.nanmean(x), np.nanstd(x) or 1.0)
            for name, kind in self.kinds.items()
            if isinstance(kind, Number)
            for x in [_number(kind, train, name)]
        }

    def __call__(self, table: pa.Table) -> dict[str, Tensor]:
        """Its rows, by feature."""
        made: dict[str, np.ndarray] = {"place": np.array([PLACES.index(s) for s in table["surface"].to_pylist()])}
        for name, kind in self.kinds.items():
            if isinstance(kind, Number):
                mean, std = self.statistics[name]
                made[name] = np.nan_to_num((_number(kind, table, name) - mean) / std).astype(np.float32)
            elif isinstance(kind, Coded):
                made[name] = _ids(kind, table[name].combine_chunks(), self._rows(kind))
        return {name: torch.from_numpy(x) for name, x in made.items()}

    def features(self) -> list[Any]:
        """The features, as the library declares them."""
        from torch_rechub.basic.features import DenseFeature, SequenceFeature, SparseFeature

        made: list[Any] = [SparseFeature("place", len(PLACES), WIDTH)]
        first: dict[str, str] = {}  # by shared table, the feature that holds it
        for name, kind in sorted(self.kinds.items(), key=lambda item: isinstance(item[1], List)):
            if not isinstance(kind, Coded):
                made.append(DenseFeature(name))
                continue
            rows = self._rows(kind)
            shared = first.setdefault(kind.table or name, name)
            options: dict[str, Any] = {"shared_with": None if shared == name else shared}
            if isinstance(kind, List):
                made.append(SequenceFeature(name, rows + 3, WIDTH, padding_idx=rows + 2, **options))
            else:
                made.append(SparseFeature(name, rows + 3, WIDTH, **options))
        return made

    def _rows(self, kind: Coded) -> int:
        """How many ids its table knows."""
        table = self.model.tables[kind.table] if kind.table is not None else None
        return table.rows if table is not None else (kind.own_table() or (0, 0))[0]


def _number(kind: Feature, table: pa.Table, name: str) -> np.ndarray:
    x = table[name].to_numpy().astype(np.float64)
    transforms = {"log1p": lambda: np.sign(x) * np.log1p(np.abs(x)), "sqrt": lambda: np.sign(x) * np.sqrt(np.abs(x))}
    return np.asarray(transforms.get(getattr(kind, "transform", "none"), lambda: x)())


def _ids(kind: Coded, column: pa.Array, rows: int) -> np.ndarray:
    """Ids with `rows` for unknown ones and `rows + 1` for missing ones; lists end in padding, `rows + 2`."""
    if not isinstance(kind, List):
        values = kind.values if by_value(kind.values or ()) else None
        ids = encode.ids(column, Coding("direct", "", rows, values or ()))
        return np.where(ids < 0, rows + 1, np.minimum(ids, rows))
    lengths = np.diff(column.offsets.to_numpy())
    padded = np.full((len(column), kind.length), rows + 2, dtype=np.int64)
    padded[np.arange(kind.length) < lengths[:, None]] = np.minimum(column.flatten().to_numpy(), rows)
    return padded
