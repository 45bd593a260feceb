"""`towerspec train` as a user runs it: what it writes, what it refuses, when it stops."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from towerspec.check import check, check_text
from towerspec.cli import main
from towerspec.layers.blocks import Train
from towerspec.train.auc import auc
from towerspec.train.folder import Setup
from towerspec.train.module import build_module, sparse_gradients
from towerspec.train.optimizers import RowWise, clip
from towerspec.train.run import Run
from towerspec.train.trainer import sampling_weights, train
from towerspec.weights import read_safetensors

from .memory import Memory, learnable, pick
from .specs import PLAIN, tiny, write_spec


def run(*arguments: object, code: int = 0) -> None:
    with pytest.raises(SystemExit) as end:
        main(["train", *map(str, arguments)])
    assert (end.value.code or 0) == code


def test_a_run_holds_all_that_follows_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec, log, checked = tiny(tmp_path)
    out = tmp_path / "run"
    split = ["--time-column", "time", "--valid-from", 450]
    run(spec, "--data", log, *split, "-o", out, "--set", "epochs=2", "--set", "batch=100", "--json")
    said = capsys.readouterr()
    record: dict[str, Any] = json.loads(said.out)
    assert "epoch 2/2: train loss" in said.err
    assert record == Run(out).record
    assert record["steps"] == 10, "450 rows make five steps an epoch"
    assert record["options"]["epochs"] == 2
    assert {"valid/loss", "valid/home/click", "train/order"} <= record["epochs"][0].keys()
    assert Run(out).checked().model == checked.model or Run(out).checked().sound()
    weights = read_safetensors(Run(out).weights)
    assert weights.keys() == {p.path for _, p in checked.sound()[1].params}
    assert float(weights["features.price.std"]) != 1.0, "statistics are fitted"
    assert list(Run(out).logs.glob("*/metrics.csv"))
    with pytest.raises(SystemExit) as end:
        main(["compile", str(spec), "--weights", str(Run(out).weights), "-o", str(tmp_path / "build")])
    assert not end.value.code


def test_tensorboard_reads_its_logs(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    spec, log, _ = tiny(tmp_path, 100)
    run(spec, "--data", log, "-o", tmp_path / "run", "--set", "epochs=2", "--logger", "tensorboard")
    events = accumulator.EventAccumulator(str(tmp_path / "run" / "logs"))
    events.Reload()
    losses = [event.value for event in events.Scalars("train/loss")]
    assert losses == pytest.approx([epoch["train/loss"] for epoch in Run(tmp_path / "run").record["epochs"]], rel=1e-6)


def test_what_it_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec, log, _ = tiny(tmp_path, 60)
    once = ["--set", "epochs=1"]
    run(spec, "--data", log, "-o", tmp_path / "run", *once)
    for code, arguments in {
        "T821": ["-o", tmp_path / "run", *once],
        "T822": ["-o", tmp_path / "run", "--resume", "--set", "epochs=2"],
        "T823": ["-o", tmp_path / "a", "--time-column", "time", "--valid-from", 0],
        "T825": ["-o", tmp_path / "b", "--freeze", "attic"],
        "T801": ["-o", tmp_path / "c", "--init-from", tmp_path],
        "T207": ["-o", tmp_path / "d", "--set", "epoch=2"],
        "T824": ["-o", tmp_path / "e", "--set", "learning_rate=1e6", "--set", "clip=0", "--set", "optimizer=sgd"],
    }.items():
        capsys.readouterr()
        run(spec, "--data", log, *arguments, code=1)
        assert f"error[{code}]" in capsys.readouterr().err
    run(spec, "--data", log, "-o", tmp_path / "run", "--resume", *once)  # finished: nothing is left to do


def test_it_stops_when_validation_gets_no_better(tmp_path: Path) -> None:
    checked = check(write_spec(tmp_path))
    noise = learnable(checked, 300)
    wrong = {name: torch.where(x.isnan(), x, (1 - x).abs()) for name, x in noise.held.labels.items()}
    held = noise.held
    valid = Memory(type(held)(held.features, held.surface, wrong), noise.surfaces)
    options = Train(epochs=30, batch=100, patience=2)
    found = train(checked, noise, valid, tmp_path / "run", options).record
    assert len(found["epochs"]) == found["best_epoch"] + 2 < 30


def test_auc_is_monitored(tmp_path: Path) -> None:
    checked = check(write_spec(tmp_path))
    log = learnable(checked, 300)
    found = train(checked, log, log, tmp_path / "run", Train(epochs=2, batch=100, monitor="auc")).record
    epochs = found["epochs"]
    assert epochs[found["best_epoch"] - 1]["valid/auc"] == max(e["valid/auc"] for e in epochs)
    assert 0.4 < epochs[0]["valid/home/click/auc"] < 1


def test_auc_is_scikits() -> None:
    generator = np.random.default_rng(0)
    scores, labels = generator.integers(0, 20, 300) / 7, generator.integers(0, 2, 300)
    assert auc(torch.tensor(scores), torch.tensor(labels)) == pytest.approx(roc_auc_score(labels, scores))


@pytest.mark.parametrize(("sampling", "shares"), [("balanced", [100, 100, 0]), ("temperature", [150, 50, 0])])
def test_sampling_draws_surfaces_by_their_share(sampling: str, shares: list[int]) -> None:
    counts = {"home": 180, "search": 20, "empty": 0}
    weights = sampling_weights(counts, Train(sampling=sampling, temperature=2.0))  # type: ignore[arg-type]
    assert weights is not None
    assert [round(weights[name] * n) for name, n in counts.items()] == shares


def test_a_balanced_log_gives_each_surface_as_many_rows(tmp_path: Path) -> None:
    _, log, checked = tiny(tmp_path, 600)
    from towerspec.train.data import open_log
    from towerspec.train.lightning import Epochs

    weights = sampling_weights({"home": 300, "search": 300}, Train(sampling="balanced"))
    assert weights == {"home": 1.0, "search": 1.0}

    class Trainer:
        global_step = 0

    epochs = Epochs(open_log(checked, [log]), 100, 6, 0, {"home": 0.5, "search": 1.5}, False, Trainer())  # type: ignore[arg-type]
    batches = list(epochs)
    assert len(batches) == len(epochs) == 6
    share = float(torch.cat([b.surface for b in batches]).float().mean())
    assert share == pytest.approx(0.75, abs=0.06)


# ---- optimisers --------------------------------------------------------------------------------


def test_row_wise_adagrad_is_the_same_dense_and_sparse() -> None:
    checked = check_text(PLAIN)
    log = learnable(checked, 64)
    tables = []
    for sparse in (False, True):
        module = build_module(checked)
        table = dict(module.named_parameters())["tables.items.weight"]
        sparse_gradients(module, ["tables.items.weight"] if sparse else [])
        optimizer = RowWise([table], lr=0.1)
        first = table.detach().clone()
        for start in (0, 4):
            part = pick(log.held, torch.arange(start, start + 4))
            out = module(dict(part.features), part.surface)
            module.zero_grad()
            sum(x[~x.isnan()].square().sum() for x in out.values()).backward()  # type: ignore[union-attr]
            assert table.grad is not None
            assert table.grad.is_sparse == sparse
            clip([table], 0.5)
            grad = table.grad.to_dense()
            assert float(grad.norm()) <= 0.5 + 1e-5
            optimizer.step()
        tables.append(table.detach())
        touched = (table.detach() != first).any(1)
        assert 0 < int(touched.sum()) < len(table)
    torch.testing.assert_close(tables[0], tables[1], atol=1e-6, rtol=1e-5)


def test_row_wise_adagrads_formula() -> None:
    table = torch.nn.Parameter(torch.zeros(3, 2))
    optimizer, total, wanted = RowWise([table], lr=0.5), np.zeros(3), np.zeros((3, 2))
    for grad in ([[1.0, 3.0], [0, 0], [2, 2]], [[0, 0], [0, 0], [1, -1]]):
        table.grad = torch.tensor(grad, dtype=torch.float32)
        optimizer.step()
        total += np.square(grad).mean(1)
        wanted -= 0.5 * np.array(grad) / (np.sqrt(total) + 1e-8)[:, None]
    np.testing.assert_allclose(table.detach().numpy(), wanted, rtol=1e-6)


@pytest.mark.parametrize("options", [{"precision": "bf16"}, {"optimizer": "adagrad", "embedding_optimizer": "adam"},
                                     {"sampling": "balanced", "schedule": "linear", "warmup": 2}])  # fmt: skip
def test_options_train(tmp_path: Path, options: dict[str, Any]) -> None:
    checked = check(write_spec(tmp_path))
    log = learnable(checked, 300)
    found = train(checked, log, log, tmp_path / "run", Train(epochs=3, batch=50, **options), Setup()).record
    assert found["epochs"][-1]["train/loss"] < found["epochs"][0]["train/loss"]
