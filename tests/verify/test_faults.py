"""What a compile refuses, end to end: a fault in one leaf of the source, of a file or of the unified model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.verify.plants import Planted
from towerspec.check import check
from towerspec.diagnostics import SpecError
from towerspec.emit import constants, torchscript
from towerspec.emit.build import Options, compile_spec
from towerspec.emit.verify import compile as verification
from towerspec.passes import PIPELINE

VIEW_TYPES = Path(__file__).parent.parent.parent / "specs" / "view_types.tower"
LEAVES = {
    "feed.autoplay": "click",
    "feed._else": "hide",
    "closeup": "save",
    "story.phone": "watched",
    "story._else": "watched",
    "_else": "click",
}
LEAF = "surfaces.app.tower.feed._else.layers.0.weight"  # one that five cases at the default seed never reached
APP = Options(surfaces=("app",))


def double(module: nn.Module, path: str) -> nn.Module:
    """The module with one parameter twice as large."""
    tensors = torchscript.tensors(module)
    with torch.no_grad():
        tensors[path].mul_(2)
    return module


def refused(tmp_path: Path, options: Options = APP) -> str:
    with pytest.raises(SpecError, match="T606") as error:
        compile_spec(check(VIEW_TYPES), tmp_path / "build", options)
    assert not any(tmp_path.iterdir()), "something was written"
    return error.value.diagnostics[0].message


def test_a_doubled_leaf_in_the_source_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = constants.fold

    def fold(*args: object) -> object:
        graph, weights = real(*args)  # type: ignore[arg-type]
        return graph, {**weights, LEAF: 2 * weights[LEAF]}

    monkeypatch.setattr(constants, "fold", fold)
    assert "differs" in refused(tmp_path)


def test_a_doubled_leaf_in_the_file_alone_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = torchscript.freeze
    monkeypatch.setattr(torchscript, "freeze", lambda model: real(double(model, LEAF)))
    assert "in the compiled file alone" in refused(tmp_path)


@pytest.mark.parametrize("method", ["script", "source"])
def test_a_doubled_leaf_in_the_unified_model_is_refused(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if method == "script":
        real = torchscript.script
        monkeypatch.setattr(torchscript, "script", lambda model: double(real(model), LEAF))
    else:
        unified = verification.verify_unified

        def plant(graph: object, slices: object, model: nn.Module, *rest: object) -> None:
            double(model, LEAF)
            unified(graph, slices, model, *rest[:-1], {**rest[-1], LEAF: 2 * rest[-1][LEAF]})  # type: ignore

        monkeypatch.setattr(verification, "verify_unified", plant)
    assert "differs" in refused(tmp_path)


@pytest.fixture(scope="module")
def app() -> Planted:
    return Planted(VIEW_TYPES, "app", level=0)


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_doubled_leaf_in_any_targets_file_is_refused(app: Planted, leaf: str) -> None:
    """A package or a program is verified as whatever the compile can call."""
    served = app.narrow()
    app.verify(served, served)
    path = f"surfaces.app.tower.{leaf}.{LEAVES[leaf]}.weight"
    with pytest.raises(SpecError, match="T606"):
        app.verify(served, double(app.narrow(), path))


def other_logit(served: nn.Module) -> Callable[..., list[Tensor]]:
    def call(*inputs: Tensor) -> list[Tensor]:
        found = list(served(*inputs))
        return [*found[:-1], found[-1] * 1.01]

    return call


def test_a_logit_that_is_returned_is_verified_as_well() -> None:
    planted = Planted(VIEW_TYPES, "app", logits=True)
    served = planted.narrow()
    planted.verify(served, served)
    with pytest.raises(SpecError, match=r"head `save.logit` differs"):
        planted.verify(served, other_logit(served))


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("surface", ["app", "mail"])
def test_every_level_is_right(level: int, surface: str) -> None:
    assert not Planted(VIEW_TYPES, surface, level).differs()


@pytest.mark.parametrize("step", [step.name for step in PIPELINE if step.name != "precision"])
def test_a_pass_that_goes_wrong_is_refused_and_its_absence_is_right(step: str) -> None:
    planted = Planted(VIEW_TYPES, "mail", without=(step,))
    assert not planted.differs()
    name = next(op.id for op in planted.ops if op.scope.endswith("tower.click") and op.prim.name == "linear")
    assert planted.refuses(planted.folded.by_id[name])


def test_the_first_op_that_differs_is_named(app: Planted) -> None:
    """The optimised graph itself is wrong: the statement is the one that it went wrong in."""
    path = "surfaces.app.tower.story.phone.watched.weight"
    weights = {**app.mine, path: 2 * app.mine[path]}
    served = app.narrow(weights)
    with pytest.raises(SpecError) as error:
        app.verify(served, served, weights)
    said = error.value.diagnostics[0]
    assert "`watched` differs, first at `%surfaces.app.tower.story.phone.watched" in said.message
    assert said.span is not None
    assert said.span.line == 71
