"""calibrate and evaluate on a run: what they write and say, and that all artefacts have the measured numbers."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from safetensors.numpy import save_file
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression

import towerspec
from tests.cpp.test_program import assert_same_bits, scores
from towerspec.check import check
from towerspec.cli import cli
from towerspec.diagnostics import SpecError
from towerspec.emit.build import Options, compile_spec
from towerspec.runtime.samples import COUNTS
from towerspec.train.batch import Batch
from towerspec.train.calibrate import calibrate
from towerspec.train.commands_evaluate import trained_on
from towerspec.train.data import Log, open_log
from towerspec.train.evaluate import evaluate
from towerspec.train.fitters import STEEP
from towerspec.train.metrics import calibration_error
from towerspec.train.predict import Scores, load_model, predict, stands
from towerspec.train.report import render_report
from towerspec.train.run import Run
from towerspec.weights import read_safetensors

from .runs import CALIBRATED, SHOPS, calibrated_spec, make_run, rows

BINARY = [("home", "click"), ("home", "save"), ("search", "click"), ("search", "buy"), ("search", "order")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path, Path, dict[str, Any]]:
    """A run whose calibrators are fitted, the rows that they were fitted to, rows of a test, and the record."""
    folder = tmp_path_factory.mktemp("evaluate")
    spec = calibrated_spec(folder)
    run = make_run(folder / "run", spec)
    held_out, test = (rows(folder, check(spec), n, seed, f"{seed}.parquet") for n, seed in ((3000, 1), (1200, 2)))
    record = calibrate(run, log_of(run, held_out), {"data": [str(held_out)]})
    return run, held_out, test, record


@pytest.fixture(scope="module")
def document(made: tuple[Run, Path, Path, dict[str, Any]]) -> dict[str, Any]:
    run, _, test, _ = made
    return evaluate(run, log_of(run, test), {"data": [str(test)]}, times=30)


def log_of(run: Run, path: Path) -> Log:
    return open_log(run.checked(), [path], vocabularies={"features.shop": SHOPS})


def scored(run: Run, path: Path, size: int = 500) -> dict[str, Scores]:
    checked, module = load_model(run)
    return predict(checked.sound()[0], module, log_of(run, path).batches(size))


# ---- predictions -------------------------------------------------------------------------------


def test_every_labelled_row_of_a_head_is_there_once(made: tuple[Run, Path, Path, dict[str, Any]]) -> None:
    run, _, test, _ = made
    checked, module = load_model(run)
    found = predict(checked.sound()[0], module, log_of(run, test).batches(700))
    whole = predict(checked.sound()[0], module, log_of(run, test).batches(10_000))
    (batch,) = log_of(run, test).batches(10_000)
    home, search = (batch.surface == 0).numpy(), (batch.surface == 1).numpy()
    closeup = home & (batch.features["layout"] == 1).numpy()
    assert len(found["surfaces.home.tower.closeup.click"]) == closeup.sum()
    assert len(found["surfaces.home.tower._else.click"]) == (home & ~closeup).sum()
    assert len(found["surfaces.search.tower.click"]) == search.sum()
    for path, of in found.items():
        np.testing.assert_array_equal(of.labels, whole[path].labels)
        np.testing.assert_allclose(of.predictions, whole[path].predictions, atol=1e-6)
        assert not np.isnan(of.predictions).any()


def test_a_products_labels_follow_from_its_parts(made: tuple[Run, Path, Path, dict[str, Any]]) -> None:
    run, _, test, _ = made
    checked, module = load_model(run)
    model, _ = checked.sound()

    def without(batches: Iterator[Batch]) -> Iterator[Batch]:
        for b in batches:
            labels = {name: x for name, x in b.labels.items() if name != "order"}
            labels["buy"] = torch.where(labels["click"] == 0, torch.nan, labels["buy"])  # seen after a click only
            yield Batch(b.features, b.surface, labels, b.request)

    found = predict(model, module, without(log_of(run, test).batches(500)))["surfaces.search.tower.order"]
    clicks = scored(run, test)["surfaces.search.tower.click"]
    assert len(found) == len(clicks)
    assert (found.labels[clicks.labels == 0] == 0).all()


# ---- calibrate ---------------------------------------------------------------------------------


def test_the_weights_hold_the_fits_and_all_else_as_it_was(made: tuple[Run, Path, Path, dict[str, Any]]) -> None:
    run, held_out, _, record = made
    before = make_run(run.folder.parent / "again", run.folder / "spec" / "calibrated.tower")
    old, new = read_safetensors(before.weights), read_safetensors(run.weights)
    assert list(old) == list(new)
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    fitted = {head["path"] for head in record["heads"]}
    assert {name.rsplit(".", 1)[0] for name in changed} == fitted
    assert len(fitted) == 10
    assert run.record["calibration"] == json.loads(json.dumps(record))
    assert new["surfaces.home.tower.closeup.click.calibrate.a"].shape == (6, 1)
    assert new["surfaces.search.tower.buy.calibrate.knots"].shape == (4, 5)
    found = scored(before, held_out)
    for path in ("surfaces.search.tower.share", "surfaces.home.tower._else.click"):
        theirs = LogisticRegression(C=np.inf, tol=1e-10).fit(found[path].logits[:, None], found[path].labels)
        # An untrained model may be worse than chance; its calibration keeps the order all the same.
        slope = max(theirs.coef_[0][0], STEEP)
        assert float(new[f"{path}.calibrate.a"][-1]) == pytest.approx(slope, rel=1e-3)


def test_the_compiled_calibrators_give_the_loss_that_the_record_says(
    made: tuple[Run, Path, Path, dict[str, Any]],
) -> None:
    run, held_out, _, record = made
    found = scored(run, held_out)
    for head in record["heads"]:
        of = found[head["path"].removesuffix(".calibrate")]
        assert head["rows"] == len(of)
        if head["task"] in ("click", "save", "buy", "order"):
            loss = sk.log_loss(of.labels, of.predictions.astype(np.float64))
            assert head["loss"]["after"] == pytest.approx(loss, abs=1e-5)
            assert head["loss"]["after"] < head["loss"]["before"] + 1e-3
        if head["by"]:
            assert sum(cell["rows"] for cell in head["cells"]) <= head["rows"]
    assert {head["status"] for head in record["heads"]} == {"fitted"}
    buy = next(head for head in record["heads"] if head["task"] == "buy")
    assert [cell["value"] for cell in buy["cells"]] == ["top", "middle", "far down"]
    share = next(head for head in record["heads"] if head["task"] == "share")
    assert [cell["value"] for cell in share["cells"]] == SHOPS, "raw ids, in the order of their rows"


def test_calibrating_twice_changes_nothing(made: tuple[Run, Path, Path, dict[str, Any]]) -> None:
    run, held_out, _, record = made
    before = run.weights.read_bytes()
    again = calibrate(run, log_of(run, held_out), {"data": [str(held_out)]})
    assert run.weights.read_bytes() == before
    assert again == record


# ---- evaluate ----------------------------------------------------------------------------------


def test_metrics_are_those_of_the_rows(made: tuple[Run, Path, Path, dict[str, Any]], document: dict[str, Any]) -> None:
    run, _, test, _ = made
    found = scored(run, test)
    for surface, task in BINARY:
        parts = [s for s in found.values() if (s.stand.surface, s.stand.task) == (surface, task)]
        y = np.concatenate([s.labels for s in parts])
        p = np.concatenate([s.predictions for s in parts])
        head = document["surfaces"][surface][task]
        assert head["rows"] == len(y)
        assert head["after"]["auc"]["value"] == pytest.approx(sk.roc_auc_score(y, p), abs=1e-9)
        assert head["after"]["log_loss"]["value"] == pytest.approx(sk.log_loss(y, p.astype(np.float64)), rel=1e-6)
        assert head["after"]["auc"]["low"] < head["after"]["auc"]["value"] < head["after"]["auc"]["high"]
        assert head["one_class_requests"] < head["requests"]
    assert document["overall"]["click"]["rows"] == sum(
        document["surfaces"][s]["click"]["rows"] for s in ("home", "search")
    )
    assert "buy" not in document["overall"], "one surface has it"


def test_calibration_shows(document: dict[str, Any]) -> None:
    """The untrained model's predictions are far off; calibrated, they are right on average, and ranked as before."""
    for surface, task in BINARY:
        head = document["surfaces"][surface][task]
        if task != "save":  # a temperature alone can't move the mean
            ratio = head["after"]["calibration_ratio"]
            assert ratio["low"] - 0.05 < 1 < ratio["high"] + 0.05
        assert head["change"]["log_loss"]["value"] < 0.01
    for task in ("click", "order"):  # no `by`, and monotone
        head = document["surfaces"]["search"][task]
        assert head["before"]["auc"]["value"] == pytest.approx(head["after"]["auc"]["value"], abs=2e-4)
        assert head["before"]["grouped_auc"]["value"] == pytest.approx(head["after"]["grouped_auc"]["value"], abs=2e-3)
    plain = document["surfaces"]["search"]["plain"]
    assert plain["before"] == plain["after"]
    assert plain["calibration"] is None
    assert document["surfaces"]["home"]["click"]["calibration"] == "platt by kind"


def test_other_heads_have_metrics_of_their_own(document: dict[str, Any]) -> None:
    found = document["surfaces"]["search"]
    assert set(found["dwell"]["after"]) == {"rmse", "calibration_ratio"}
    assert set(found["views"]["after"]) == {"poisson_deviance", "rmse", "calibration_ratio"}
    assert set(found["mood"]["after"]) == {"log_loss", "accuracy", "ece"}
    assert found["dwell"]["change"]["rmse"]["value"] < 0


def test_the_same_rows_give_the_same_document(
    made: tuple[Run, Path, Path, dict[str, Any]], document: dict[str, Any]
) -> None:
    run, _, test, _ = made
    again = evaluate(run, log_of(run, test), {"data": [str(test)]}, times=30)
    assert again == document
    assert render_report(again) == render_report(document)


def one_class(run: Run, test: Path) -> Log:
    table = pq.read_table(test)
    labels = [None if x is None else 0.0 for x in table["save"].to_pylist()]
    path = test.parent / "one_class.parquet"
    pq.write_table(table.set_column(table.column_names.index("save"), "save", [labels]), path)
    return log_of(run, path)


def test_one_class_is_undefined(made: tuple[Run, Path, Path, dict[str, Any]]) -> None:
    run, _, test, _ = made
    found = evaluate(run, one_class(run, test), {"data": ["x"]}, times=10)
    after = found["surfaces"]["home"]["save"]["after"]
    for name in ("auc", "grouped_auc", "normalised_entropy", "calibration_ratio"):
        assert after[name] == {"value": None, "low": None, "high": None}
    assert after["log_loss"]["value"] > 0
    assert "undefined" in render_report(found)
    assert "home.save" in render_report(found)


def test_thinned_out_negatives_count_for_those_that_were_dropped(
    made: tuple[Run, Path, Path, dict[str, Any]], document: dict[str, Any]
) -> None:
    """`share` says that its log holds half of the negatives: rates are those of all of them, in both commands."""
    run, _, test, _ = made
    found = scored(run, test)["surfaces.search.tower.share"]
    clicked = found.labels.sum()
    head = document["surfaces"]["search"]["share"]
    assert head["mean"] == pytest.approx(clicked / (2 * len(found) - clicked))
    assert found.predictions.mean() < 0.8 * found.labels.mean()
    assert head["after"]["calibration_ratio"]["value"] == pytest.approx(1.0, abs=0.2)


def test_a_calibration_error_without_chance_is_of_rows_that_count_alike(
    made: tuple[Run, Path, Path, dict[str, Any]], document: dict[str, Any]
) -> None:
    run, _, test, _ = made
    found = scored(run, test)["surfaces.search.tower.order"]
    head = document["surfaces"]["search"]["order"]
    alone = calibration_error(found.labels, found.predictions)
    assert head["calibration_error"]["after"] == pytest.approx(alone, abs=1e-9)
    assert head["calibration_error"]["after"] < head["ece_by_chance"] * 2
    assert "calibration_error" not in document["surfaces"]["search"]["share"]
    assert "without chance" in render_report(document)


# ---- the report and the commands ---------------------------------------------------------------


def test_the_report_holds_all_it_needs(document: dict[str, Any]) -> None:
    html = render_report(document)
    assert not re.search(r"(src|href)=|url\(|@import|<script|https?:", html.split("<details>")[0])
    assert html.count("<svg") == len(BINARY) + 3  # and `plain`, `share`, and the clicks of all surfaces
    assert "prefers-color-scheme: dark" in html
    assert html.count("<table") >= 4
    assert "FLOPs / candidate" in html


def test_names_are_escaped(document: dict[str, Any]) -> None:
    text = json.dumps(document).replace("platt by kind", "<script>alert(1)</script>")
    assert "<script>" not in render_report(json.loads(text))


def call(*words: object) -> Any:
    return CliRunner().invoke(cli, [str(w) for w in words])


def test_the_commands(made: tuple[Run, Path, Path, dict[str, Any]], tmp_path: Path) -> None:
    run, held_out, test, record = made
    said = call("calibrate", run.folder, "--data", held_out, "--json")
    assert said.exit_code == 0, said.output
    assert [h["parameters"] for h in json.loads(said.stdout)["heads"]] == [h["parameters"] for h in record["heads"]]
    said = call("calibrate", run.folder, "--data", held_out)
    assert re.search(r"home +click +platt by kind .* cells, \d mostly their own", said.output)
    said = call("evaluate", run.folder, "--data", test, "--bootstrap", 20, "-o", tmp_path / "out")
    assert said.exit_code == 0, said.output
    assert re.search(r"search +order +calibrated +\d+ .*±", said.output)
    written = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert written["bootstrap"]["times"] == 20
    assert (tmp_path / "out" / "report.html").read_text() == render_report(written)
    some = call(
        "evaluate", run.folder, "--data", test, "--bootstrap", 0, "--time-column", "time", "--from", 600, "--json"
    )
    assert sum(json.loads(some.stdout)["rows"].values()) == 600
    assert (run.folder / "evaluation.json").is_file()


def test_trained_rows_are_refused(made: tuple[Run, Path, Path, dict[str, Any]], tmp_path: Path) -> None:
    _, held_out, _, _ = made
    run = make_run(tmp_path / "run", calibrated_spec(tmp_path), data={"data": [str(held_out)], "valid_from": "2000"})
    said = call("calibrate", run.folder, "--data", held_out)
    assert isinstance(said.exception, SpecError)
    assert "leave those rows out with `--from 2000`" in str(said.exception)
    said = call("calibrate", run.folder, "--data", held_out, "--time-column", "time", "--from", 2000)
    assert said.exit_code == 0, said.output
    said = call("evaluate", run.folder, "--data", held_out, "--bootstrap", 0)
    assert said.exit_code == 0
    assert "warning[T833]" in said.output


@pytest.mark.parametrize(
    ("trained", "since", "given", "start", "refused"),
    [
        ("log", None, "log/a.parquet", None, True),
        ("log", None, "log/a.parquet", "5", True),
        ("log/a.parquet", None, "log", None, True),
        ("log/a.parquet", None, "log", "5", False),
        ("log/a.parquet", None, "log/b.parquet", None, False),
        ("log", "10", "log", "9", True),
        ("log", "10", "log", "10", False),
        ("log", "2024-05-02", "log", "2024-05-01", True),
        ("log", "2024-05-02", "log", "2024-05-02 12:00", False),
    ],
)
def test_trained_rows_are_found(
    tmp_path: Path, trained: str, since: str | None, given: str, start: str | None, refused: bool
) -> None:
    record = {"data": [str(tmp_path / trained)], "valid_from": since}
    run = make_run(tmp_path / "run", calibrated_spec(tmp_path), data=record)
    asked = {"data": [str(tmp_path / given)], "from": start, "before": None}
    assert (trained_on(run, asked, "error") is not None) is refused


def test_a_surface_without_rows_keeps_its_calibrators(made: tuple[Run, Path, Path, dict[str, Any]]) -> None:
    run, held_out, _, _ = made
    other = make_run(run.folder.parent / "lonely", run.folder / "spec" / "calibrated.tower")
    table = pq.read_table(held_out)
    path = held_out.parent / "search_only.parquet"
    pq.write_table(table.filter([s == "search" for s in table["surface"].to_pylist()]), path)
    said = call("calibrate", other.folder, "--data", path)
    assert said.exit_code == 0, said.output
    assert "3 of 10 calibrators stay as they were" in said.output
    held = read_safetensors(other.weights)
    assert (held["surfaces.home.tower.closeup.click.calibrate.a"] == 1).all()
    found = evaluate(other, log_of(other, path), {}, times=5)
    assert found["surfaces"]["home"]["click"]["after"]["log_loss"]["value"] is None


# ---- the same numbers everywhere ---------------------------------------------------------------


def test_the_same_numbers_everywhere(
    made: tuple[Run, Path, Path, dict[str, Any]], tmp_path: Path, cpp_program: Path
) -> None:
    """What evaluate measured is what each surface's file predicts, in Python and, to the bit, in C++."""
    run, _, test, _ = made
    _, module = load_model(run)
    compile_spec(check(run.folder / "spec" / "calibrated.tower"), tmp_path / "build", Options(weights=run.folder))
    (batch,) = log_of(run, test).batches(10_000)
    raw = pq.read_table(test)
    with torch.inference_mode():
        expected = module(dict(batch.features), batch.surface)
    for index, (name, surface) in enumerate(towerspec.load(tmp_path / "build").surfaces.items()):
        here = (batch.surface == index).nonzero().flatten()
        columns = {e["name"]: e["dtype"] for e in surface.inputs if e["name"] != COUNTS}
        inputs = {n: raw[n].to_numpy()[here.numpy()].astype(dtype) for n, dtype in columns.items()}
        inputs |= {COUNTS: np.ones(len(here), dtype=np.int64)}
        ours = surface(inputs)
        for head, x in ours.items():
            np.testing.assert_allclose(x, expected[head][here].numpy(), atol=1e-5, rtol=1e-5, err_msg=head)
        save_file(inputs, tmp_path / f"{name}.safetensors")
        call = [cpp_program, tmp_path / "build", name, tmp_path / f"{name}.safetensors"]
        assert_same_bits(ours, scores(subprocess.run(call, capture_output=True, text=True)))


def test_every_head_stands_somewhere() -> None:
    from towerspec.check import check_text

    model, _ = check_text(CALIBRATED).sound()
    found = stands(model)
    assert len({s.path for s in found}) == len(found) == 11
    by = {s.path: s.keys for s in found if s.by}
    assert sorted(by.values()) == [3, 3, 5, 5]
