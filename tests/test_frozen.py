"""The frozen dataclasses of towerspec: they do what the standard ones do."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest

from towerspec.frozen import dataclass
from towerspec.ir.primitives import PRIMITIVES, Clamp, LayerNorm, Transpose, Unary


@dataclass(frozen=True)
class Ours:
    name: str
    shape: tuple[int, ...] = ()
    note: str = dataclasses.field(default="", compare=False, repr=False)


@dataclasses.dataclass(frozen=True)
class Theirs:
    name: str
    shape: tuple[int, ...] = ()
    note: str = dataclasses.field(default="", compare=False, repr=False)


def test_they_print_and_compare_as_the_standard_ones_do() -> None:
    ours, theirs = Ours("a", (1,), "x"), Theirs("a", (1,), "x")
    assert repr(ours) == repr(theirs).replace("Theirs", "Ours")
    assert hash(ours) == hash(theirs)
    assert ours == Ours("a", (1,), "y") != Ours("b", (1,), "x")
    assert ours != theirs
    assert dataclasses.replace(ours, name="b") == Ours("b", (1,))
    assert copy.deepcopy(ours) == pickle.loads(pickle.dumps(ours)) == ours
    assert Transpose() == Transpose()
    assert Clamp() != LayerNorm()


@pytest.mark.parametrize("value", [Ours("a"), Unary("relu")], ids=["own", "primitive"])
def test_nothing_changes_them(value: object) -> None:
    field = dataclasses.fields(value)[0].name  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError, match=f"cannot assign to field '{field}'"):
        setattr(value, field, "b")
    with pytest.raises(dataclasses.FrozenInstanceError, match=f"cannot delete field '{field}'"):
        delattr(value, field)


def test_primitives_differ_by_kind() -> None:
    bare = [
        cls()
        for cls in PRIMITIVES.values()
        if all(f.default is not dataclasses.MISSING for f in dataclasses.fields(cls))
    ]
    assert len({*bare}) == len(bare) > 10
