"""Generated sources, and each pass's graph before and after, compared with what stands beside their specs.

`pytest --refresh` writes them anew; look at the difference before you commit it.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from towerspec.check import check, check_text
from towerspec.emit import constants
from towerspec.emit.python import render_model, render_surface
from towerspec.ir.printer import print_graph
from towerspec.passes import PIPELINE, optimise, slice_surface

HERE = Path(__file__).parent
SPECS = sorted((HERE.parent / "specs").glob("*.tower"))
GOLDEN = sorted((HERE / "golden").glob("*.tower"))
PASSES = sorted((HERE / "passes").glob("*.tower"))
NAMES = [step.name for step in PIPELINE]


def sources(spec: Path) -> dict[str, str]:
    """What a spec compiles to: `model`, and each surface's serving source."""
    model, graph = check(spec).sound()
    slices = {s: slice_surface(graph, s) for s in graph.surfaces}
    weights = {p.path: torch.zeros(p.shape) for _, p in graph.params}
    folded = {s: constants.fold(optimise(graph, s), weights)[0] for s in graph.surfaces}
    made = {s: render_surface(folded[s], model.path).source for s in graph.surfaces}
    return {"model": render_model(graph, slices, model.path), **made}


def assert_expected(path: Path, text: str, refresh: bool) -> None:
    if refresh:
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("spec", GOLDEN, ids=lambda p: p.stem)
def test_sources_are_the_expected_ones(spec: Path, refresh: bool) -> None:
    found = sources(spec)
    for name, text in found.items():
        assert_expected(spec.with_suffix(f".{name}.py"), text, refresh)
    assert {p.name for p in spec.parent.glob(f"{spec.stem}.*.py")} == {f"{spec.stem}.{name}.py" for name in found}


CPUS = {"precision_amx": "amx", "precision_vnni": "avx512_vnni"}


def steps(spec: Path, name: str) -> tuple[str, str]:
    """The first surface's graph as a pass finds it, and as it leaves it."""
    cpu = CPUS.get(spec.stem, "any")
    _, graph = check(spec).sound()
    surface = graph.surfaces[0]
    if name == "slice":
        return print_graph(graph), print_graph(slice_surface(graph, surface, logits=False))
    later = NAMES[NAMES.index(name) :]
    return (
        print_graph(optimise(graph, surface, level=3, without=later, cpu=cpu)),
        print_graph(optimise(graph, surface, level=3, without=later[1:], cpu=cpu)),
    )


@pytest.mark.parametrize("spec", PASSES, ids=lambda p: p.stem)
def test_passes_do_what_is_expected(spec: Path, refresh: bool) -> None:
    before, after = (text.replace(f"{spec.parent}/", "") for text in steps(spec, spec.stem.split("_")[0]))
    assert before != after
    assert_expected(spec.with_suffix(".before.txt"), before, refresh)
    assert_expected(spec.with_suffix(".after.txt"), after, refresh)


def test_every_pass_has_a_fixture() -> None:
    assert {p.stem.split("_")[0] for p in PASSES} == {"slice", *NAMES}


@pytest.mark.parametrize("spec", SPECS, ids=lambda p: p.stem)
def test_sources_pass_a_linter_and_need_torch_alone(spec: Path, tmp_path: Path) -> None:
    for name, text in sources(spec).items():
        (tmp_path / f"{name}.py").write_text(text)
        imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, (ast.Import, ast.ImportFrom))]
        modules = {a.name for i in imports if isinstance(i, ast.Import) for a in i.names}
        modules |= {i.module or "" for i in imports if isinstance(i, ast.ImportFrom)}
        assert {m.split(".")[0] for m in modules} <= {"torch", "math", "hashlib"}
    command = ["check", "--isolated", "--select", "E,F,W,I,B,UP,C4,PIE", "--line-length", "120", tmp_path]
    done = subprocess.run([sys.executable, "-m", "ruff", *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_surface_of_many_heads_fits_the_page() -> None:
    """Its results are too many for a line, and so are their types."""
    heads = " ".join(f"head h{i} : binary" for i in range(20))
    text = f"model m candidate {{ x : number }} trunk {{ y = linear(x, width: 4) }} surface s {{ tower {{ {heads} }} }}"
    _, graph = check_text(text).sound()
    source = render_model(graph, {"s": slice_surface(graph, "s")}, "m.tower")
    compile(source, "model.py", "exec")
    assert max(map(len, source.splitlines())) <= 120
