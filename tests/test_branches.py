"""Branches within branches: at any depth, every row's scores are those of its own path, computed here by NumPy."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import towerspec
from towerspec.check import check_text
from towerspec.emit.build import Options, compile_spec

# Each key with its arms but the last, which is `else`: the label in the text, the step of its path, the id.
KEYS = {
    "plain": (["a", "b_j", "j"], "category { values: [a, b_j, j] }"),
    "b_j": (["a", "x"], "category { values: [a, x] }"),
    "odd": (['"a=b.c"', '"0 x"', '"else "', '"é"'], 'category { values: ["a=b.c", "0 x", "else ", "é"] }'),
    "number": (["0", "2"], "category { rows: 3 }"),
}
IDS = {"number": [0, 2]}
ROWS = {"plain": 3, "b_j": 2, "odd": 4, "number": 3}
Arrays = dict[str, np.ndarray]


@dataclass
class Node:
    """A path: its place in the spec, its heads, and below it a key's arms by id (none: all others)."""

    path: str
    heads: list[str]
    key: str = ""
    arms: dict[int | None, tuple[str, Node]] = field(default_factory=dict)

    def text(self) -> str:
        parts = [f"head {head} : regression" for head in self.heads]
        if self.key:
            arms = " ".join(f"{label} {{ {arm.text()} }}" for label, arm in self.arms.values())
            parts.append(f"branch by {self.key} {{ {arms} }}")
        return " ".join(parts)

    def taken(self, ids: dict[str, int]) -> list[Node]:
        """The paths that a row with these ids takes, from here down."""
        if not self.key:
            return [self]
        _, arm = self.arms.get(ids[self.key], self.arms[None])
        return [self, *arm.taken(ids)]


def tree(depth: int, rng: Random, path: str = "surfaces.s.tower", key: str = "") -> Node:
    """One arm goes on downwards at each depth; every path but those above a branch ends in heads."""
    if not depth:
        return Node(path, ["x"] + [f"y{rng.randrange(3)}"] * rng.randrange(2))
    key = key if key and rng.random() < 0.5 else rng.choice(list(KEYS))  # often the same one again
    labels, _ = KEYS[key]
    node = Node(path, [], key)
    deep = rng.randrange(len(labels) + 1)
    for at, label in enumerate([*labels, "else"]):
        id_ = None if label == "else" else IDS.get(key, range(len(labels)))[at]
        step = "_else" if id_ is None else label if label.isidentifier() and label.isascii() else f"_{id_}"
        below = tree(depth - 1 if at == deep else 0, rng, f"{path}.{step}", key)
        node.arms[id_] = (label, below)
    return node


def spec(root: Node) -> str:
    keys = "\n".join(f"{name} : {kind}" for name, (_, kind) in KEYS.items())
    other = "surface t { tower { head x : regression  head y0 : regression } }"
    return f"""model deep
request {{ {keys} }}
candidate {{ v : number {{ width: 3 }} }}
trunk {{ z = concat(request, v) }}
surface s {{ tower {{ {root.text()} }} }}
{other}"""


def expected(root: Node, inputs: Arrays, weights: Arrays) -> Arrays:
    """Each head of each row: a linear of what the trunk joins, on the path that the row takes."""
    tables = [weights[f"features.{name}.weight"][inputs[name]] for name in KEYS]
    z = np.concatenate([*tables, inputs["v"]], 1)
    found = {head: np.full(len(z), np.nan) for node in walk(root) for head in node.heads}
    for row, x in enumerate(z):
        for node in root.taken({name: int(inputs[name][row]) for name in KEYS}):
            for head in node.heads:
                at = f"{node.path}.{head}"
                found[head][row] = weights[f"{at}.weight"][0] @ x + weights[f"{at}.bias"][0]
    return found


def walk(node: Node) -> list[Node]:
    return [node, *(below for _, arm in node.arms.values() for below in walk(arm))]


def made(root: Node, folder: Path, level: int) -> tuple[Path, Arrays]:
    """A build of a tree, from random weights."""
    checked = check_text(spec(root))
    assert not checked.report.diagnostics
    generator = torch.Generator().manual_seed(3)
    _, graph = checked.sound()
    weights = {p.path: torch.randn(p.shape, generator=generator) for _, p in graph.params}
    weights["features.v.mean"].zero_()
    save_file(weights, folder / "w.safetensors")
    compile_spec(checked, folder / "build", Options(level=level, weights=folder / "w.safetensors"))
    return folder / "build", {path: x.double().numpy() for path, x in weights.items()}


def rows(count: int) -> Arrays:
    """Rows with every id of every key."""
    rng = np.random.default_rng(5)
    ids = {name: np.concatenate([np.arange(n), rng.integers(0, n, count - n)]) for name, n in ROWS.items()}
    return {**ids, "v": rng.normal(size=(count, 3)).astype(np.float32)}


@pytest.mark.parametrize("level", [0, 1, 2, 3])
@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5, 6])
def test_rows_take_their_paths(depth: int, level: int, tmp_path: Path) -> None:
    compare(tree(depth, Random(depth)), tmp_path, level)


@pytest.mark.slow
@pytest.mark.parametrize("level", [0, 2])
def test_rows_take_their_paths_as_deep_as_the_grammar_goes(level: int, tmp_path: Path) -> None:
    compare(tree(30, Random(0)), tmp_path, level)


def compare(root: Node, folder: Path, level: int) -> None:
    build, weights = made(root, folder, level)
    inputs = rows(24)
    wanted = expected(root, inputs, weights)
    served = towerspec.load(build).surfaces["s"]
    found = served({**inputs, "candidates_per_request": np.ones(24, dtype=np.int64)})
    assert set(found) == set(wanted)
    for head, scores in wanted.items():
        np.testing.assert_allclose(found[head], scores, rtol=0, atol=1e-4)
    alone = served({name: x[7:8] for name, x in inputs.items()})  # all rows take one arm
    for head, scores in wanted.items():
        np.testing.assert_allclose(alone[head], scores[7:8], rtol=0, atol=1e-4)
    unified = torch.jit.load(str(build / "unified.pt"))
    surface = torch.arange(24) % 2
    together = unified({name: torch.from_numpy(x) for name, x in inputs.items()}, surface)
    for head, scores in wanted.items():
        np.testing.assert_allclose(together[head][surface == 0], scores[::2], rtol=0, atol=1e-4)
