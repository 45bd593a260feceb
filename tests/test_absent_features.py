"""Features that a surface lacks are constants there, of every type: whatever reads them compiles, at every level."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import towerspec
from towerspec.check import check_text
from towerspec.emit.build import Options, compile_spec
from towerspec.layers.base import kinds
from towerspec.passes import PIPELINE

FEATURES = """
    {p}_seq  : sequence {{ rows: 5, dim: 4, length: 3, on: [has] }}
    {p}_bag  : bag      {{ rows: 5, dim: 4, length: 3, on: [has] }}
    {p}_mean : bag      {{ rows: 5, dim: 4, length: 3, pooling: mean, on: [has] }}
    {p}_id   : category {{ rows: 5, dim: 4, on: [has] }}
    {p}_zero : category {{ rows: 5, dim: 4, absent: zero, on: [has] }}
    {p}_num  : number   {{ width: 4, normalize: standard, on: [has] }}
"""
# Each layer over what `lacks` hasn't: `{s}` is a sequence, `{v}` a vector, `{w}` several.
STATEMENTS = {
    "autoint": "autoint({w})",
    "batchnorm": "batchnorm({v})",
    "bilinear": "bilinear({w})",
    "concat": "concat({w})",
    "cross": "cross({v}, layers: 1)",
    "din": "din({v}, {s}, hidden: [4])",
    "dropout": "dropout({v}, rate: 0.1)",
    "fm": "fm({w})",
    "gate": "gate({v}, {v})",
    "layernorm": "layernorm({v})",
    "linear": "linear({v}, width: 3)",
    "masknet": "masknet({w}, hidden: [4])",
    "mlp": "mlp({v}, hidden: [4], norm: batch)",
    "mmoe": "mmoe({v}, experts: 2, hidden: [4])",
    "moe": "moe({v}, experts: 2, hidden: [4])",
    "ple": "ple({v}, shared_experts: 1, own_experts: 1, hidden: [4])",
    "pooling": "concat(pooling({s}, fn: mean), pooling({s}, fn: sum), pooling({s}, fn: max), pooling({s}, fn: last))",
    "product": "product({w})",
    "residual": "residual({v}, hidden: [4])",
    "senet": "senet({w})",
    "star": "star({v}, hidden: [4])",
    "sum": "sum({w})",
    "transformer": "concat(transformer({s}, heads: 2), transformer({s}, heads: 2, pool: last, positions: false))",
}
SURFACES = ("has", "lacks")
FUSIONS = ("attention", "bilinear", "concat", "cross", "film", "gate", "sum")


def spec() -> str:
    lines = [f"d_{p} = din(here, {p}_seq, hidden: [4])" for p in ("r", "c")]
    for p in ("r", "c"):
        words = {"s": f"{p}_seq", "v": f"{p}_num", "w": ", ".join(f"{p}_{k}" for k in ("bag", "mean", "id", "zero"))}
        lines += [f"{kind}_{p} = {text.format(**words)}" for kind, text in STATEMENTS.items()]
    names = [line.split(" = ")[0] for line in lines]
    fused = [f"fuse {p}_num after 1 with {kind}" for p in ("r", "c") for kind in FUSIONS if kind != "attention"]
    fused += [f"fuse {p}_{of} after 1 with attention" for p in ("r", "c") for of in ("seq", "id")]
    towers = [
        f"surface {name} {{ tower {{ layers: [4] {' '.join(fused)} head click : binary }} }}" for name in SURFACES
    ]
    return "\n".join(
        [
            f"model absent\nrequest {{{FEATURES.format(p='r')}}}",
            f"candidate {{{FEATURES.format(p='c')}\n    here : number {{ width: 4 }}\n}}",
            "trunk {",
            *lines,
            f"all = concat(here, request, candidate, {', '.join(names)})",
            "}",
            *towers,
        ]
    )


def test_every_layer_and_fusion_is_there() -> None:
    mine = {kind for kind, cls in kinds("layer").items() if cls.__module__.startswith("towerspec.")}
    assert set(STATEMENTS) == mine
    assert set(FUSIONS) == set(kinds("fusion"))


def scores(build: Path, options: Options) -> dict[str, torch.Tensor]:
    """A compile's predictions for the same rows; the compile has compared them with the reference."""
    compile_spec(check_text(spec()), build, options)
    bundle = towerspec.load(build)
    inputs = bundle.surfaces["has"].sample_inputs(candidates=5, seed=1)
    lacking = {name: inputs[name] for name in ("here",)}
    assert list(bundle.surfaces["lacks"].sample_inputs()) == list(lacking)
    return {
        "has": torch.as_tensor(bundle.surfaces["has"](inputs)["click"]),
        "lacks": torch.as_tensor(bundle.surfaces["lacks"](lacking)["click"]),
    }


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    return scores(tmp_path_factory.mktemp("expected") / "build", Options(level=0))


@pytest.mark.parametrize("level", [1, 2, 3])
def test_it_compiles_at_every_level(level: int, tmp_path: Path, expected: dict[str, torch.Tensor]) -> None:
    found = scores(tmp_path / "build", Options(level=level))
    for surface in SURFACES:
        torch.testing.assert_close(found[surface], expected[surface], rtol=0, atol=1e-5 if level < 3 else 1e-2)


@pytest.mark.slow  # 160 seconds
@pytest.mark.parametrize("name", [step.name for step in PIPELINE])
def test_it_compiles_without_each_pass(name: str, tmp_path: Path, expected: dict[str, torch.Tensor]) -> None:
    found = scores(tmp_path / "build", Options(level=3, without=(name,), cpu="amx"))
    for surface in SURFACES:
        torch.testing.assert_close(found[surface], expected[surface], rtol=0, atol=1e-2)
