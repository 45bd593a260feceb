"""A log from a spec: the truth beside it is the teacher's, its labels follow it, and nothing predicts them better."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from sklearn import metrics as sk

from towerspec.check import check
from towerspec.cli import cli, main
from towerspec.layers.blocks import Train
from towerspec.train.best import expected_auc
from towerspec.train.data import open_log
from towerspec.train.module import build_module
from towerspec.train.simulate import Options, simulate
from towerspec.train.trainer import train
from towerspec.weights import read_safetensors

from .runs import CALIBRATED, make_run

SPLITS = ("train", "calibrate", "test")
SPECS = Path(__file__).parents[2] / "specs"
ROWS = 12_000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A spec with every kind of head, a hashed table, a fitted one, and a branch; and its log."""
    folder = tmp_path_factory.mktemp("simulated")
    (folder / "spec.tower").write_text(CALIBRATED)
    return folder, simulate(check(folder / "spec.tower"), folder / "log", Options(rows=ROWS, seed=1))


def columns(folder: Path, name: str, splits: tuple[str, ...] = SPLITS) -> dict[str, np.ndarray]:
    tables = [pq.read_table(folder / "log" / f"{name}{split}.parquet") for split in splits]
    return {
        c: np.concatenate([t[c].to_numpy() for t in tables])
        for c in tables[0].column_names
        if not str(tables[0].schema.field(c).type).startswith("list")
    }


def test_the_same_seed_gives_the_same_log(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, best = made
    checked = check(folder / "spec.tower")
    assert simulate(checked, tmp_path / "again", Options(rows=ROWS, seed=1)) == best
    for path in (folder / "log").glob("*.parquet"):
        assert pq.read_table(path).equals(pq.read_table(tmp_path / "again" / path.name))
    simulate(checked, tmp_path / "other", Options(rows=600, seed=2))
    other = pq.read_table(tmp_path / "other" / "train.parquet")
    assert not other["price"].equals(pq.read_table(folder / "log" / "train.parquet")["price"].slice(0, len(other)))


def test_splits_follow_each_other_in_time_and_hold_all_rows(made: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = made
    times = [columns(folder, "", (split,))["time"] for split in SPLITS]
    assert sum(map(len, times)) == ROWS
    assert times[0].max() < times[1].min()
    assert times[1].max() < times[2].min()
    every = columns(folder, "")
    surfaces = {r: set(every["surface"][every["request"] == r]) for r in np.unique(every["request"])[:200]}
    assert all(len(of) == 1 for of in surfaces.values()), "a request is of one surface"


def test_the_truth_is_what_the_teachers_weights_predict(made: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = made
    checked = check(folder / "spec.tower")
    vocabularies = json.loads((folder / "log" / "teacher" / "vocabularies.json").read_text())
    module = build_module(checked).eval()
    module.load_state_dict(read_safetensors(folder / "log" / "teacher" / "weights.safetensors"))
    log = open_log(checked, [folder / "log" / "test.parquet"], vocabularies=vocabularies)
    (batch,) = log.batches(ROWS)
    with torch.no_grad():
        out = module(dict(batch.features), batch.surface)
    truth = columns(folder, "truth_", ("test",))
    for task in ("click", "save", "buy", "order"):
        found = 1 / (1 + np.exp(-out[f"{task}.logit"].double().numpy()))
        np.testing.assert_allclose(truth[task], found, atol=1e-6, err_msg=task)


@pytest.mark.parametrize("task", ["click", "save", "buy", "order", "plain"])
def test_labels_follow_the_truth(made: tuple[Path, dict[str, Any]], task: str) -> None:
    """In ten bins of the truth, the mean label is as near to it as chance has it."""
    folder, _ = made
    y, p = columns(folder, "")[task].astype(float), columns(folder, "truth_")[task]
    there = ~np.isnan(y)
    assert 0.93 < there.sum() / (~np.isnan(p)).sum() < 0.99, "some labels are missing"
    y, p = y[there], p[there]
    for rows in np.array_split(np.argsort(p), 10):
        chance = np.sqrt((p[rows] * (1 - p[rows])).sum()) / len(rows)
        assert abs(y[rows].mean() - p[rows].mean()) < 4.5 * chance


def test_a_products_label_is_its_parts_product(made: tuple[Path, dict[str, Any]]) -> None:
    log = columns(made[0], "")
    there = ~np.isnan(log["click"] + log["buy"] + log["order"])
    assert there.sum() > 1000
    np.testing.assert_array_equal(log["order"][there], (log["click"] * log["buy"])[there])


def test_counts_and_numbers_follow_the_truth(made: tuple[Path, dict[str, Any]]) -> None:
    log, truth = columns(made[0], ""), columns(made[0], "truth_")
    for task in ("views", "dwell"):
        error = (log[task] - truth[task])[~np.isnan(log[task])]
        assert abs(error.mean()) < 4 * error.std() / np.sqrt(len(error))


def test_the_best_is_scikits(made: tuple[Path, dict[str, Any]]) -> None:
    """What the labels reached, and what the truth expects: each row once as positive and once as negative, weighted."""
    folder, best = made
    log, truth = columns(folder, "", ("test",)), columns(folder, "truth_", ("test",))
    for surface, task in (("home", "click"), ("search", "buy"), ("search", "order")):
        here = (log["surface"] == surface) & ~np.isnan(log[task].astype(float))
        y, p = log[task][here].astype(float), truth[task][here]
        found = best["test"][surface][task]
        assert found["reached"]["auc"] == pytest.approx(sk.roc_auc_score(y, p), abs=1e-12)
        assert found["reached"]["log_loss"] == pytest.approx(sk.log_loss(y, p), abs=1e-12)
        both, twice, weights = np.r_[np.ones(len(p)), np.zeros(len(p))], np.r_[p, p], np.r_[p, 1 - p]
        assert found["expected"]["auc"] == pytest.approx(sk.roc_auc_score(both, twice, sample_weight=weights))
        assert found["expected"]["log_loss"] == pytest.approx(sk.log_loss(both, twice, sample_weight=weights))
    assert json.loads((folder / "log" / "truth.json").read_text()) == best


def test_evaluate_shows_what_the_truth_reaches(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """On the split as it was made, and on no part of it; the teacher's own weights reach it."""
    folder, best = made
    run = make_run(tmp_path / "run", folder / "spec.tower")
    for name in ("weights.safetensors", "vocabularies.json"):
        (run.folder / name).write_bytes((folder / "log" / "teacher" / name).read_bytes())
    test, out = folder / "log" / "test.parquet", tmp_path / "out"
    words = ["evaluate", str(run.folder), "--data", str(test), "--bootstrap", "0", "-o", str(out)]
    said = CliRunner().invoke(cli, words)
    assert said.exit_code == 0, said.output
    found = json.loads((out / "evaluation.json").read_text())["surfaces"]["search"]["click"]
    assert found["best"] == best["test"]["search"]["click"]["reached"]
    assert found["before"]["log_loss"]["value"] == pytest.approx(found["best"]["log_loss"], abs=1e-6)
    assert re.search(rf"search +click +{found['best']['auc']:.4f} +{found['best']['auc']:.4f}", said.output)
    assert f"truth {found['best']['auc']:.4f}" in (out / "report.html").read_text()
    said = CliRunner().invoke(cli, [*words, "--time-column", "time", "--from", "2000-01-01"])
    assert said.exit_code == 0, said.output
    assert "truth" not in said.output
    assert "truth" not in (out / "report.html").read_text().lower()


def test_one_class_expects_no_auc() -> None:
    assert expected_auc(np.array([0.2, 0.7]), np.zeros(2)) is None


def test_a_model_learns_from_it_and_stays_below_the_best(tmp_path: Path) -> None:
    """Most of the way from knowing nothing to the best, and no further."""
    text = """model learnable
    request { user : category { rows: 20, dim: 4 }  age : number { normalize: standard } }
    candidate { item : category { rows: 20, dim: 4 }  price : number { normalize: standard } }
    trunk { x = mlp(concat(request, candidate), hidden: [16]) }
    surface a { tower { layers: [8] head click : binary } }
    surface b { tower { layers: [8] head click : binary } }
    """
    (tmp_path / "s.tower").write_text(text)
    checked = check(tmp_path / "s.tower")
    best = simulate(checked, tmp_path / "log", Options(rows=40_000))["calibrate"]
    log, valid = (open_log(checked, [tmp_path / "log" / f"{split}.parquet"]) for split in ("train", "calibrate"))
    run = train(checked, log, valid, tmp_path / "run", Train(epochs=6, batch=256, learning_rate=5e-3, monitor="auc"))
    found = max(run.record["epochs"], key=lambda e: e["valid/auc"])
    for surface in ("a", "b"):
        top = best[surface]["click"]["reached"]["auc"]
        assert 0.5 + 0.7 * (top - 0.5) < found[f"valid/{surface}/click/auc"] < top + 0.01


@pytest.mark.parametrize("spec", ["quickstart", "ads_engagement", "esmm"])
def test_every_log_is_sound_to_its_spec(spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, log = SPECS / f"{spec}.tower", tmp_path / "log"
    calls: list[list[object]] = [["simulate", path, "-o", log, "--rows", 400]]
    calls.append(["data", "check", path, *(log / f"{split}.parquet" for split in SPLITS)])
    for words in calls:
        with pytest.raises(SystemExit) as end:
            main([*map(str, words)])
        assert not end.value.code, capsys.readouterr().err


def test_a_log_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "spec.tower").write_text(CALIBRATED)
    checked, out = check(tmp_path / "spec.tower"), tmp_path / "log"
    simulate(checked, out, Options(rows=300))
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("towerspec.train.simulate.write_weights", stop)
        with pytest.raises(KeyboardInterrupt):
            simulate(checked, out, Options(rows=200))
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    simulate(checked, out, Options(rows=3))
    rows = [pq.read_metadata(out / f"{split}.parquet").num_rows for split in SPLITS]
    assert sum(rows) == 3
    assert [pq.read_metadata(out / f"truth_{split}.parquet").num_rows for split in SPLITS] == rows
    assert before.keys() == {path for path in out.rglob("*") if path.is_file()}


@pytest.mark.filterwarnings("error")
def test_a_log_of_one_row(tmp_path: Path) -> None:
    (tmp_path / "spec.tower").write_text(CALIBRATED)
    simulate(check(tmp_path / "spec.tower"), tmp_path / "log", Options(rows=1))
