"""The example package, installed by pip: its layers are found, right by their formulas, and served without it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import towerspec

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "custom_layers"
INITIAL = """
import sys, json, torch
sys.path.insert(0, sys.argv[1])
from model import Shop
print(json.dumps({name: x.flatten().tolist() for name, x in Shop(seed=5).state_dict().items()}))
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which the example's package is installed."""
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", target, EXAMPLE]
    subprocess.run(command, check=True, capture_output=True)
    return {**os.environ, "PYTHONPATH": str(target)}


@pytest.fixture(scope="module")
def build(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shop") / "build"
    command = [sys.executable, "-m", "towerspec", "compile", EXAMPLE / "shop.tower", "-o", out, "--seed", "5"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return out


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def shop(w: dict[str, np.ndarray], x: dict[str, np.ndarray], surface: str, heads: list[str]) -> dict[str, np.ndarray]:
    """The spec in NumPy, float64, from the papers' formulas."""
    n = len(x["item"])
    price = np.sign(x["price"]) * np.log1p(np.abs(x["price"]))
    price = (price - w["features.price.mean"]) / w["features.price.std"]
    angle = 2 * np.pi * (price[:, None, None] * w["trunk.fine.module.frequency"]).reshape(n, -1)
    country = w["features.country.weight"][np.repeat(x["country"], n)]
    start = np.concatenate([country, w["features.item.weight"][x["item"]], np.sin(angle), np.cos(angle)], axis=1)
    h = start
    for i in range(3):
        at = f"trunk.crossed.{i}"
        gate = sigmoid(h @ w[f"{at}.gate.weight"].T)
        h = start * (h @ w[f"{at}.cross.weight"].T + w[f"{at}.cross.bias"]) * gate + h
    tower = f"surfaces.{surface}.tower"
    h = np.maximum(h @ w[f"{tower}.layers.0.weight"].T + w[f"{tower}.layers.0.bias"], 0)
    return {k: sigmoid(h @ w[f"{tower}.{k}.weight"].T + w[f"{tower}.{k}.bias"])[:, 0] for k in heads}


@pytest.mark.parametrize("surface", ["home", "search"])
def test_the_serving_graph_is_the_formula_and_needs_no_package(build: Path, surface: str) -> None:
    bundle = towerspec.load(build)
    assert "acme_layers" not in sys.modules
    weights = {k: v.double().numpy() for k, v in bundle.unified().state_dict().items()}
    inputs: dict[str, Any] = {"country": [7], "item": np.arange(5), "price": np.array([0.5, 3, 10, -2, 0], np.float32)}
    found = bundle.surfaces[surface](inputs)
    wanted = shop(weights, {k: np.asarray(v) for k, v in inputs.items()}, surface, list(found))
    for head, x in found.items():
        np.testing.assert_allclose(x, wanted[head], atol=1e-5)
    assert weights["trunk.fine.module.frequency"].std() > 0.5  # began as its layer says, not at zero


def test_the_generated_model_imports_the_package_and_begins_alike(build: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-c", INITIAL, str(build)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    begun = json.loads(done.stdout)
    for name, x in towerspec.load(build).unified().state_dict().items():
        assert begun[name] == x.flatten().tolist()


def test_the_kinds_are_named_like_the_others(environment: dict[str, str], tmp_path: Path) -> None:
    spec = tmp_path / "typo.tower"
    spec.write_text((EXAMPLE / "shop.tower").read_text().replace("gated_cross(", "gated_cros("))
    command = [sys.executable, "-m", "towerspec", "check", spec]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert "help: did you mean `gated_cross`?" in done.stdout


def test_without_the_package_the_kinds_are_unknown() -> None:
    command = [sys.executable, "-m", "towerspec", "check", EXAMPLE / "shop.tower"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "unknown layer `periodic`" in done.stdout
