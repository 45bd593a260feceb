"""Each calibrator's published formula in NumPy, over logits `[N]` or `[N, K]`; nothing here uses towerspec.

`p` holds the parameters by name, each with its `[1]` or `[bins]` numbers, or one such row for each logit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Params = dict[str, np.ndarray]


def sigmoid(z: np.ndarray) -> np.ndarray:
    return np.where(z >= 0, 1 / (1 + np.exp(-np.abs(z))), np.exp(-np.abs(z)) / (1 + np.exp(-np.abs(z))))


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


LINKS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "binary": sigmoid,
    "product": sigmoid,
    "regression": lambda z: z,
    "count": lambda z: np.exp(np.minimum(z, 30.0)),
    "multiclass": softmax,
}


def none(p: Params, head: str, z: np.ndarray) -> np.ndarray:
    return LINKS[head](z)


def temperature(p: Params, head: str, z: np.ndarray) -> np.ndarray:
    """Guo et al. 2017, equation 9."""
    return LINKS[head](z / p["temperature"])


def platt(p: Params, head: str, z: np.ndarray) -> np.ndarray:
    """Platt 1999, with the signs of the logit: 1 / (1 + exp(-(a z + c)))."""
    return sigmoid(p["a"] * z + p["c"])


def beta(p: Params, head: str, z: np.ndarray) -> np.ndarray:
    """Kull et al. 2017: 1 / (1 + 1 / (e^c s^a / (1 - s)^b)), as it stands there."""
    s = sigmoid(z)
    return 1 / (1 + 1 / (np.exp(p["c"]) * s ** p["a"] / (1 - s) ** p["b"]))


def line(x: np.ndarray, knots: np.ndarray, values: np.ndarray, extend: bool) -> np.ndarray:
    """`np.interp`, and beyond the knots the line through the two last ones where it goes on."""
    y = np.interp(x, knots, values)
    if not extend:
        return y
    first = values[0] + (values[1] - values[0]) / (knots[1] - knots[0]) * (x - knots[0])
    last = values[-1] + (values[-1] - values[-2]) / (knots[-1] - knots[-2]) * (x - knots[-1])
    return np.where(x < knots[0], first, np.where(x > knots[-1], last, y))


def isotonic(p: Params, head: str, z: np.ndarray) -> np.ndarray:
    """Zadrozny & Elkan 2002, read between the fitted points by a straight line."""
    y = line(LINKS[head](z), p["knots"], p["values"], extend=head in ("regression", "count"))
    return np.maximum(y, 0.0) if head == "count" else y


def piecewise(p: Params, head: str, z: np.ndarray) -> np.ndarray:
    if head in ("binary", "product"):
        return sigmoid(line(z, p["knots"], p["values"], extend=True))
    y = line(LINKS[head](z), p["knots"], p["values"], extend=True)
    return np.maximum(y, 0.0) if head == "count" else y
