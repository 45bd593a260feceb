"""Each layer's published formula, written out in NumPy for one row.

A vector is `[D]`, a sequence is its present vectors `[K, D]`, and `p` holds the parameters by
name. Nothing here uses towerspec.
"""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np

Params = dict[str, np.ndarray]
_erf = np.vectorize(math.erf, otypes=[float])

ACTIVATIONS = {
    "identity": lambda x: x,
    "relu": lambda x: np.where(x > 0, x, 0.0),
    "gelu": lambda x: x * 0.5 * (1 + _erf(x / np.sqrt(2))),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": lambda x: (np.exp(2 * x) - 1) / (np.exp(2 * x) + 1),
    "elu": lambda x: np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1),
    "leaky_relu": lambda x: np.where(x > 0, x, x / 100),
    "softplus": lambda x: np.log(1 + np.exp(x)),
}
relu, sigmoid = ACTIVATIONS["relu"], ACTIVATIONS["sigmoid"]


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - np.max(x))
    return e / np.sum(e)


def norm(p: Params, name: str, x: np.ndarray) -> np.ndarray:
    """Ba et al. 2016, with the customary 1e-5 under the root."""
    return (x - np.mean(x)) / np.sqrt(np.var(x) + 1e-5) * p[f"{name}scale"] + p[f"{name}shift"]


def batch_norm(p: Params, name: str, x: np.ndarray) -> np.ndarray:
    """Ioffe & Szegedy 2015, algorithm 2, step 11: with the statistics of training."""
    return p[f"{name}scale"] * (x - p[f"{name}mean"]) / np.sqrt(p[f"{name}var"] + 1e-5) + p[f"{name}shift"]


def line(p: Params, name: str, x: np.ndarray) -> np.ndarray:
    return p[f"{name}.weight"] @ x + p.get(f"{name}.bias", 0.0)


def dense(p: Params, names: list[str], x: np.ndarray, activation: str, norms: str = "none") -> np.ndarray:
    for name in names:
        x = line(p, name, x)
        x = {"none": lambda p, n, x: x, "layer": norm, "batch": batch_norm}[norms](p, f"{name}.norm.", x)
        x = ACTIVATIONS[activation](x)
    return x


def names(layer: Any, prefix: str = "") -> list[str]:
    return [f"{prefix}{i}" for i in range(len(layer.hidden))]


# ---- basic, norms ------------------------------------------------------------------------------------


def mlp(p: Params, layer: Any, x: np.ndarray) -> np.ndarray:
    return dense(p, names(layer), x, layer.activation, layer.norm)


def linear(p: Params, layer: Any, x: np.ndarray) -> np.ndarray:
    return ACTIVATIONS[layer.activation](p["weight"] @ x + p.get("bias", 0.0))


def concat(p: Params, layer: Any, *xs: np.ndarray) -> np.ndarray:
    return np.hstack(xs)


def add(p: Params, layer: Any, *xs: np.ndarray) -> np.ndarray:
    return np.sum(xs, axis=0)


def multiply(p: Params, layer: Any, *xs: np.ndarray) -> np.ndarray:
    return np.prod(xs, axis=0)


def layernorm(p: Params, layer: Any, x: np.ndarray) -> np.ndarray:
    at = "search." if layer.per_surface else ""
    return norm(p, at, x) if x.ndim == 1 else np.array([norm(p, at, v) for v in x]).reshape(x.shape)


def batchnorm(p: Params, layer: Any, x: np.ndarray) -> np.ndarray:
    return batch_norm(p, "search." if layer.per_surface else "", x)


def dropout(p: Params, layer: Any, x: np.ndarray) -> np.ndarray:
    return x


def residual(p: Params, layer: Any, x: np.ndarray) -> np.ndarray:
    """He et al. 2016, equation 3: x + F(x)."""
    return x + line(p, "out", dense(p, names(layer, "hidden."), x, layer.activation, layer.norm))


# ---- sequences ---------------------------------------------------------------------------------------


def pooled(fn: str, s: np.ndarray) -> np.ndarray:
    if len(s) == 0:
        return np.zeros(s.shape[1])
    return {"mean": s.mean(0), "sum": s.sum(0), "max": s.max(0), "last": s[-1]}[fn]


def pooling(p: Params, layer: Any, s: np.ndarray) -> np.ndarray:
    return pooled(layer.fn, s)


def heads(q: np.ndarray, k: np.ndarray, v: np.ndarray, count: int) -> np.ndarray:
    """Vaswani et al. 2017, section 3.2.2, without its last linear map, one query and one head at a time."""
    part, size = v.shape[1] // count, q.shape[1] // count
    out = np.zeros((len(q), v.shape[1]))
    for h in range(count):
        a, b = slice(h * size, (h + 1) * size), slice(h * part, (h + 1) * part)
        for i in range(len(q)):
            out[i, b] = softmax(k[:, a] @ q[i, a] / np.sqrt(size)) @ v[:, b]
    return out


def transformer(p: Params, layer: Any, s: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Xiong et al. 2020, table 1, right column: pre-LN. `places` are the present vectors' positions."""
    x = s + p["positions"][places] if layer.positions else s
    for i in range(layer.layers):
        at = f"layers.{i}.attention."
        n = [norm(p, f"{at}norm.", v) for v in x]
        q, k, v = (np.array([line(p, at + part, y) for y in n]).reshape(x.shape) for part in ("query", "key", "value"))
        x = x + np.array([line(p, f"{at}out", y) for y in heads(q, k, v, layer.heads)]).reshape(x.shape)
        n = [norm(p, f"layers.{i}.ffn.norm.", v) for v in x]
        ffn = [line(p, f"layers.{i}.ffn.down", dense(p, [f"layers.{i}.ffn.up"], y, layer.activation)) for y in n]
        x = x + np.array(ffn).reshape(x.shape)
    x = np.array([norm(p, "norm.", v) for v in x]).reshape(x.shape)
    return x if layer.pool == "none" else pooled(layer.pool, x)


def din(p: Params, layer: Any, q: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Zhou et al. 2018, equation 3, with the activation unit's inputs as in the authors' code."""
    scores = []
    for k in s:
        h = dense(p, names(layer, "hidden."), np.hstack([q, k, q - k, q * k]), layer.activation)
        scores.append(line(p, "out", h)[0])
    if layer.softmax and scores:
        scores = list(softmax(np.array(scores)))
    return sum((a * k for a, k in zip(scores, s, strict=True)), np.zeros(s.shape[1]))


# ---- crosses, experts, gates ---------------------------------------------------------------------------


def cross(p: Params, layer: Any, x: np.ndarray) -> np.ndarray:
    """Wang et al. 2021 (DCN V2), equations 1 and 2."""
    start = x
    for i in range(layer.layers):
        if layer.rank:
            x = start * (p[f"{i}.up.weight"] @ (p[f"{i}.down.weight"] @ x) + p[f"{i}.up.bias"]) + x
        else:
            x = start * (p[f"{i}.weight"] @ x + p[f"{i}.bias"]) + x
    return x


def mixed(p: Params, gate: str, experts: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    """Shazeer et al. 2017, equations 1 and 2."""
    return np.sum([w * e for w, e in zip(softmax(p[gate] @ x), experts, strict=True)], axis=0)


def experts(p: Params, layer: Any, prefix: str, count: int, x: np.ndarray, surface: str = "") -> list[np.ndarray]:
    found = []
    for i in range(count):
        found.append(dense(p, [f"{n}{surface}" for n in names(layer, f"{prefix}.{i}.")], x, layer.activation))
    return found


def moe(p: Params, layer: Any, x: np.ndarray) -> np.ndarray:
    return mixed(p, "gate.weight", experts(p, layer, "expert", layer.experts, x), x)


def mmoe(p: Params, layer: Any, x: np.ndarray) -> np.ndarray:
    """Ma et al. 2018: f_k(x) = sum_i softmax(W_k x)_i f_i(x)."""
    return mixed(p, "gate.search.weight", experts(p, layer, "expert", layer.experts, x), x)


def ple(p: Params, layer: Any, x: np.ndarray) -> np.ndarray:
    """Tang et al. 2020, section 4.1, level upon level; the shared gate weighs the shared experts alone."""
    own = shared = x
    for i in range(layer.levels):
        theirs = experts(p, layer, f"{i}.expert", layer.shared_experts, shared)
        ours = experts(p, layer, f"{i}.own", layer.own_experts, own, ".search")
        own = mixed(p, f"{i}.gate.search.weight", [*ours, *theirs], own)
        if i < layer.levels - 1:
            shared = mixed(p, f"{i}.shared_gate.weight", theirs, shared)
    return own


def gate(p: Params, layer: Any, x: np.ndarray, *by: np.ndarray) -> np.ndarray:
    """Chang et al. 2023 (PEPNet), the gate neural unit with gamma = 2."""
    at = ".search" if layer.per_surface else ""
    return x * 2 * sigmoid(line(p, f"scale{at}", relu(line(p, f"hidden{at}", np.hstack([*by, x])))))


def star(p: Params, layer: Any, x: np.ndarray) -> np.ndarray:
    """Sheng et al. 2021: W* = W_p ⊗ W, b* = b_p + b."""
    for i in range(len(layer.hidden)):
        weight = p[f"{i}.weight"] * p[f"{i}.own.search.weight"]
        x = ACTIVATIONS[layer.activation](weight @ x + p[f"{i}.bias"] + p[f"{i}.own.search.bias"])
    return x


# ---- interactions ----------------------------------------------------------------------------------------


def split(layer: Any, xs: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    width = layer.dim or len(xs[0])
    return list(np.hstack(xs).reshape(-1, width))


def fm(p: Params, layer: Any, *xs: np.ndarray) -> np.ndarray:
    """Rendle 2010, equation 1's second sum, pair by pair, on features of value 1."""
    pairs = sum(a * b for a, b in combinations(split(layer, xs), 2))
    return np.array([np.sum(pairs)]) if layer.scalar else np.asarray(pairs)


def bilinear(p: Params, layer: Any, *xs: np.ndarray) -> np.ndarray:
    """Huang et al. 2019 (FiBiNET), section 3.4: v_i W ⊙ v_j, with W stored transposed."""
    v, out = split(layer, xs), []
    d = len(v[0])
    for i, j in combinations(range(len(v)), 2):
        if layer.type == "all":
            weight = p["weight"]
        elif layer.type == "each":
            weight = p[f"{i}.weight"]
        else:
            weight = p[f"{i}.weight"].reshape(-1, d, d)[j - i - 1]
        out.append((v[i] @ weight.T) * v[j])
    return np.hstack(out)


def senet(p: Params, layer: Any, *xs: np.ndarray) -> np.ndarray:
    """Huang et al. 2019 (FiBiNET), section 3.3."""
    v = split(layer, xs)
    a = relu(p["excite.weight"] @ relu(p["squeeze.weight"] @ np.array([x.mean() for x in v])))
    assert len(p["squeeze.weight"]) == max(1, len(v) // layer.reduction)
    return np.hstack([weight * x for weight, x in zip(a, v, strict=True)])


def autoint(p: Params, layer: Any, *xs: np.ndarray) -> np.ndarray:
    """Song et al. 2019, section 4.4, with scaled scores."""
    v = np.array(split(layer, xs))
    for i in range(layer.layers):
        q, k, value, kept = (v @ p[f"{i}.{part}.weight"].T for part in ("query", "key", "value", "residual"))
        v = relu(heads(q, k, value, layer.heads) + kept)
    return v.ravel()


def masknet(p: Params, layer: Any, *xs: np.ndarray) -> np.ndarray:
    """Wang et al. 2021 (MaskNet), sections 3.2 to 3.5."""
    v = np.hstack(xs)
    h = start = np.hstack([norm(p, f"norm.{i}.", x) for i, x in enumerate(xs)])
    blocks = []
    for i in range(len(layer.hidden)):
        h = start if layer.mode == "parallel" else h
        mask = line(p, f"blocks.{i}.mask.1", relu(line(p, f"blocks.{i}.mask.0", v)))
        assert len(p[f"blocks.{i}.mask.0.weight"]) == round(layer.reduction * len(h))
        h = relu(norm(p, f"blocks.{i}.norm.", p[f"blocks.{i}.weight"] @ (mask * h)))
        blocks.append(h)
    return np.hstack(blocks) if layer.mode == "parallel" else h
