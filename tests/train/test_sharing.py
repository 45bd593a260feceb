"""Rows that share a request: its own part is computed on its row alone, and every number stays what it was."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from towerspec.check import check, check_text
from towerspec.diagnostics import SpecError
from towerspec.layers.blocks import Train
from towerspec.train import sharing
from towerspec.train.batch import Batch
from towerspec.train.data import open_log
from towerspec.train.module import build_module, shared_module
from towerspec.train.sharing import requests, run
from towerspec.train.simulate import Options, simulate
from towerspec.train.trainer import train
from towerspec.weights import read_safetensors

from .batches import features_for, inputs_by_surface
from .specs import TINY, write_spec

SPECS = sorted((Path(__file__).parents[2] / "specs").glob("*.tower"))
ROWS, REQUESTS = 60, 14


def shown(names: set[str], features: dict[str, Tensor], surfaces: int) -> Batch:
    """Rows that share requests, in no order: the named features are those of each request's first row."""
    generator = torch.Generator().manual_seed(0)
    request = torch.cat([torch.arange(REQUESTS), torch.randint(0, REQUESTS, [ROWS - REQUESTS], generator=generator)])
    request = request[torch.randperm(ROWS, generator=generator)]
    surface = torch.randint(0, surfaces, [REQUESTS], generator=generator)[request]
    first = {name: x[:REQUESTS][request] if name in names else x for name, x in features.items()}
    return Batch(first, surface, {}, request * 7919)


def outcome(module: nn.Module, out: dict[str, Tensor]) -> dict[str, Tensor]:
    """The outputs, and the gradients of all logits."""
    module.zero_grad(set_to_none=True)
    torch.stack([x[~x.isnan()].square().sum() for name, x in out.items() if name.endswith(".logit")]).sum().backward()
    grads = {f"grad of {name}": p.grad for name, p in module.named_parameters() if p.grad is not None}
    return {name: x.detach().nan_to_num(7.0) for name, x in out.items()} | grads


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("spec", SPECS, ids=lambda p: p.stem)
def test_sharing_changes_no_number(spec: Path, training: bool) -> None:
    """Outputs and gradients, dropout and batch normalisation among them, against each row as a request of its own."""
    checked = check(spec)
    model, graph = checked.sound()
    alone, shared = build_module(checked).double(), shared_module(checked).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in alone.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    shared.load_state_dict(alone.state_dict())
    names = {i.feature for _, i in graph.inputs if i.level.word == "request"}
    assert set(shared.REQUEST) == set(alone.REQUEST) == names  # type: ignore[arg-type]
    batch = shown(names, features_for(inputs_by_surface(model, graph), ROWS), len(graph.surfaces))
    found = []
    for module in (alone, shared):
        module.train(training)
        for given in (batch, Batch(batch.features, batch.surface, {})):
            torch.manual_seed(5)
            found.append(outcome(module, run(module, given)))
    first, *rest = found
    for other in rest:
        assert other.keys() == first.keys()
        for name, x in first.items():
            torch.testing.assert_close(other[name], x, atol=1e-9, rtol=1e-9, msg=name)


def test_the_requests_part_costs_once_a_request() -> None:
    """FLOPs by hand: 2 per weight, for each request or each row, and half of a query's for search's requests alone."""
    checked = check_text("""model m
    request { user : number { width: 10 } }
    candidate { item : number { width: 6 } }
    trunk { who = linear(user, width: 20)  x = linear(concat(who, item), width: 3) }
    surface home { tower { head click : binary } }
    surface search {
        request { query : number { width: 8 } }
        intent = linear(query, width: 5)
        tower { layers: [4] fuse intent after 1 with concat  head click : binary }
    }
    """)
    model, graph = checked.sound()
    batch = shown({"user", "query"}, features_for(inputs_by_surface(model, graph), ROWS), 2)
    features = {name: x.float() for name, x in batch.features.items()}
    assert batch.request is not None
    asked = [len(batch.request[batch.surface == s].unique()) for s in (0, 1)]
    rows = torch.bincount(batch.surface).tolist()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run(shared_module(checked), Batch(features, batch.surface, {}, batch.request))
    trunk = 2 * (10 * 20 * REQUESTS + 26 * 3 * ROWS)
    towers = 2 * (3 * rows[0] + 8 * 5 * asked[1] + (3 * 4 + 9) * rows[1])
    assert counter.get_total_flops() == trunk + towers


def test_rows_share_a_request_only_where_it_is_the_same() -> None:
    nan = float("nan")
    age = torch.tensor([1.0, 2.0, nan, 1.0, nan, 5.0])
    liked = torch.tensor([[1, 2], [3, 4], [5, 6], [1, 2], [5, 6], [1, 2]])
    batch = Batch({"age": age, "liked": liked}, torch.tensor([0, 0, 1, 0, 1, 0]), {}, torch.tensor([9, 4, 8, 9, 8, 9]))
    found = requests(batch, ["age", "liked"])
    assert found is not None
    first, request = found
    assert first[request].tolist() == [0, 1, 2, 0, 2, 5], "the last row's age is another"
    elsewhere = Batch(batch.features, torch.tensor([0, 0, 1, 1, 1, 0]), {}, batch.request)
    found = requests(elsewhere, ["age", "liked"])
    assert found is not None
    assert found[0][found[1]].tolist() == [0, 1, 2, 3, 2, 5], "the fourth row's surface is another"
    assert requests(Batch(batch.features, batch.surface, {}, torch.arange(6)), ["age"]) is None
    assert requests(batch, []) is None


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shown")
    simulate(check(write_spec(folder)), folder / "log", Options(rows=1200))
    return folder


def test_whole_requests_are_shuffled(log: Path) -> None:
    opened = open_log(check(log / "tiny.tower"), [log / "log" / "train.parquet"])
    order = torch.cat([b.request for b in opened.batches(64, seed=1, together=True) if b.request is not None])
    (every,) = opened.batches(10_000)
    assert every.request is not None
    assert torch.equal(order.sort().values, every.request.sort().values)
    changes = int((order[1:] != order[:-1]).sum()) + 1
    assert changes == len(order.unique()), "the rows of a request follow each other"
    assert not torch.equal(order, every.request)
    shares = [list(opened.batches(64, seed=1, together=True, rank=rank, world=2)) for rank in (0, 1)]
    both = [x.request for pair in zip(*shares, strict=True) for x in pair if x.request is not None]
    assert torch.equal(torch.cat(both), order)


def test_a_training_that_shares_learns_the_same(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = check(log / "tiny.tower")
    opened = open_log(checked, [log / "log" / "train.parquet"])
    options = Train(epochs=2, batch=64, shuffle="requests")
    shares: list[float] = []

    def watched(batch: Batch, names: list[str]) -> tuple[Tensor, Tensor] | None:
        found = requests(batch, names)
        shares.append(len(found[0]) / len(batch) if found else 1.0)
        return found

    monkeypatch.setattr(sharing, "requests", watched)
    one = read_safetensors(train(checked, opened, None, tmp_path / "shared", options).weights)
    assert max(shares) < 0.7
    monkeypatch.setattr(sharing, "requests", lambda *_: None)
    other = read_safetensors(train(checked, opened, None, tmp_path / "alone", options).weights)
    for name, x in one.items():
        torch.testing.assert_close(other[name], x, atol=2e-5, rtol=1e-4, msg=name)


def test_requests_need_their_column(log: Path, tmp_path: Path) -> None:
    table = pq.read_table(log / "log" / "train.parquet").drop_columns("request")
    pq.write_table(table, tmp_path / "log.parquet")
    opened = open_log(check(log / "tiny.tower"), [tmp_path / "log.parquet"])
    with pytest.raises(SpecError, match=re.escape("has no column `request`, which says which rows are a request's")):
        opened.batches(64, seed=1, together=True)


def test_a_spec_may_ask_for_whole_requests() -> None:
    model, _ = check_text(f"{TINY}\ntrain {{ shuffle: requests }}").sound()
    assert model.train.shuffle == "requests"
