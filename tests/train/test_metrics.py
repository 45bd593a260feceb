"""Metrics against scikit-learn and torchmetrics, what they say where nothing is defined, and their intervals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchmetrics.functional as T
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from towerspec.train import metrics
from towerspec.train.bootstrap import MEASURES, Labelled, estimate, interval, measure, reliability

Rows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def rows(seed: int = 0, count: int = 3000, ties: bool = True) -> Rows:
    """Labels, predictions, weights and requests of 1 to 20 rows."""
    rng = np.random.default_rng(seed)
    p = rng.beta(1, 8, count)
    y = (rng.random(count) < p).astype(np.float64)
    return y, np.round(p, 3) if ties else p, rng.integers(1, 4, count).astype(float), rng.integers(0, count // 8, count)


@pytest.mark.parametrize("ties", [False, True])
def test_equal_scikit_learn(ties: bool) -> None:
    y, p, w, _ = rows(ties=ties)
    assert metrics.auc(y, p) == pytest.approx(sk.roc_auc_score(y, p), abs=1e-12)
    assert metrics.auc(y, p, w) == pytest.approx(sk.roc_auc_score(y, p, sample_weight=w), abs=1e-12)
    bounded = metrics.positive(p)
    assert metrics.log_loss(y, p, w) == pytest.approx(sk.log_loss(y, bounded, sample_weight=w), rel=1e-12)
    base = sk.log_loss(y, np.full(len(y), y.mean()))
    assert metrics.normalised_entropy(y, p) == pytest.approx(sk.log_loss(y, bounded) / base, rel=1e-12)
    assert metrics.calibration_ratio(y, p) == pytest.approx(p.sum() / y.sum(), rel=1e-12)


def test_equal_torchmetrics() -> None:
    y, p, _, _ = rows()
    given = torch.tensor(p), torch.tensor(y).long()
    assert metrics.auc(y, p) == pytest.approx(float(T.auroc(*given, task="binary")), abs=1e-6)
    assert metrics.rmse(y, p) == pytest.approx(float(T.mean_squared_error(given[0], torch.tensor(y), squared=False)))
    probabilities = np.random.default_rng(0).dirichlet(np.ones(4), len(y))
    classes = np.random.default_rng(1).integers(0, 4, len(y))
    both = torch.tensor(probabilities), torch.tensor(classes)
    assert metrics.accuracy(classes, probabilities) == pytest.approx(
        float(T.accuracy(*both, task="multiclass", num_classes=4, average="micro")), abs=1e-6
    )
    assert metrics.class_log_loss(classes, probabilities) == pytest.approx(sk.log_loss(classes, probabilities))


def test_ece_has_bins_of_equal_mass() -> None:
    y, p, _, _ = rows(ties=False)
    actual, predicted = calibration_curve(y, p, n_bins=15, strategy="quantile")  # 200 rows in each
    assert metrics.ece(y, p) == pytest.approx(np.abs(actual - predicted).mean(), rel=0.02)
    parts = zip(*(np.array_split(x[np.argsort(p)], 15) for x in (y, p)), strict=True)
    exact = np.mean([abs(a.mean() - b.mean()) for a, b in parts])
    assert metrics.ece(y, p) == pytest.approx(exact, rel=1e-12)


def test_equal_predictions_share_a_bin() -> None:
    """However the rows lie in the file: a constant prediction has one bin, and its ECE is the distance of the means."""
    y = np.sort(rows()[0])
    assert metrics.ece(y, np.full(len(y), 0.3)) == pytest.approx(abs(y.mean() - 0.3))


def test_the_squared_error_of_calibration_has_no_bias() -> None:
    rng = np.random.default_rng(0)
    for rows, off in ((90, 0.0), (90, 0.1), (600, 0.03)):
        p = np.repeat(np.linspace(0.15, 0.85, 15), rows // 15) + rng.normal(scale=1e-6, size=rows // 15 * 15)
        draws = rng.random((4000, len(p))) < p + off
        found = [metrics.square_error_of_calibration(y.astype(float), p) for y in draws]
        error = np.std(found) / np.sqrt(len(found))
        assert abs(np.mean(found) - off**2) < 4 * error  # in closed form it is the square of what was added
        if not off:
            assert metrics.ece(draws[0].astype(float), p) > 0.05  # where the plain one sees an error


def test_the_squared_error_of_calibration_is_that_of_its_definition() -> None:
    rng = np.random.default_rng(1)
    p = rng.random(150)
    y = (rng.random(150) < p**2).astype(float)
    bins = np.split(np.argsort(p), 15)
    parts = [(y[b].mean() - p[b].mean()) ** 2 - np.var(y[b], ddof=1) / len(b) for b in bins]
    assert metrics.square_error_of_calibration(y, p) == pytest.approx(np.mean(parts), rel=1e-9)
    assert metrics.square_error_of_calibration(y[:10], p[:10]) is None


def test_ece_by_chance_is_what_perfect_predictions_get() -> None:
    _, p, _, _ = rows(ties=False)
    rng = np.random.default_rng(5)
    found = [metrics.ece((rng.random(len(p)) < p).astype(float), p) for _ in range(200)]
    assert metrics.ece_by_chance(p) == pytest.approx(np.mean(found), rel=0.05)


def test_poisson_deviance_equals_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    m = rng.gamma(2.0, 1.0, 500)
    y = rng.poisson(m).astype(float)
    assert metrics.poisson_deviance(y, m) == pytest.approx(sk.mean_poisson_deviance(y, m), rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 12))
def test_grouped_auc_is_the_mean_over_requests(seed: int, count: int, of: int) -> None:
    rng = np.random.default_rng(seed)
    y, p = rng.integers(0, 2, count).astype(float), rng.integers(0, 5, count) / 5
    request = rng.integers(0, of, count)
    found, sizes, left_out = [], [], 0
    for r in np.unique(request):
        here = request == r
        if len(set(y[here])) < 2:
            left_out += 1
            continue
        found.append(sk.roc_auc_score(y[here], p[here]))
        sizes.append(here.sum())
    groups = metrics.group_aucs(y, p, request)
    assert groups.left_out == left_out
    if not found:
        assert metrics.grouped_auc(y, p, request) is None
        return
    assert metrics.grouped_auc(y, p, request) == pytest.approx(np.average(found, weights=sizes), abs=1e-12)
    assert metrics.grouped_auc(y, p, request, "groups") == pytest.approx(np.mean(found), abs=1e-12)


NONE, ONE = np.zeros(0), np.zeros(40)


@pytest.mark.parametrize("metric", ["auc", "normalised_entropy", "calibration_ratio"])
@pytest.mark.parametrize("y", [NONE, ONE], ids=["no rows", "one class"])
def test_what_is_undefined_is_no_number(metric: str, y: np.ndarray) -> None:
    assert getattr(metrics, metric)(y, np.full(len(y), 0.2)) is None


def test_one_class_of_ones() -> None:
    y, p = np.ones(10), np.linspace(0.1, 0.9, 10)
    assert metrics.auc(y, p) is None
    assert metrics.normalised_entropy(y, p) is None
    assert metrics.calibration_ratio(y, p) == pytest.approx(0.5)
    assert metrics.log_loss(y, p) == pytest.approx(float(-np.log(p).mean()))


@pytest.mark.parametrize("kind", MEASURES)
@pytest.mark.parametrize("count", [0, 1])
def test_no_rows_and_one_row(kind: str, count: int) -> None:
    p = np.full((count, 3), 1 / 3) if kind == "multiclass" else np.full(count, 0.5)
    held = Labelled(np.zeros(count), p, np.arange(count), np.ones(count), True)
    found = estimate({"before": measure(kind, held), "after": measure(kind, held)}, 10, 0)
    for metric in found["before"].values():
        assert metric.value is None or np.isfinite(metric.value)
    if not count:
        assert all(metric.value is None for part in found.values() for metric in part.values())


def test_predictions_of_0_and_1_cost_a_finite_number() -> None:
    loss = metrics.log_loss(np.array([0.0, 1.0]), np.array([1.0, 0.0], dtype=np.float32))
    assert loss == pytest.approx(-np.log(np.finfo(np.float32).eps), rel=1e-3)


# ---- intervals ---------------------------------------------------------------------------------


def labelled(data: Rows, weights: bool = False) -> Labelled:
    y, p, w, request = data
    clusters = np.unique(request, return_inverse=True)[1]
    return Labelled(y, p, clusters, w if weights else np.ones(len(y)), True)


def test_a_resample_is_what_its_repeated_rows_give() -> None:
    """Drawing by counts equals copying the drawn requests' rows."""
    held = labelled(rows(count=400))
    counts = np.random.default_rng(0).integers(0, 4, held.count).astype(float)
    found = measure("binary", held)(counts)
    copies = np.repeat(np.arange(400), counts[held.clusters].astype(int))
    y, p = held.labels[copies], held.predictions[copies]
    assert found["auc"] == pytest.approx(sk.roc_auc_score(y, p), abs=1e-12)
    assert found["log_loss"] == pytest.approx(metrics.log_loss(y, p), rel=1e-12)
    assert found["normalised_entropy"] == pytest.approx(metrics.normalised_entropy(y, p), rel=1e-12)
    assert found["calibration_ratio"] == pytest.approx(p.sum() / y.sum(), rel=1e-12)
    groups = metrics.group_aucs(held.labels, held.predictions, held.clusters)
    there = ~np.isnan(groups.auc)
    mean = np.average(groups.auc[there], weights=(groups.rows * counts)[there])
    assert found["grouped_auc"] == pytest.approx(mean, abs=1e-12)


def test_intervals_cover() -> None:
    """In nine of ten logs or more, the 95% intervals hold the truth."""
    held, truth = 0, 0.8413  # the AUC of two normal distributions that are sqrt(2) apart
    for seed in range(40):
        rng = np.random.default_rng(seed)
        y = rng.integers(0, 2, 300).astype(float)
        z = rng.normal(y * np.sqrt(2), 1.0)
        p = 1 / (1 + np.exp(-z))
        found = estimate({"": measure("binary", Labelled(y, p, np.arange(300), np.ones(300), False))}, 200, 1)[""]
        auc = found["auc"]
        assert auc.low is not None
        assert auc.high is not None
        held += auc.low <= truth <= auc.high
    assert held >= 35


def test_rows_of_one_request_are_drawn_together() -> None:
    """Twenty equal rows in each request are worth one: the interval is as wide as with one."""
    y, p, _, _ = rows(count=300)
    alone = Labelled(y, p, np.arange(300), np.ones(300), True)
    copies = Labelled(*(np.repeat(x, 20) for x in (y, p, np.arange(300), np.ones(300))), True)
    a, b = (estimate({"": measure("binary", held)}, 100, 3)[""]["log_loss"] for held in (alone, copies))
    assert a.as_json() == pytest.approx(b.as_json(), rel=1e-9)


def test_the_same_seed_gives_the_same_intervals() -> None:
    held = measure("binary", labelled(rows()))
    assert estimate({"": held}, 20, 7) == estimate({"": held}, 20, 7)
    assert estimate({"": held}, 20, 7) != estimate({"": held}, 20, 8)


def test_change_is_that_of_each_resample() -> None:
    y, p, w, request = rows()
    better = labelled((y, np.clip(p * 0.5 + y * 0.3, 0.001, 0.9), w, request))
    found = estimate({"before": measure("binary", labelled(rows())), "after": measure("binary", better)}, 60, 0)
    change = found["change"]["log_loss"]
    assert change.high is not None
    assert change.high < 0, "it is certain that the second is better"
    assert found["change"]["auc"].value == pytest.approx(found["after"]["auc"].value - found["before"]["auc"].value)  # type: ignore[operator]


def test_an_ece_lies_in_its_interval() -> None:
    for seed in range(10):
        ece = estimate({"": measure("binary", labelled(rows(seed)))}, 100, 0)[""]["ece"]
        assert ece.low is not None
        assert ece.high is not None
        assert ece.value is not None
        assert 0 <= ece.low <= ece.value <= ece.high


def test_mostly_undefined_resamples_give_no_interval() -> None:
    assert interval("auc", 0.7, [None] * 6 + [0.5] * 4).low is None
    assert interval("auc", None, [0.5] * 9).low is None


def test_one_request_gives_no_interval() -> None:
    """All its resamples are alike, which says nothing of how sure the number is."""
    y, p = np.array([0.0, 1.0, 0.0, 0.0]), np.array([0.1, 0.7, 0.8, 0.2])
    alone = Labelled(y, p, np.zeros(4, dtype=np.int64), np.ones(4), True)
    found = estimate({"": measure("binary", alone)}, 50, 0)[""]
    assert found["auc"].value == pytest.approx(2 / 3)
    assert all(x.low is None for x in found.values())
    one_with_both = Labelled(y, p, np.array([0, 0, 1, 2]), np.ones(4), True)
    found = estimate({"": measure("binary", one_with_both)}, 50, 0)[""]
    assert found["grouped_auc"].value == 1.0
    assert found["grouped_auc"].low is None
    assert found["log_loss"].low is not None


def test_weights_are_rows() -> None:
    """A kept negative that stands for three counts as three, in every metric but the grouped AUC."""
    y, p, _, _ = rows(count=500)
    w = np.where(y > 0, 1.0, 3.0)
    thinned = measure("binary", Labelled(y, p, np.arange(500), w, False))(np.ones(500))
    copies = np.repeat(np.arange(500), w.astype(int))
    whole = measure("binary", Labelled(y[copies], p[copies], np.arange(len(copies)), np.ones(len(copies)), False))
    everything = whole(np.ones(len(copies)))
    for name in ("auc", "log_loss", "normalised_entropy", "calibration_ratio"):
        assert thinned[name] == pytest.approx(everything[name], rel=1e-12), name


def test_reliability_has_every_row_once() -> None:
    held = labelled(rows())
    bins = reliability(held, 50, 0)
    assert sum(b["rows"] for b in bins) == len(held.labels)
    assert [b["predicted"] for b in bins] == sorted(b["predicted"] for b in bins)
    assert all(b["actual"]["low"] <= b["actual"]["value"] <= b["actual"]["high"] for b in bins)
    distance = sum(b["rows"] * abs(b["predicted"] - b["actual"]["value"]) for b in bins) / len(held.labels)
    assert distance == pytest.approx(metrics.ece(held.labels, held.predictions), rel=1e-12)
