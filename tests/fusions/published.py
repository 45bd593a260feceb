"""Each fusion's published formula, written out in NumPy for one row.

`h` and `x` are vectors, `s` a sequence's present vectors `[K, D]`, and `p` holds the parameters by name. Nothing here
uses towerspec.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Params = dict[str, np.ndarray]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def affine(p: Params, name: str, x: np.ndarray) -> np.ndarray:
    return p[f"{name}.weight"] @ x + p[f"{name}.bias"]


def as_wide(p: Params, h: np.ndarray, x: np.ndarray) -> np.ndarray:
    return affine(p, "project", x) if "project.weight" in p else x


def concat(p: Params, f: Any, h: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.hstack([h, x])


def add(p: Params, f: Any, h: np.ndarray, x: np.ndarray) -> np.ndarray:
    return h + as_wide(p, h, x)


def gate(p: Params, f: Any, h: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Rahman et al. 2020, equations 3 to 5, with Arevalo et al.'s sigmoid gate and without the norm's bound."""
    z = sigmoid(affine(p, "gate", np.hstack([h, x])))
    return h + z * affine(p, "value", x)


def gmu(p: Params, f: Any, h: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Arevalo et al. 2017, the bimodal unit."""
    z = sigmoid(affine(p, "gate", np.hstack([h, x])))
    return z * np.tanh(p["tower.weight"] @ h) + (1 - z) * np.tanh(p["value.weight"] @ x)


def film(p: Params, f: Any, h: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Perez et al. 2017, equation 2, with gamma = 1 + its predicted difference."""
    gamma = 1 + affine(p, "scale", x)
    beta = affine(p, "shift", x)
    return gamma * h + beta


def multi_head(p: Params, heads: int, h: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Vaswani et al. 2017, section 3.2.2, for one query, head by head."""
    size = len(p["query.weight"]) // heads
    found = []
    for head in range(heads):
        rows = slice(head * size, (head + 1) * size)
        q = p["query.weight"][rows] @ h
        scores = np.array([np.dot(q, p["key.weight"][rows] @ one) / np.sqrt(size) for one in s])
        weights = np.exp(scores) / np.exp(scores).sum()
        values = (w * (p["value.weight"][rows] @ one) for w, one in zip(weights, s, strict=True))
        found.append(sum(values, np.zeros(size)))
    return p["out.weight"] @ np.hstack(found)


def attend_sequence(p: Params, f: Any, h: np.ndarray, s: np.ndarray) -> np.ndarray:
    return h + multi_head(p, f.heads, h, s)


def attend_vector(p: Params, f: Any, h: np.ndarray, x: np.ndarray) -> np.ndarray:
    return h + multi_head(p, f.heads, h, np.array([h, affine(p, "project", x)]))


def bilinear(p: Params, f: Any, h: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Kim et al. 2016: P^T (f(U^T h) o f(V^T x)) + b, with biases on both sides and the shortcut h."""
    fn = {"tanh": np.tanh, "identity": lambda v: v}[f.activation]
    return h + affine(p, "out", fn(affine(p, "tower", h)) * fn(affine(p, "value", x)))


def cross(p: Params, f: Any, h: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Wang et al. 2021, equation 1 (full) or 2 (low rank), with x in the place of x_0 and h of x_l."""
    x0 = as_wide(p, h, x)
    for i in range(f.layers):
        if f.rank is None:
            w, bias = p[f"{i}.weight"], p[f"{i}.bias"]
        else:
            w, bias = p[f"{i}.up.weight"] @ p[f"{i}.down.weight"], p[f"{i}.up.bias"]
        h = x0 * (w @ h + bias) + h
    return h
