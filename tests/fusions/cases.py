"""What every fusion test runs over: fusions with their module's shape and their published formula.

How a fusion is computed is the layer tests' harness' business: a fusion is lowered like a layer of two inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from layers.harness import Array, Seq

from towerspec.layers.base import Fusion, kinds

from . import published as by

H = 6  # the tower's width


@dataclass(frozen=True)
class Case:
    """A fusion of one kind; `x` is the module's width, or its sequence's length and width."""

    kind: str
    x: int | tuple[int, int]
    formula: Callable[..., np.ndarray]
    options: dict[str, Any]

    @property
    def fusion(self) -> Fusion:
        made = kinds("fusion")[self.kind](**self.options)
        assert isinstance(made, Fusion)
        return made

    def arrays(self, rows: int, seed: int = 0) -> tuple[np.ndarray, Array]:
        """A tower and a module's value; of the sequences the first is empty, the second full, the others have gaps."""
        rng = np.random.default_rng(seed)
        h = rng.normal(size=(rows, H))
        if isinstance(self.x, int):
            return h, rng.normal(size=(rows, self.x))
        mask = rng.random((rows, self.x[0])) < 0.5
        mask[:1], mask[1:2] = False, True
        return h, Seq(rng.normal(size=(rows, *self.x)), mask)

    def expected(self, params: dict[str, np.ndarray], h: np.ndarray, x: Array, row: int) -> np.ndarray:
        """The formula's result for one row; of a sequence it sees the present vectors alone."""
        one = x.values[row][x.mask[row]] if isinstance(x, Seq) else x[row]
        return self.formula(params, self.fusion, h[row], one)


def case(kind: str, x: int | tuple[int, int], formula: Callable[..., np.ndarray], **options: Any) -> Case:
    return Case(kind, x, formula, options)


CASES = [
    case("concat", 4, by.concat),
    case("sum", H, by.add),
    case("sum", 4, by.add),
    case("gate", 4, by.gate),
    case("gate", 4, by.gmu, mix=True),
    case("film", 4, by.film),
    case("attention", (5, 4), by.attend_sequence),
    case("attention", (5, 4), by.attend_sequence, heads=3),
    case("attention", (5, 4), by.attend_sequence, heads=2, width=8),
    case("attention", 4, by.attend_vector),
    case("attention", H, by.attend_vector, heads=2),
    case("bilinear", 4, by.bilinear),
    case("bilinear", 4, by.bilinear, rank=3, activation="identity"),
    case("cross", H, by.cross),
    case("cross", 4, by.cross, layers=3),
    case("cross", 4, by.cross, layers=2, rank=2),
]
IDS = [" ".join([c.kind, str(c.x), *(f"{k}={v}" for k, v in c.options.items())]) for c in CASES]
