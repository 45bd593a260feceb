"""Each loss and each way of balancing against a formula of its own, in float64."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from towerspec.check import check_text
from towerspec.layers.blocks import Train
from towerspec.train.balancing import Fixed, GradNorm, Uncertainty
from towerspec.train.batch import Batch
from towerspec.train.losses import LOSSES, Losses
from towerspec.train.trainer import train

from .memory import Memory, learnable
from .specs import TINY, write_spec

Z = np.linspace(-12.0, 12.0, 13)
BRANCHED = """model m
request { layout : category { values: [grid, closeup, video] } }
trunk { x = linear(request, width: 4) }
surface a {
  weight: 3.0
  tower {
    branch by layout {
      grid { head click : binary { weight: 2.0 } }
      else { head click : binary  head save : binary }
    }
  }
}
surface b { tower { head click : binary { weight: 0.5 } } }
"""


def loss(name: str, z: object, y: object) -> np.ndarray:  # type: ignore[type-arg]
    return LOSSES[name](torch.as_tensor(np.asarray(z)), torch.as_tensor(np.asarray(y))).numpy()


@pytest.mark.parametrize("y", [0.0, 1.0, 0.3])
def test_binary_cross_entropy(y: float) -> None:
    p = 1 / (1 + np.exp(-Z))
    np.testing.assert_allclose(
        loss("binary_cross_entropy", Z, np.full(13, y)), -y * np.log(p) - (1 - y) * np.log(1 - p)
    )


def test_squared_error_and_huber() -> None:
    y = Z[::-1] / 3
    np.testing.assert_allclose(loss("squared_error", Z, y), (Z - y) ** 2)
    wanted = np.where(np.abs(Z - y) <= 1, (Z - y) ** 2 / 2, np.abs(Z - y) - 0.5)
    np.testing.assert_allclose(loss("huber", Z, y), wanted)


def test_poisson_is_a_likelihood_and_stays_finite() -> None:
    y = np.array([0, 1, 4] * 4 + [2.0])
    likelihood = [math.exp(z) - k * z + math.lgamma(k + 1) for z, k in zip(Z, y, strict=True)]
    constant = [math.lgamma(k + 1) for k in y]
    np.testing.assert_allclose(loss("poisson", Z, y), np.subtract(likelihood, constant), rtol=1e-12)
    z = torch.tensor([200.0, 500.0], requires_grad=True)
    LOSSES["poisson"](z, torch.tensor([3.0, 0.0])).sum().backward()
    assert z.grad is not None
    assert z.grad.isfinite().all()
    assert (z.grad > 0).all(), "too large a rate is still pushed down"


def test_cross_entropy() -> None:
    z = np.random.default_rng(0).normal(size=(6, 4)) * 3
    y = np.array([0, 1, 2, 3, 0, 2])
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    np.testing.assert_allclose(loss("cross_entropy", z, y.astype(float)), -np.log(p[np.arange(6), y]))


@pytest.mark.parametrize("logits", [(3.0, -2.0), (-40.0, 5.0), (9.0, 9.0), (14.0, 13.0)])
@pytest.mark.parametrize("y", [0.0, 1.0])
def test_a_products_gradient_keeps_its_digits(logits: tuple[float, float], y: float) -> None:
    """In float32, through the logit of a product of two probabilities, against the quotient in float64."""
    z = torch.tensor(logits, requires_grad=True)
    total = torch.nn.functional.logsigmoid(z).sum()
    product = total - (-total.expm1()).clamp(min=1e-7).log()
    LOSSES["binary_cross_entropy"](product, torch.tensor(y)).backward()
    a, b = (1 / (1 + math.exp(-x)) for x in logits)
    slope = np.array([1 / (1 + math.exp(x)) for x in logits])  # of each log-sigmoid
    rest = -math.expm1(math.log(a) + math.log(b))
    wanted = -y * slope + (1 - y) * a * b / rest * slope
    np.testing.assert_allclose(z.grad, wanted, rtol=2e-3)  # type: ignore[arg-type]


def test_rows_count_by_their_head_and_surface() -> None:
    """Weights by surface and arm, NaN labels and rows without the head left out."""
    checked = check_text(BRANCHED)
    model, _ = checked.sound()
    batch = Batch(
        {"layout": torch.tensor([0, 1, -1, 7, 0, 1])},
        torch.tensor([0, 0, 0, 0, 1, 1]),
        {"click": torch.tensor([1.0, 0, 1, torch.nan, 1, 0]), "save": torch.tensor([torch.nan, 1, 0, 1, 0, 0])},
    )
    z = torch.tensor([0.5, -1.0, 2.0, 0.0, 1.0, 3.0])
    save = torch.tensor([torch.nan, 1.0, 2.0, 3.0, torch.nan, torch.nan])
    terms = Losses(model)({"click.logit": z, "save.logit": save}, batch)
    assert terms["click"].rows.tolist() == [0, 1, 2, 4, 5]
    assert terms["click"].weights.tolist() == [6.0, 3.0, 3.0, 0.5, 0.5]
    assert terms["save"].rows.tolist() == [1, 2, 3]
    wanted = sum(w * math.log1p(math.exp(s)) for w, s in ((6, -0.5), (3, -1), (3, -2), (0.5, -1), (0.5, 3)))
    assert float(terms["click"].total) == pytest.approx(wanted, rel=1e-6)


def test_thinned_out_negatives_leave_the_prediction_of_all_rows(tmp_path: Path) -> None:
    """One row in eight is positive; of the negatives a quarter is kept, and the model still says one in eight."""
    text = """model m
    request { one : number { missing: 0.0 } }
    trunk { x = linear(request, width: 2) }
    surface a { tower { head click : binary { negatives_kept: 0.25 } } }
    """
    checked = check_text(text, str(write_spec(tmp_path, text)))
    generator = torch.Generator().manual_seed(0)
    rows = 8000
    clicks = (torch.rand(rows, generator=generator) < 0.125).float()
    kept = (clicks == 1) | (torch.rand(rows, generator=generator) < 0.25)
    count = int(kept.sum())
    log = Memory(
        Batch({"one": torch.ones(count)}, torch.zeros(count, dtype=torch.int64), {"click": clicks[kept]}), ("a",)
    )
    options = Train(epochs=20, batch=500, learning_rate=0.05, schedule="linear")
    run = train(checked, log, None, tmp_path / "run", options)
    from towerspec.train.module import build_module
    from towerspec.weights import read_safetensors

    module = build_module(checked).eval()
    module.load_state_dict(read_safetensors(run.weights))
    predicted = float(module.requires_grad_(False)({"one": torch.ones(1)}, torch.zeros(1, dtype=torch.int64))["click"])
    assert predicted == pytest.approx(float(clicks.mean()), abs=0.01)


# ---- balancing ---------------------------------------------------------------------------------

KINDS = {"click": "binary_cross_entropy", "dwell": "squared_error", "views": "poisson"}


def tasks(w: torch.Tensor) -> dict[str, torch.Tensor]:
    """Three losses on a shared weight, with gradients of very different sizes."""
    x = torch.tensor([1.0, -2.0], dtype=w.dtype)
    return {"click": (w @ x).square(), "dwell": 100 * (w.sum() - 1).square(), "views": w.exp().sum()}


def test_fixed_is_the_sum() -> None:
    losses = tasks(torch.tensor([0.3, 0.2]))
    assert Fixed(list(KINDS), KINDS, [])(losses) == pytest.approx(sum(float(x) for x in losses.values()), rel=1e-6)


def test_uncertainty_is_kendalls_objective() -> None:
    balancer = Uncertainty(list(KINDS), KINDS, [])
    with torch.no_grad():
        balancer.log_variance.copy_(torch.tensor([0.5, -1.0, 2.0]))
    losses = {"click": torch.tensor(0.7), "dwell": torch.tensor(3.0)}
    sigma = [math.exp(0.5 / 2), math.exp(-1.0 / 2)]
    wanted = 0.7 / sigma[0] ** 2 + math.log(sigma[0]) + 3.0 / (2 * sigma[1] ** 2) + math.log(sigma[1])
    total = balancer(losses)
    assert float(total.detach()) == pytest.approx(wanted, rel=1e-6)
    total.backward()
    grad = balancer.log_variance.grad
    assert grad is not None
    assert grad[2] == 0, "a task that isn't there stays as it is"
    assert grad.tolist()[:2] == pytest.approx([-0.7 * math.exp(-0.5) + 0.5, -1.5 * math.exp(1.0) + 0.5], rel=1e-5)


def test_gradnorm_is_algorithm_1() -> None:
    w = torch.tensor([0.3, -0.4], requires_grad=True)
    balancer = GradNorm(list(KINDS), KINDS, [w])
    weights, first = np.ones(3), None
    for step in range(3):
        with torch.no_grad():
            w += 0.05 * step
        losses = tasks(w)
        values = np.array([float(x.detach()) for x in losses.values()])
        first = values if first is None else first
        norms = np.array([float(torch.autograd.grad(x, w, retain_graph=True)[0].norm()) for x in losses.values()])
        rate = values / first / (values / first).mean()
        target = (weights * norms).mean() * rate**1.5
        total = balancer(losses)
        assert float(total.detach()) == pytest.approx(float((weights * values).sum()), rel=1e-5)
        weights = np.maximum(weights - 0.025 * np.sign(weights * norms - target) * norms, 1e-3)
        weights *= 3 / weights.sum()
        assert balancer.w.tolist() == pytest.approx(weights.tolist(), rel=1e-4)
    assert balancer.w[1] < balancer.w[0], "the task with the large gradient counts less"


@pytest.mark.parametrize("balance", ["uncertainty", "gradnorm"])
def test_a_training_balances(tmp_path: Path, balance: str) -> None:
    checked = check_text(TINY, str(write_spec(tmp_path)))
    options = Train(epochs=1, batch=50, balance=balance)  # type: ignore[arg-type]
    log = learnable(checked, 200)
    run = train(checked, log, log, tmp_path / "run", options)
    assert math.isfinite(run.record["epochs"][0]["valid/loss"])
