"""Inputs and options that don't fit together: what is said, and about which of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from towerspec.layers.base import LayerError, kinds

from .harness import Array, Seq, lower, make


def vector(width: int) -> np.ndarray:
    return np.zeros((1, width))


def sequence(width: int) -> Seq:
    return Seq(np.zeros((1, 3, width)), np.ones((1, 3), bool))


WRONG = [
    ("transformer", (sequence(6),), {"heads": 4}, "heads", "`transformer` can't split a width of 6 into 4 heads"),
    ("din", (vector(5), sequence(6)), {}, 0, "`din` needs a target as wide as its history, 6, and this has 5"),
    ("cross", (vector(5),), {"rank": 6}, "rank", "`cross` has a rank of 6 over a width of 5"),
    (
        "fm",
        (vector(5), vector(5), vector(4)),
        {},
        2,
        "`fm` needs fields of one width, and this has 4 where the first has 5",
    ),
    ("senet", (vector(8), vector(6)), {"dim": 4}, 1, "`senet` can't split a width of 6 into fields of 4"),
    ("bilinear", (vector(5),), {}, 0, "`bilinear` needs two fields or more"),
    ("autoint", (vector(6), vector(6)), {"heads": 4}, "heads", "`autoint` can't split a width of 6 into 4 heads"),
    (
        "masknet",
        (vector(6), vector(1)),
        {"hidden": (4,)},
        1,
        "`masknet` normalises each field, and that of a single number is the same for every row",
    ),
    ("layernorm", (vector(1),), {}, 0, "`layernorm` of a single number is the same for every row"),
    ("sum", (vector(5), vector(4)), {}, 1, "`sum` needs inputs of one width, and this has 4 where the first has 5"),
]


@pytest.mark.parametrize(("kind", "inputs", "options", "at", "message"), WRONG, ids=[w[0] for w in WRONG])
def test_what_does_not_fit_is_said_where_it_is(
    kind: str, inputs: tuple[Array, ...], options: dict[str, Any], at: int | str, message: str
) -> None:
    layer = make(kind, **options)
    with pytest.raises(LayerError) as caught:
        lower(layer, inputs)
    assert (str(caught.value), caught.value.at) == (message, at)


BAD_OPTIONS = [
    ("transformer", {"layers": 0}),
    ("transformer", {"pool": "first"}),
    ("transformer", {"dropout": 1.0}),
    ("din", {"hidden": ()}),
    ("pooling", {"fn": "median"}),
    ("cross", {"rank": 0}),
    ("mmoe", {"hidden": (4,)}),
    ("mmoe", {"experts": 0, "hidden": (4,)}),
    ("mmoe", {"experts": 2, "hidden": ()}),
    ("ple", {"shared_experts": 1, "own_experts": 0, "hidden": (4,)}),
    ("bilinear", {"type": "some"}),
    ("senet", {"reduction": 0}),
    ("masknet", {"hidden": (4,), "reduction": 0.0}),
    ("dropout", {"rate": -0.1}),
    ("residual", {"hidden": ()}),
    ("star", {}),
    ("gate", {"by": 3}),
]


@pytest.mark.parametrize(("kind", "options"), BAD_OPTIONS, ids=str)
def test_options_are_checked(kind: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        make(kind, **options)


def test_every_option_of_every_kind_is_described() -> None:
    missing = [
        f"{kind}.{name}"
        for kind, cls in kinds("layer").items()
        for name, info in cls.model_fields.items()
        if not info.description
    ]
    assert missing == []
    assert [kind for kind, cls in kinds("layer").items() if not (cls.__doc__ and f" {kind}(" in cls.example)] == []
