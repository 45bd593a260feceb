"""Gradient boosting, a model for each task with the place as a feature: LightGBM, else scikit-learn."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from methods import TASKS, Platted, Predictions, labels_of

from towerspec.train.metrics import log_loss

ROUNDS, STEP = 400, 20
RATE, LEAVES, SMALLEST, L2, FEATURES = 0.05, 31, 50, 5.0, 0.5
LIGHTGBM: dict[str, Any] = {
    "objective": "binary",
    "learning_rate": RATE,
    "num_leaves": LEAVES,
    "min_data_in_leaf": SMALLEST,
    "feature_fraction": FEATURES,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": L2,
    "cat_smooth": 50.0,
    "deterministic": True,
    "verbose": -1,
}
CATEGORIES = ["place", "user_active_degree", "upload_type", "music_type", "hour", "tag_0", "tag_1"]  # unordered ids
NOT_INPUTS = {"surface", "request", "user_id", "time_ms", "date", "tab", *TASKS}

Predict = Callable[[np.ndarray, int | None], np.ndarray]  # rows, and how many of the trees
Fit = Callable[[np.ndarray, Sequence[str], np.ndarray, int, int], Predict]


def matrix(table: pa.Table, author: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """`[N, F]` and names: numbers and ids as they are, and of lists what a tree can use.

    Of a history that is its length, and how often the video and its author are in it; of tags the first two. `author`
    gives each video's.
    """
    video = table["video_id"].to_numpy()
    columns: dict[str, np.ndarray] = {"author": author[video]}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if name in NOT_INPUTS:
            continue
        if name == "place":
            columns[name] = np.unique(np.asarray(column), return_inverse=True)[1]
        elif not pa.types.is_list(column.type):
            columns[name] = column.to_numpy(zero_copy_only=False)
        elif name.endswith("_seq"):
            columns |= _history(name, column, video, author)
        else:
            columns |= {f"{name}_{i}": _item(column, i) for i in range(2)}
    return np.column_stack([x.astype(np.float32) for x in columns.values()]), list(columns)


def _history(name: str, lists: pa.ListArray, video: np.ndarray, author: np.ndarray) -> dict[str, np.ndarray]:
    lengths, items = np.diff(lists.offsets.to_numpy()), lists.flatten().to_numpy()
    row = np.repeat(np.arange(len(lists)), lengths)

    def times(same: np.ndarray) -> np.ndarray:
        return np.bincount(row, same, minlength=len(lists))

    same_author = author[items] == author[video][row]
    return {f"{name}_len": lengths, f"{name}_video": times(items == video[row]), f"{name}_author": times(same_author)}


def _item(lists: pa.ListArray, i: int) -> np.ndarray:
    starts, items = lists.offsets.to_numpy(), lists.flatten().to_numpy()
    return np.where(np.diff(starts) > i, items[np.minimum(starts[:-1] + i, len(items) - 1)], -1)


# ---- fitting -----------------------------------------------------------------------------------


def fit_boosting(author: np.ndarray, table: pa.Table, seed: int, rounds: Mapping[str, int], folder: Path) -> Platted:
    """Fits each task's trees to all rows, so many rounds."""
    x, names = matrix(table, author)
    fitted = {task: _trees()(x, names, labels_of(table, task), rounds[task], seed) for task in TASKS}

    def probabilities(rows: pa.Table) -> Predictions:
        found, _ = matrix(rows, author)
        return {task: predict(found, None) for task, predict in fitted.items()}

    return Platted(probabilities)


def choose_rounds(author: np.ndarray, train: pa.Table, valid: pa.Table, folder: Path) -> dict[str, int]:
    """For each task the number of trees with the least log loss on the validation rows, of each 20th."""
    x, names = matrix(train, author)
    held, _ = matrix(valid, author)
    chosen = {}
    for task in TASKS:
        y = labels_of(valid, task)
        predict = _trees()(x, names, labels_of(train, task), ROUNDS, 0)
        losses = {rounds: log_loss(y, predict(held, rounds)) for rounds in range(STEP, ROUNDS + 1, STEP)}
        chosen[task] = min(losses, key=lambda rounds: losses[rounds] or 0.0)
    return chosen


def _trees() -> Fit:
    return _lightgbm if importlib.util.find_spec("lightgbm") is not None else _sklearn


def _lightgbm(x: np.ndarray, names: Sequence[str], y: np.ndarray, rounds: int, seed: int) -> Predict:
    import lightgbm

    rows = lightgbm.Dataset(x, y, feature_name=list(names), categorical_feature=CATEGORIES)
    options = {**LIGHTGBM, "seed": seed, "num_threads": 1}
    found = lightgbm.train(options, rows, rounds)
    return lambda x, first: np.asarray(found.predict(x, num_iteration=first, num_threads=1))


def _sklearn(x: np.ndarray, names: Sequence[str], y: np.ndarray, rounds: int, seed: int) -> Predict:
    from sklearn.ensemble import HistGradientBoostingClassifier

    found = HistGradientBoostingClassifier(
        learning_rate=RATE, max_iter=rounds, max_leaf_nodes=LEAVES, min_samples_leaf=SMALLEST, l2_regularization=L2,
        max_features=FEATURES, early_stopping=False, random_state=seed,
        categorical_features=[name in CATEGORIES for name in names],
    )  # fmt: skip
    found.fit(x, y)

    def predict(x: np.ndarray, first: int | None) -> np.ndarray:
        if first is None:
            return np.asarray(found.predict_proba(x)[:, 1])
        return next(p[:, 1] for i, p in enumerate(found.staged_predict_proba(x), 1) if i == first)

    return predict
