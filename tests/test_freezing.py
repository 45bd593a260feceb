"""Freezing keeps each linear as it is for all that read it, and gives the same file each time."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import towerspec
from towerspec.check import check, check_text
from towerspec.emit import constants, torchscript
from towerspec.emit.build import Options, compile_spec
from towerspec.emit.names import class_name
from towerspec.emit.python import render_model, render_surface
from towerspec.passes import PIPELINE, optimise

ROOT = Path(__file__).parent.parent
SPEC = """model shared_linear
candidate { x : number { width: 3 } }
trunk {
    line   = linear(x, width: 4)
    first  = batchnorm(line)
    second = batchnorm(line)
    z      = concat(line, first, second)
}
surface s { tower { head score : regression } }
"""
WAYS = [*(Options(level=level) for level in range(4)), *(Options(without=(step.name,)) for step in PIPELINE)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random parameters; a batch norm's are far from those that do nothing."""
    _, graph = check_text(SPEC).sound()
    generator = torch.Generator().manual_seed(2)
    made = {p.path: torch.randn(p.shape, generator=generator) for _, p in graph.params}
    made = {path: x.abs() + 0.5 if path.endswith(("var", "std")) else x for path, x in made.items()}
    save_file(made, file := tmp_path_factory.mktemp("weights") / "w.safetensors")
    return file


@pytest.mark.parametrize("options", WAYS, ids=lambda o: f"O{o.level}{''.join(o.without)}")
def test_a_linear_that_two_norms_read(options: Options, weights: Path, tmp_path: Path) -> None:
    compile_spec(check_text(SPEC), tmp_path / "build", Options(options.level, weights, without=options.without))
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    found = towerspec.load(tmp_path / "build").surfaces["s"]({"x": x})["score"]
    np.testing.assert_allclose(found, by_hand(x, weights), rtol=0, atol=1e-4)


def by_hand(x: np.ndarray, file: Path) -> np.ndarray:
    from safetensors.numpy import load_file

    w = {path: value.astype(np.float64) for path, value in load_file(file).items()}
    line = x @ w["trunk.line.weight"].T + w["trunk.line.bias"]
    parts = [line]
    for name in ("first", "second"):
        scale, shift, mean, var = (w[f"trunk.{name}.{part}"] for part in ("scale", "shift", "mean", "var"))
        parts.append((line - mean) / np.sqrt(var + 1e-5) * scale + shift)
    made: np.ndarray = (
        np.concatenate(parts, 1) @ w["surfaces.s.tower.score.weight"][0] + w["surfaces.s.tower.score.bias"][0]
    )
    return made


def frozen(spec: Path, surface: str) -> tuple[torch.nn.Module, str]:
    """A surface's module at -O2, and the text of its frozen graph."""
    model, graph = check(spec).sound()
    source = render_model(graph, {}, model.path)
    unified = getattr(torchscript.load_source(source, "model"), class_name(graph.model))(seed=0)
    folded, mine = constants.fold(optimise(graph, surface), torchscript.tensors(unified))
    rendered = render_surface(folded, model.path)
    module = getattr(torchscript.load_source(rendered.source, surface), rendered.cls)()
    module = torchscript.fill(module, mine).eval().requires_grad_(False)
    return module, str(torchscript.freeze(module).graph)


@pytest.mark.parametrize(
    ("spec", "surface"), [("quickstart", "home"), ("quickstart", "search"), ("ads_engagement", "home_feed")]
)
def test_no_folding_of_pytorchs_is_missed(spec: str, surface: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our passes have folded what its freezing would have: the graph is the same with and without."""
    module, without = frozen(ROOT / "specs" / f"{spec}.tower", surface)
    freeze = torch.jit.freeze
    monkeypatch.setattr(
        torch.jit, "freeze", lambda model, preserved_attrs, optimize_numerics: freeze(model, preserved_attrs)
    )
    assert str(torchscript.freeze(module).graph) == without


def test_a_surface_is_frozen_in_one_way() -> None:
    """By the order of addresses in memory, one in four files was another one."""
    module, _ = frozen(ROOT / "specs" / "ads_engagement.tower", "search")
    files = {hashlib.sha256(torchscript.to_bytes(torchscript.freeze(module))).hexdigest() for _ in range(12)}
    assert len(files) == 1
