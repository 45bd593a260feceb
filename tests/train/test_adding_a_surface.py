"""A third surface on a trained model of two: what is carried over and frozen, and that the two stay as they were."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from towerspec.check import check
from towerspec.check.parts import part_paths
from towerspec.diagnostics import SpecError
from towerspec.layers.blocks import Train
from towerspec.train.carry import Carried, carried_vocabularies
from towerspec.train.folder import Setup
from towerspec.train.module import build_module
from towerspec.train.run import Run
from towerspec.train.trainer import train
from towerspec.weights import read_safetensors

from .memory import Memory, learnable, pick
from .specs import TINY, write_spec

THIRD = """
surface related {
    tower {
        layers: [8]
        norm: batch
        head click : binary
    }
}
"""
OPTIONS = Train(epochs=2, batch=50, weight_decay=0.1)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("two")
    checked = check(write_spec(folder))
    return train(checked, learnable(checked, 400), None, folder / "run", OPTIONS)


def grown(folder: Path, extra: str = "") -> tuple[object, Memory]:
    checked = check(write_spec(folder, TINY + THIRD + extra))
    return checked, learnable(checked, 600, seed=3)


def only(log: Memory, surface: str) -> Memory:
    rows = (log.held.surface == log.surfaces.index(surface)).nonzero().flatten()
    return Memory(pick(log.held, rows), log.surfaces)


def predictions(spec: Path, weights: Path, log: Memory) -> dict[str, torch.Tensor]:
    """What a spec with these weights predicts on a log's rows."""
    checked = check(spec)
    module = build_module(checked).eval()
    module.load_state_dict(read_safetensors(weights))
    surface = torch.tensor([checked.graph.surfaces.index(log.surfaces[i]) for i in log.held.surface])
    with torch.no_grad():
        return dict(module(dict(log.held.features), surface))


@pytest.mark.parametrize("whole_log", [False, True], ids=["its own rows", "rows of all, the two frozen as well"])
def test_the_two_predict_bitwise_what_they_did(two: Run, tmp_path: Path, whole_log: bool) -> None:
    checked, log = grown(tmp_path)
    parts = ("trunk", "home", "search") if whole_log else ("trunk",)
    options = OPTIONS.model_copy(update={"freeze": parts})
    given = log if whole_log else only(log, "related")
    run = train(checked, given, None, tmp_path / "run", options, Setup(init_from=two))  # type: ignore[arg-type]
    old, new = read_safetensors(two.weights), read_safetensors(run.weights)
    assert all(torch.equal(x.view(torch.int32), new[name].view(torch.int32)) for name, x in old.items() if x.dim())
    rows = (log.held.surface < 2).nonzero().flatten()
    seen = Memory(pick(log.held, rows), log.surfaces)
    before = predictions(two.folder / "spec" / "tiny.tower", two.weights, seen)
    after = predictions(tmp_path / "tiny.tower", run.weights, seen)
    for head, x in before.items():
        assert torch.equal(x.nan_to_num(7.0), after[head].nan_to_num(7.0)), head
    first = build_module(checked, OPTIONS.seed).state_dict()  # type: ignore[arg-type]
    mine = [name for name in first if ".related." in f".{name}." and "calibrate" not in name]
    assert len(mine) > 6
    assert all(not torch.equal(first[name], new[name]) for name in mine), "the third surface learns"


def test_it_says_what_was_carried(two: Run, tmp_path: Path) -> None:
    checked, log = grown(tmp_path)
    said: list[str] = []
    run = train(checked, log, None, tmp_path / "run", OPTIONS, Setup(init_from=two, say=said.append))  # type: ignore[arg-type]
    record = run.record["init_from"]
    assert set(record["carried"]) == set(read_safetensors(two.weights))
    assert "trunk.shared.gate.related.weight" in record["new"]
    assert record["resized"] == record["lost"] == []
    assert said[0].startswith(f"carried {len(record['carried'])} parameters from {two.folder}: ")
    assert any(line.startswith("new: ") and "surfaces.related.tower" in line for line in said)


def test_what_was_resized_begins_anew(two: Run, tmp_path: Path) -> None:
    text = TINY.replace("rows: 30, dim: 4", "rows: 30, dim: 6")
    checked = check(write_spec(tmp_path, text))
    options = OPTIONS.model_copy(update={"freeze": ("search",)})
    run = train(checked, learnable(checked, 200), None, tmp_path / "run", options, Setup(init_from=two))
    assert set(run.record["init_from"]["resized"]) == {
        "surfaces.search.query.weight",
        "surfaces.search.intent.0.weight",
    }
    assert "surfaces.search.intent.0.bias" in run.record["frozen"]
    assert "surfaces.search.query.weight" not in run.record["frozen"], "what has learned nothing is not frozen"


def test_parts_have_names(tmp_path: Path) -> None:
    checked, _ = grown(tmp_path)
    graph = checked.graph  # type: ignore[attr-defined]
    assert "trunk.shared.gate.related.weight" in part_paths(graph, "related")
    assert "trunk.shared.gate.related.weight" not in part_paths(graph, "trunk")
    assert part_paths(graph, "items") == part_paths(graph, "tables.items") == ["tables.items.weight"]
    assert part_paths(graph, "shared") == part_paths(graph, "trunk.shared")
    assert not part_paths(graph, "share")


def test_an_unknown_part_is_refused(tmp_path: Path) -> None:
    checked, log = grown(tmp_path)
    options = OPTIONS.model_copy(update={"freeze": ("serch",)})
    with pytest.raises(SpecError, match="did you mean `search`"):
        train(checked, log, None, tmp_path / "run", options)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


def test_a_carried_table_needs_the_ids_of_its_rows(tmp_path: Path) -> None:
    """Without them its rows would be given to other ids."""
    carried = Carried("old", ("tables.items.weight",), (), (), (), ())
    old, fitted, rows = Run(tmp_path), {"tables.items": [7, 8], "tables.other": ["x"]}, {"tables.items": 3}
    with pytest.raises(SpecError, match=r"T801.*tables\.items"):
        carried_vocabularies(old, carried, fitted, rows)
    old.vocabularies.write_text('{"tables.items": [3, "a"]}')
    made, became = carried_vocabularies(old, carried, fitted, rows)
    assert made == {"tables.items": [3, "a", 7], "tables.other": ["x"]}
    assert [ids.words() for ids in became.tables] == [
        "tables.items: 2 ids keep their rows, 1 new ones get a row, 1 find none free"
    ]
    made, _ = carried_vocabularies(old, carried, {"tables.items": ["3", "03"]}, rows)
    assert made == {"tables.items": [3, "a", "03"]}, "3 and its text are one id"
