"""What the light commands leave alone: they answer at once because they import only what they need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from towerspec.layers import base

ROOT = Path(__file__).parent.parent
QUICK = ROOT / "specs" / "quickstart.tower"
LOADED = (
    "import sys; from towerspec.cli import main\ntry: main(sys.argv[1:])\nfinally: print(*sys.modules, file=sys.stderr)"
)


def imported(*words: object) -> set[str]:
    """The modules that a command has imported by its end."""
    done = subprocess.run([sys.executable, "-c", LOADED, *map(str, words)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


@pytest.mark.parametrize("spec", sorted((ROOT / "specs").glob("*.tower")), ids=lambda p: p.stem)
def test_check_imports_neither_torch_nor_networkx(spec: Path) -> None:
    assert not imported("check", spec) & {"torch", "numpy", "networkx", "jinja2"}


@pytest.mark.parametrize(
    "words",
    [("explain", QUICK), ("graph", QUICK), ("fmt", "--check", QUICK), ("diff", QUICK, QUICK), ("explain", "T203")],
    ids=lambda words: words[0],
)
def test_nothing_before_emit_imports_torch(words: tuple[object, ...]) -> None:
    assert not imported(*words) & {"torch", "numpy", "networkx"}


def test_help_and_formatting_import_no_kind() -> None:
    assert not imported("--help") & {"torch", "pydantic", "lark", "networkx"}
    assert not imported("fmt", "--check", QUICK) & {"torch", "pydantic", "networkx"}


def test_a_spec_imports_the_kinds_that_it_names() -> None:
    found = {name for name in imported("check", QUICK) if name.startswith("towerspec.layers.")}
    assert {"towerspec.layers.experts", "towerspec.layers.sequences"} <= found
    assert not found & {"towerspec.layers.interactions", "towerspec.layers.norms"}


def test_every_kind_is_found_by_its_file() -> None:
    kinds = [cls for category in base.CATEGORIES for cls in base.kinds(category).values()]
    ours = {(cls.__module__, cls.kind) for cls in kinds if cls.__module__.startswith("towerspec.")}
    assert ours == {(module, kind) for module, defined in base._files().items() for kind in defined}
