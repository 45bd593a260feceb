"""Heads with `shared: true`: weights of all surfaces, and on top of them a part of each surface's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import towerspec
from towerspec.check import Checked, check
from towerspec.emit.build import compile_spec
from towerspec.train.module import build_module, owners

SPEC = """
model shared
request   { age : number { normalize: standard } }
candidate { size : number { width: 3 } }
trunk { x = mlp(concat(age, size), hidden: [5], activation: tanh) }
surface a { tower { head click : binary { shared: true }  head kind : multiclass { classes: 3, shared: true } } }
surface b { tower { layers: [5]  head click : binary { shared: true } } }
surface c { tower { head click : binary } }
"""


@pytest.fixture
def checked(tmp_path: Path) -> Checked:
    path = tmp_path / "shared.tower"
    path.write_text(SPEC, encoding="utf-8")
    return check(path)


@pytest.fixture
def module(checked: Checked) -> nn.Module:
    """The generated model in float64, its own parts away from their first zeros."""
    made = build_module(checked).double()
    with torch.no_grad():
        for p in made.parameters():
            p += torch.from_numpy(np.random.default_rng(p.numel()).normal(size=p.shape))
    return made


def inputs(rows: int) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(0)
    return {"age": torch.from_numpy(rng.normal(size=rows)), "size": torch.from_numpy(rng.normal(size=(rows, 3)))}


def test_a_surface_has_a_part_of_its_own_that_begins_at_zero(checked: Checked) -> None:
    _, graph = checked.sound()
    heads = {path: owner for path, owner in owners(graph).items() if path.startswith("heads.")}
    assert heads == {f"heads.{h}.{part}": None for h in ("click", "kind") for part in ("weight", "bias")}
    state = build_module(checked).state_dict()
    for path in ("surfaces.a.tower.click", "surfaces.b.tower.click", "surfaces.a.tower.kind"):
        assert owners(graph)[f"{path}.weight"] == path.split(".")[1]
        assert not state[f"{path}.weight"].any()
    assert state["surfaces.c.tower.click.weight"].any(), "a head that shares nothing begins as ever"


def test_the_logit_is_that_of_both_parts(module: nn.Module) -> None:
    x = inputs(4)
    found = module(x, torch.zeros(4, dtype=torch.int64))
    p = {name: value.detach().numpy() for name, value in module.named_parameters()}
    joined = np.column_stack([x["age"].numpy(), x["size"].numpy()])
    h = np.tanh(joined @ p["trunk.x.0.weight"].T + p["trunk.x.0.bias"])
    for head in ("click", "kind"):
        own, all_ = f"surfaces.a.tower.{head}", f"heads.{head}"
        z = h @ (p[f"{own}.weight"] + p[f"{all_}.weight"]).T + p[f"{own}.bias"] + p[f"{all_}.bias"]
        np.testing.assert_allclose(found[f"{head}.logit"].detach().numpy().reshape(z.shape), z, rtol=1e-12)


def test_a_row_teaches_all_surfaces_and_its_own_but_no_other(module: nn.Module) -> None:
    module(inputs(4), torch.ones(4, dtype=torch.int64))["click.logit"].sum().backward()
    grads = {name: p.grad for name, p in module.named_parameters()}
    torch.testing.assert_close(grads["heads.click.weight"], grads["surfaces.b.tower.click.weight"])
    assert grads["heads.click.weight"] is not None
    assert grads["heads.click.weight"].abs().sum() > 0
    for surface in "ac":
        found = grads[f"surfaces.{surface}.tower.click.weight"]
        assert found is None or not found.any()


def test_a_serving_graph_holds_the_sum(checked: Checked, tmp_path: Path) -> None:
    compile_spec(checked, tmp_path / "build")
    files = {p.stem: p.read_text(encoding="utf-8") for p in (tmp_path / "build" / "surfaces").glob("*.py")}
    assert "heads_" not in files["c"]
    assert files["b"].count("F.linear(") == 3  # the trunk's, the tower's and one for the head
    bundle = towerspec.load(tmp_path / "build")
    sample = bundle.surfaces["a"].sample_inputs(candidates=4)
    whole = build_module(checked).eval()
    rows = {"age": torch.as_tensor(sample["age"]).expand(4), "size": torch.as_tensor(sample["size"])}
    expected = whole(rows, torch.zeros(4, dtype=torch.int64))
    np.testing.assert_allclose(bundle.surfaces["a"](sample)["click"], expected["click"].detach().numpy(), rtol=1e-5)
