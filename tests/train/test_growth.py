"""What a training takes over from a run of a spec that has grown: each number that stands for the same as before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from towerspec.check import Checked, check
from towerspec.emit.torchscript import tensors
from towerspec.train.carry import Carried, carry
from towerspec.train.module import build_module
from towerspec.train.run import FORMAT, Run

BEFORE = "request { u : category { rows: 6, dim: 3 } }\ncandidate { a : number  b : number }"
# Features that are nought in all rows add nothing, whatever their weights are.
NUMBERS = {
    "in front": "request { new : number  u : category { rows: 6, dim: 3 } }\ncandidate { a : number  b : number }",
    "between": "request { u : category { rows: 6, dim: 3 } }\ncandidate { a : number  new : number  b : number }",
    "at the end": f"{BEFORE}\ncandidate {{ new : number {{ width: 3 }} }}".replace("}\ncandidate { new", " new"),
    "in another order": "request { u : category { rows: 6, dim: 3 } }\ncandidate { b : number  a : number }",
    "all of it": "request { new : number  u : category { rows: 6, dim: 3 } }\n"
    "candidate { b : number  more : number  a : number }",
}
TRUNKS = {
    "mlp": "x = concat(request, candidate)\n z = mlp(x, hidden: [4])",
    "linear": "x = concat(candidate, request)\n z = linear(x, width: 4)",
    "cross": "x = concat(request, candidate)\n y = cross(x, layers: 2)\n z = linear(y, width: 3)",
    "low rank": "x = concat(request, candidate)\n y = cross(x, layers: 2, rank: 2)\n z = linear(y, width: 3)",
    "mmoe": "x = concat(request, candidate)\n z = mmoe(x, experts: 2, hidden: [4])",
    "ple": "x = concat(request, candidate)\n z = ple(x, shared_experts: 1, own_experts: 1, hidden: [4])",
    "moe": "x = concat(request, candidate)\n z = moe(x, experts: 2, hidden: [4])",
    "star": "x = concat(request, candidate)\n z = star(x, hidden: [4])",
    "gate": "x = concat(request, candidate)\n y = linear(x, width: 4)\n z = gate(y, x)",
    "batchnorm": "x = concat(request, candidate)\n y = batchnorm(x)\n z = linear(y, width: 3)",
    "twice": "x = concat(request, candidate)\n y = cross(x, layers: 1)\n z = linear(concat(y, x), width: 3)",
    "inside a tower": "z = concat(request, candidate)",
}


def spec(folder: Path, features: str, trunk: str) -> Checked:
    folder.mkdir(parents=True, exist_ok=True)
    tower = "layers: [4]\n fuse z after 1 with film\n head click : binary"
    text = f"model m\n{features}\ntrunk {{ {trunk} }}\nsurface home {{ tower {{ {tower} }} }}\n"
    (folder / "m.tower").write_text(f"{text}surface other {{ tower {{ layers: [3] head click : binary }} }}\n")
    return check(folder / "m.tower")


def run_of(folder: Path, checked: Checked) -> tuple[Run, nn.Module]:
    """A run as training leaves it, of random weights."""
    module = build_module(checked, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for path, x in tensors(module).items():
            if x.is_floating_point() and not path.endswith(("std", "var")):
                x.copy_(0.5 * torch.randn(x.shape, generator=generator))
    save_file({path: x.detach() for path, x in tensors(module).items()}, folder / "weights.safetensors")
    (folder / "spec").mkdir()
    (folder / "m.tower").rename(folder / "spec" / "m.tower")
    (folder / "run.json").write_text(json.dumps({"format": FORMAT, "spec": "m.tower"}))
    return Run(folder), module.eval()


def carried(folder: Path, before: Checked, after: Checked) -> tuple[nn.Module, nn.Module, Carried]:
    run, old = run_of(folder, before)
    new = build_module(after, seed=9)
    return old, new.eval(), carry(new, after, run)


def rows(count: int = 20) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    found = {name: torch.randn(count, generator=generator) for name in ("a", "b")}
    return {**found, "u": torch.randint(-1, 8, [count], generator=generator)}


def scores(module: nn.Module, checked: Checked, given: dict[str, Tensor]) -> Tensor:
    _, graph = checked.sound()
    widths = {prim.feature: prim.shape for _, prim in graph.inputs}
    features = {name: given.get(name, torch.zeros(20, *shape)) for name, shape in widths.items()}
    with torch.no_grad():
        return torch.cat([module(features, torch.full([20], surface))["click"] for surface in (0, 1)])


@pytest.mark.parametrize("trunk", TRUNKS)
@pytest.mark.parametrize("change", NUMBERS)
def test_a_feature_that_says_nothing_changes_nothing(change: str, trunk: str, tmp_path: Path) -> None:
    before, after = spec(tmp_path / "run", BEFORE, TRUNKS[trunk]), spec(tmp_path, NUMBERS[change], TRUNKS[trunk])
    old, new, said = carried(tmp_path / "run", before, after)
    torch.testing.assert_close(scores(new, after, rows()), scores(old, before, rows()), rtol=0, atol=1e-6)
    assert not said.resized
    assert said.grown


@pytest.mark.parametrize("trunk", TRUNKS)
def test_the_same_spec_carries_all(trunk: str, tmp_path: Path) -> None:
    before, after = spec(tmp_path / "run", BEFORE, TRUNKS[trunk]), spec(tmp_path, BEFORE, TRUNKS[trunk])
    old, new, said = carried(tmp_path / "run", before, after)
    assert set(said.carried) == set(tensors(new))
    assert torch.equal(scores(new, after, rows()), scores(old, before, rows()))


def test_a_feature_that_is_gone_takes_its_columns_along(tmp_path: Path) -> None:
    trunk = TRUNKS["mlp"]
    before, after = spec(tmp_path / "run", NUMBERS["all of it"], trunk), spec(tmp_path, BEFORE, trunk)
    old, new, said = carried(tmp_path / "run", before, after)
    torch.testing.assert_close(scores(new, after, rows()), scores(old, before, rows()), rtol=0, atol=1e-6)
    assert set(said.lost) == {"features.more.mean", "features.new.mean"}


@pytest.mark.parametrize("ids", ["direct", "fitted"])
def test_a_larger_table_keeps_what_it_has(ids: str, tmp_path: Path) -> None:
    larger = BEFORE.replace("rows: 6", f"rows: 9, ids: {ids}")
    smaller = BEFORE.replace("rows: 6", f"rows: 6, ids: {ids}")
    trunk = TRUNKS["mlp"]
    old, new, said = carried(tmp_path / "run", spec(tmp_path / "run", smaller, trunk), spec(tmp_path, larger, trunk))
    was, now = (tensors(module)["features.u.weight"] for module in (old, new))
    assert torch.equal(now[:6], was[:6])
    assert torch.equal(now[9:], was[6:]), "the unknown id's row and the missing one's"
    assert not torch.equal(now[6:8], was[6:])
    assert [grown.words() for grown in said.grown] == ["features.u.weight: 8 of 11 rows"]


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ("rows: 6, ids: hash", "rows: 9, ids: hash"),  # each id is at another row
        ("rows: 6, ids: fitted", "rows: 6, ids: hash"),
        ("rows: 6", "rows: 6, ids: fitted"),
    ],
)
def test_a_table_whose_rows_are_of_other_ids_begins_anew(was: str, now: str, tmp_path: Path) -> None:
    trunk = TRUNKS["mlp"]
    before = spec(tmp_path / "run", BEFORE.replace("rows: 6", was), trunk)
    _, _, said = carried(tmp_path / "run", before, spec(tmp_path, BEFORE.replace("rows: 6", now), trunk))
    assert said.resized == ("features.u.weight",)


def test_a_wider_layer_begins_anew_and_what_reads_it(tmp_path: Path) -> None:
    before, after = (
        spec(tmp_path / "run", BEFORE, "z = mlp(candidate, hidden: [4, 4])"),
        spec(tmp_path, BEFORE, "z = mlp(candidate, hidden: [5, 4])"),
    )
    _, _, said = carried(tmp_path / "run", before, after)
    assert set(said.resized) == {"trunk.z.0.weight", "trunk.z.0.bias", "trunk.z.1.weight"}
