"""Layers against implementations that others published: PyTorch's own, and torch-rechub's where it is installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from .harness import Seq, make, run

N, L, D, F = 7, 6, 8, 4


def tensor(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(x))


def load(module: nn.Module, **values: np.ndarray) -> None:
    """Sets the module's named parameters and leaves no other."""
    module.double().eval().load_state_dict({name: tensor(value) for name, value in values.items()})


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=shape)


def same(ours: np.ndarray, theirs: torch.Tensor) -> None:
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_transformer_is_torchs_encoder_with_norm_first(activation: str) -> None:
    layer = make("transformer", layers=2, heads=2, hidden=12, positions=False, activation=activation, pool="none")
    mask = np.random.default_rng(1).random((N, L)) < 0.6
    mask[:, 0] = True  # torch gives not-a-number for an empty sequence
    s = random(N, L, D)
    made = run(layer, Seq(s, mask))
    one = nn.TransformerEncoderLayer(D, 2, 12, 0.0, activation, batch_first=True, norm_first=True)
    encoder = nn.TransformerEncoder(one, 2, nn.LayerNorm(D), enable_nested_tensor=False)
    values = {"norm.weight": made.params["norm.scale"], "norm.bias": made.params["norm.shift"]}
    for i in range(2):
        p = {
            name.removeprefix(f"layers.{i}."): value
            for name, value in made.params.items()
            if name.startswith(f"layers.{i}.")
        }
        values |= {
            f"layers.{i}.{name}": value
            for name, value in {
                "self_attn.in_proj_weight": np.vstack([p[f"attention.{x}.weight"] for x in ("query", "key", "value")]),
                "self_attn.in_proj_bias": np.zeros(3 * D),
                "self_attn.out_proj.weight": p["attention.out.weight"],
                "self_attn.out_proj.bias": np.zeros(D),
                "norm1.weight": p["attention.norm.scale"],
                "norm1.bias": p["attention.norm.shift"],
                "linear1.weight": p["ffn.up.weight"],
                "linear1.bias": p["ffn.up.bias"],
                "linear2.weight": p["ffn.down.weight"],
                "linear2.bias": p["ffn.down.bias"],
                "norm2.weight": p["ffn.norm.scale"],
                "norm2.bias": p["ffn.norm.shift"],
            }.items()
        }
    load(encoder, **values)
    same(made.output[mask], encoder(tensor(s), src_key_padding_mask=tensor(~mask))[tensor(mask)])


@pytest.mark.parametrize(("kind", "module"), [("layernorm", nn.LayerNorm), ("batchnorm", nn.BatchNorm1d)])
def test_norms_are_torchs(kind: str, module: Callable[[int], nn.Module]) -> None:
    x, theirs = random(N, D), module(D)
    made = run(make(kind), x)
    p = made.params
    values = {"weight": p["scale"], "bias": p["shift"]}
    if kind == "batchnorm":
        values |= {"running_mean": p["mean"], "running_var": p["var"], "num_batches_tracked": np.array(0)}
    load(theirs, **values)
    same(made.output, theirs(tensor(x)))


def test_bilinear_is_torchs_bilinear_form() -> None:
    """The sum of a pair's products is the form that nn.Bilinear computes: v_i^T W^T v_j."""
    v = [random(N, D), random(2 * N, D)[N:]]
    made = run(make("bilinear"), *v)
    theirs = nn.Bilinear(D, D, 1, bias=False)
    load(theirs, weight=made.params["weight"].T[None])
    same(made.output.sum(-1, keepdims=True), theirs(tensor(v[0]), tensor(v[1])))


# ---- torch-rechub --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rechub() -> Any:
    return pytest.importorskip("torch_rechub.basic.layers")


def fields() -> tuple[np.ndarray, list[np.ndarray]]:
    v = random(N, F, D)
    return v, [v[:, i] for i in range(F)]


@pytest.mark.parametrize("scalar", [True, False])
def test_fm_is_rechubs(rechub: Any, scalar: bool) -> None:
    v, inputs = fields()
    same(run(make("fm", scalar=scalar), *inputs).output, rechub.FM(scalar)(tensor(v)))


def test_senet_is_rechubs(rechub: Any) -> None:
    v, inputs = fields()
    made, theirs = run(make("senet", reduction=2), *inputs), rechub.SENETLayer(F, 2)
    load(theirs, **{"mlp.0.weight": made.params["squeeze.weight"], "mlp.2.weight": made.params["excite.weight"]})
    same(made.output, theirs(tensor(v)).flatten(1))


@pytest.mark.parametrize("type_", ["all", "each", "interaction"])
def test_bilinear_is_rechubs(rechub: Any, type_: str) -> None:
    v, inputs = fields()
    made, theirs = run(make("bilinear", type=type_), *inputs), rechub.BiLinearInteractionLayer(D, F, f"field_{type_}")
    if type_ == "all":
        values = {"bilinear_layer.weight": made.params["weight"]}
    else:
        matrices = np.vstack([made.params[f"{i}.weight"].reshape(-1, D, D) for i in range(F - 1)])
        values = {f"bilinear_layer.{i}.weight": m for i, m in enumerate(matrices)}
        if type_ == "each":  # it has one for the last field too, which no pair begins with
            values[f"bilinear_layer.{F - 1}.weight"] = np.zeros((D, D))
    load(theirs, **values)
    same(made.output, theirs(tensor(v)).flatten(1))


def test_autoint_is_rechubs(rechub: Any) -> None:
    v, inputs = fields()
    made, theirs = run(make("autoint", layers=1, heads=2), *inputs), rechub.InteractingLayer(D, 2)
    parts = {"W_Q": "query", "W_K": "key", "W_V": "value", "W_Res": "residual"}
    load(theirs, **{f"{name}.weight": made.params[f"0.{part}.weight"] for name, part in parts.items()})
    same(made.output, theirs(tensor(v)).flatten(1))


def test_cross_is_rechubs(rechub: Any) -> None:
    """Without biases: it adds them outside of the product, where the paper has them inside."""
    x = random(N, D)
    zeros = {f"{i}.bias": np.zeros(D) for i in range(3)}
    made, theirs = run(make("cross", layers=3), x, params=zeros), rechub.CrossNetV2(D, 3)
    load(
        theirs,
        **{f"w.{i}.weight": made.params[f"{i}.weight"] for i in range(3)},
        **{f"b.{i}": np.zeros(D) for i in range(3)},
    )
    same(made.output, theirs(tensor(x)))
