"""The comparison's own logic, on few rows: predictions stand at their rows, results are kept, specs say the same."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import boosting
import compare
import epochs
import methods
import numpy as np
import prepare
import pyarrow as pa
import pytest
import table
import towers
from measures import mean_auc, measures
from sklearn.metrics import log_loss, roc_auc_score

from towerspec.check import check
from towerspec.check.model import Model

FOLDER = Path(prepare.__file__).parent


@pytest.fixture(scope="module")
def tables(splits: dict[str, pa.Table]) -> dict[str, pa.Table]:
    """A few thousand rows of each split."""
    draw = np.random.default_rng(0)
    found = {}
    for name, rows in splits.items():
        rows = rows.append_column("place", rows["surface"])
        found[name] = rows.take(pa.array(np.sort(draw.choice(len(rows), 4000, replace=False))))
    return found


@pytest.fixture(scope="module")
def author(data: Path) -> np.ndarray:
    videos = prepare.read(data).videos
    return videos["author"].to_numpy()[np.argsort(videos["video_id"].to_numpy())]


# ---- specs -------------------------------------------------------------------------------------


def test_the_compared_specs_have_the_same_features_and_optimiser() -> None:
    text = prepare.SPEC.read_text(encoding="utf-8")
    features = (FOLDER / "features.tower").read_text(encoding="utf-8")
    assert (
        text[text.index("table videos") : text.index("# ---- the model")].strip() == features.partition("\n")[2].strip()
    )
    spec, _ = check(prepare.SPEC).sound()
    steps = {name: getattr(spec.train, name) for name in ("epochs", "batch", "learning_rate")}
    for name in ("shared", "star", "pepnet"):
        model, _ = check(FOLDER / f"{name}.tower").sound()
        assert set(spec.features) <= set(model.features)
        assert model.train.model_copy(update=steps) == spec.train


@pytest.mark.parametrize("surface", methods.SURFACES)
def test_a_surface_alone_keeps_its_tower_and_training(surface: str, model: Model, tmp_path: Path) -> None:
    path = tmp_path / "own.tower"
    path.write_text(towers.spec_of(prepare.SPEC.read_text(encoding="utf-8"), surface), encoding="utf-8")
    own, _ = check(path).sound()
    assert list(own.surfaces) == [surface]
    assert list(own.surfaces[surface].heads) == list(model.surfaces[surface].heads)
    assert own.train == model.train


# ---- predictions -------------------------------------------------------------------------------


def check_rows(fitted: methods.Fitted, tables: dict[str, pa.Table]) -> None:
    """Predictions follow their rows, whatever the order, and calibration changes them without changing the order."""
    fitted.calibrate(tables["calibrate"])
    test = tables["test"].filter(pa.array(np.asarray(tables["test"]["surface"]) != "other"))
    order = np.random.default_rng(1).permutation(len(test))
    before, after = fitted.predict(test)
    for found, shuffled in zip((before, after), fitted.predict(test.take(pa.array(order))), strict=True):
        for task in methods.TASKS:
            assert np.allclose(found[task][order], shuffled[task], atol=1e-6), task
            assert ((found[task] > 0) & (found[task] < 1)).all()
    here = methods.rows_of(test, "tab_1")
    assert np.abs(before["is_click"] - after["is_click"])[here].max() > 1e-4
    rank = np.argsort(before["is_click"][here], kind="stable")
    assert (np.diff(after["is_click"][here][rank]) > -1e-6).all()


@pytest.mark.parametrize("spec", [prepare.SPEC, FOLDER / "shared.tower"], ids=["towers", "shared"])
def test_predictions_of_a_spec_stand_at_their_rows(spec: Path, tables: dict[str, pa.Table], tmp_path: Path) -> None:
    check_rows(towers.fit_spec(spec, tables["train"], 0, 1, tmp_path), tables)


def test_predictions_of_separate_models_stand_at_their_rows(tables: dict[str, pa.Table], tmp_path: Path) -> None:
    once = dict.fromkeys(methods.SURFACES, 1)
    check_rows(towers.fit_separate(prepare.SPEC, tables["train"], 0, once, tmp_path), tables)


def test_predictions_of_boosting_stand_at_their_rows(
    tables: dict[str, pa.Table], author: np.ndarray, tmp_path: Path
) -> None:
    rounds = dict.fromkeys(methods.TASKS, 5)
    check_rows(boosting.fit_boosting(author, tables["train"], 0, rounds, tmp_path), tables)


def test_predictions_of_torch_rechub_stand_at_their_rows(
    tables: dict[str, pa.Table], model: Model, tmp_path: Path
) -> None:
    pytest.importorskip("torch_rechub")
    import rechub

    check_rows(rechub.fit_rechub(rechub.mmoe, model, tables["train"], 0, 1, tmp_path), tables)


def test_trees_see_histories_row_by_row(tables: dict[str, pa.Table], author: np.ndarray) -> None:
    rows = tables["train"].slice(0, 300)
    x, names = boosting.matrix(rows, author)
    assert not {*methods.TASKS, "user_id", "time_ms", "date", "request"} & set(names)
    for i, row in enumerate(rows.to_pylist()):
        watched = row["watch_seq"]
        found = {name: x[i, names.index(f"watch_seq_{name}")] for name in ("len", "video", "author")}
        assert found["len"] == len(watched)
        assert found["video"] == watched.count(row["video_id"])
        assert found["author"] == sum(author[v] == author[row["video_id"]] for v in watched)
        assert [x[i, names.index(f"tag_{k}")] for k in range(2)] == [*row["tag"], -1, -1][:2]


# ---- results -----------------------------------------------------------------------------------


def test_measures_are_those_of_scikit_learn(tables: dict[str, pa.Table]) -> None:
    test = tables["test"]
    p = {task: np.random.default_rng(0).uniform(0.01, 0.99, len(test)) for task in methods.TASKS}
    found = measures(test, p, p)
    here = methods.rows_of(test, "tab_1")
    y = methods.labels_of(test, "is_click")[here]
    got = found["tab_1"]["is_click"]
    assert got["auc"] == pytest.approx(roc_auc_score(y, p["is_click"][here]))
    assert got["log_loss_after"] == pytest.approx(log_loss(y, p["is_click"][here]))
    assert (got["rows"], got["positives"]) == (here.sum(), y.sum())
    aucs = [found[s]["is_click"]["auc"] for s in methods.SURFACES]
    assert mean_auc(found, "is_click") == pytest.approx(np.mean(aucs))


@dataclasses.dataclass
class Known:
    """A method that predicts a column."""

    quality: int

    def calibrate(self, held_out: pa.Table) -> None:
        pass

    def predict(self, rows: pa.Table) -> tuple[methods.Predictions, methods.Predictions]:
        noise = np.random.default_rng(0).normal(size=len(rows))
        made = {t: 1 / (1 + np.exp(noise - self.quality * methods.labels_of(rows, t))) for t in methods.TASKS}
        return made, made


def test_a_finished_result_is_not_made_again(tables: dict[str, pa.Table], tmp_path: Path) -> None:
    fits: list[tuple[int, Any]] = []

    def fit(train: pa.Table, seed: int, passes: Any, folder: Path) -> methods.Fitted:
        fits.append((len(train), passes))
        return Known({2: 1, 3: 3, 4: 2}[passes])

    method = methods.Method("known", "what is known", fit)
    results = list(compare.compare([method], tables, range(2), tmp_path))
    before = int((tables["train"]["date"].to_numpy() < compare.VALID).sum())
    assert fits == [(before, 2), (before, 3), (before, 4), (4000, 3), (4000, 3)]  # chosen on 2 May, then on all rows
    assert [r["seed"] for r in results] == [0, 1]
    assert compare.compare([method], tables, range(2), tmp_path) == results
    assert len(fits) == 5
    (tmp_path / "known-1.json").unlink()
    compare.compare([method], tables, range(2), tmp_path)
    assert len(fits) == 6
    text = table.markdown(results, {"known": "what is known"})
    mean = mean_auc(results[0]["surfaces"], "is_click")
    assert f"| what is known | {mean:.4f} ± 0.0000 |" in text
    assert json.loads((tmp_path / "known-0.json").read_text())["epochs"] == 3


def test_more_epochs_are_tried_while_they_help(tables: dict[str, pa.Table], tmp_path: Path) -> None:
    tried: list[int] = []

    def fit(passes: int, folder: Path) -> methods.Fitted:
        tried.append(passes)
        return Known(min(passes, 8))

    assert epochs.best_epochs(fit, tables["test"], tmp_path, (2, 4, 8, 16, 32)) == 8
    assert tried == [2, 4, 8, 16]


def test_an_ece_that_misses_its_aim_is_marked() -> None:
    def result(before: float, after: float) -> dict[str, Any]:
        one = {
            "rows": 9000,
            "positives": 10,
            "auc": 0.7,
            "ece_before": before,
            "ece_after": after,
            "ece_by_chance": 0.01,
        }
        return {"surfaces": {s: dict.fromkeys(methods.TASKS, one) for s in methods.SURFACES}}

    assert "missed" not in table.errors([result(0.03, 0.009)])
    assert len(re.findall("missed", table.errors([result(0.03, 0.012)]))) == 20
