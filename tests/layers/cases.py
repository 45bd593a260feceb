"""What every layer test runs over: layers with their inputs' shapes and their published formula."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from towerspec.layers.base import Layer

from . import published as by
from .harness import Array, Seq, make


@dataclass(frozen=True)
class Case:
    """A layer of one kind. `inputs` are widths of vectors, or length and width of a sequence."""

    kind: str
    inputs: tuple[int | tuple[int, int], ...]
    formula: Callable[..., np.ndarray]
    options: dict[str, Any]

    @property
    def layer(self) -> Layer:
        return make(self.kind, **self.options)

    def arrays(self, rows: int, seed: int = 0) -> tuple[Array, ...]:
        """Random inputs; of the sequences, the first is empty, the second full, and the others have gaps."""
        rng = np.random.default_rng(seed)
        made: list[Array] = []
        for shape in self.inputs:
            if isinstance(shape, int):
                made.append(rng.normal(size=(rows, shape)))
                continue
            mask = rng.random((rows, shape[0])) < 0.5
            mask[:1], mask[1:2] = False, True
            made.append(Seq(rng.normal(size=(rows, *shape)), mask))
        return tuple(made)

    def expected(self, params: dict[str, np.ndarray], inputs: tuple[Array, ...], row: int) -> np.ndarray:
        """The formula's result for one row; of a sequence it sees the present vectors alone."""
        given: list[np.ndarray] = []
        for x in inputs:
            given.append(x.values[row][x.mask[row]] if isinstance(x, Seq) else x[row])
            if isinstance(x, Seq) and self.kind == "transformer":
                given.append(np.flatnonzero(x.mask[row]))
        return self.formula(params, self.layer, *given)


def case(kind: str, inputs: Any, formula: Callable[..., np.ndarray], **options: Any) -> Case:
    return Case(kind, inputs if isinstance(inputs, tuple) else (inputs,), formula, options)


S = (5, 6)  # a sequence of up to 5 vectors of 6

CASES = [
    *(case("mlp", 5, by.mlp, hidden=(7, 3), activation=a) for a in by.ACTIVATIONS),
    case("mlp", 5, by.mlp, hidden=(7, 3), norm="layer"),
    case("mlp", 5, by.mlp, hidden=(7, 3), norm="batch", dropout=0.5),
    case("linear", 5, by.linear, width=3),
    case("linear", 5, by.linear, width=3, bias=False, activation="tanh"),
    case("concat", (5, 1, 3), by.concat),
    case("sum", (5, 5, 5), by.add),
    case("product", (5, 5, 5), by.multiply),
    *(case("pooling", (S,), by.pooling, fn=fn) for fn in ("mean", "sum", "max", "last")),
    *(
        case("transformer", (S,), by.transformer, layers=2, heads=3, pool=fn)
        for fn in ("mean", "sum", "max", "last", "none")
    ),
    case("transformer", ((1, 6),), by.transformer),
    case("transformer", (S,), by.transformer, hidden=5, positions=False, activation="gelu", dropout=0.1),
    case("din", (6, S), by.din, hidden=(7, 3)),
    case("din", (6, S), by.din, hidden=(7,), softmax=True, activation="sigmoid"),
    case("din", (6, (1, 6)), by.din),
    case("cross", 5, by.cross, layers=3),
    case("cross", 5, by.cross, layers=3, rank=2),
    case("moe", 5, by.moe, experts=3, hidden=(7, 4)),
    case("mmoe", 5, by.mmoe, experts=3, hidden=(7, 4), activation="tanh"),
    case("mmoe", 5, by.mmoe, experts=1, hidden=(4,), dropout=0.2),
    case("ple", 5, by.ple, shared_experts=3, own_experts=2, hidden=(7, 4)),
    case("ple", 5, by.ple, shared_experts=2, own_experts=1, hidden=(6,), levels=3, activation="tanh"),
    case("gate", (5, 3, 2), by.gate),
    case("gate", (5,), by.gate, hidden=7, per_surface=False),
    case("star", 5, by.star, hidden=(7, 3)),
    case("fm", (5, 5, 5), by.fm),
    case("fm", (15,), by.fm, dim=5, scalar=False),
    *(case("bilinear", (5, 5, 5, 5), by.bilinear, type=t) for t in ("all", "each", "interaction")),
    case("bilinear", (10, 5), by.bilinear, type="interaction", dim=5),
    case("senet", (5, 5, 5, 5), by.senet, reduction=2),
    case("senet", (5, 10), by.senet, dim=5),
    case("autoint", (6, 6, 6), by.autoint, heads=2),
    case("autoint", (6, 12), by.autoint, layers=1, heads=4, width=8, dim=6),
    case("masknet", (5, 3), by.masknet, hidden=(7, 4)),
    case("masknet", (8,), by.masknet, hidden=(7, 4, 5), mode="parallel", reduction=0.5),
    case("layernorm", 5, by.layernorm),
    case("layernorm", (S,), by.layernorm, per_surface=True),
    case("batchnorm", 5, by.batchnorm),
    case("batchnorm", 5, by.batchnorm, per_surface=True),
    case("dropout", 5, by.dropout, rate=0.5),
    case("dropout", (S,), by.dropout, rate=0.5),
    case("residual", 5, by.residual, hidden=(7, 3)),
    case("residual", 5, by.residual, hidden=(7,), norm="batch", activation="silu", dropout=0.1),
]
IDS = [" ".join([c.kind, *(f"{k}={v}" for k, v in c.options.items())]) for c in CASES]
