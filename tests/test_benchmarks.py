"""The benchmarks run and write their tables, and the expert's version gives the build's scores."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
import torch

import towerspec

pytest.importorskip("safetensors")

from benchmarks.__main__ import NAMES
from benchmarks.expert import expert
from benchmarks.expert_packed import packed_expert
from benchmarks.serving import AGREES, SPEC, SURFACE
from benchmarks.weights import varied
from towerspec.check import check
from towerspec.emit.build import Options, compile_spec
from towerspec.train.module import build_module

LONG = ("serving", "flat", "memory", "compile")  # even the quick run takes ten seconds and more


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The benchmark's spec, compiled with weights none of which is zero or one."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("bench")
    checked = check(SPEC)
    save_file(varied(build_module(checked)), folder / "weights.safetensors")
    compile_spec(checked, folder / "build", Options(surfaces=(SURFACE,), weights=folder / "weights.safetensors"))
    return folder


@pytest.mark.parametrize(("requests", "candidates"), [(1, 0), (1, 1), (1, 33), (3, 5)])
def test_the_expert_gives_the_builds_scores(build: Path, requests: int, candidates: int) -> None:
    from safetensors.torch import load_file

    served = towerspec.load(build / "build").surfaces[SURFACE]
    state = load_file(build / "weights.safetensors")
    for by_hand in (expert(state), packed_expert(state)):
        for seed in range(3):
            inputs = served.sample_inputs(candidates, requests, seed)
            with torch.inference_mode():
                found = by_hand(*inputs.values())
            for x, y in zip(found, served(inputs).values(), strict=True):
                torch.testing.assert_close(x, y, atol=AGREES, rtol=0)


@pytest.mark.parametrize("name", [pytest.param(x, marks=pytest.mark.slow if x in LONG else ()) for x in NAMES])
def test_a_benchmark_runs_and_writes_its_tables(name: str, tmp_path: Path) -> None:
    result = importlib.import_module(f"benchmarks.{name}").run(quick=True)
    result.write(tmp_path)
    written = json.loads((tmp_path / f"{name}.json").read_text())
    assert [t["title"] for t in written["tables"]] == [t.title for t in result.tables]
    for table in result.tables:
        assert table.rows
        assert table.title in (tmp_path / f"{name}.md").read_text()
