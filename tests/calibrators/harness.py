"""Runs one calibrator by itself: the only file of these tests that knows how a calibrator is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from towerspec.emit import python, reference, torchscript
from towerspec.ir.builder import Builder, Scope
from towerspec.ir.graph import Graph, Output
from towerspec.ir.primitives import Ids, Init, Input
from towerspec.ir.types import Level
from towerspec.ir.verify import verify
from towerspec.layers.base import kinds
from towerspec.layers.calibrators import Calibrator, Cells
from towerspec.layers.heads import Head
from towerspec.passes import optimise

PLACE = "surfaces.search.click.calibrate"  # parameters are named below it
Params = dict[str, np.ndarray]
CELLS = 3  # how many values the key has


@dataclass(frozen=True)
class Case:
    """A calibrator of one kind for a head of one kind, with one cell or with one for each value of a key."""

    kind: str
    head: str
    options: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        return " ".join([self.kind, self.head, *(f"{name}={value}" for name, value in self.options)])

    @property
    def calibrator(self) -> Calibrator:
        made = kinds("calibrator")[self.kind](**dict(self.options))
        assert isinstance(made, Calibrator)
        return made

    @property
    def width(self) -> int:
        return 4 if self.head == "multiclass" else 1

    def graph(self, keyed: bool = False) -> Graph:
        """From an input `z` that is the logit, and an input `key` of any integers where there is one."""
        head = kinds("head")[self.head](**({"classes": self.width} if self.width > 1 else {}))
        assert isinstance(head, Head)
        scope = Scope(Builder(), PLACE, "search")
        z = scope.op(Input("z", Level.CANDIDATE, (self.width,), "float"))
        cells = Cells(scope)
        if keyed:
            key = scope.op(Ids(CELLS, CELLS, CELLS), scope.op(Input("key", Level.CANDIDATE, (), "int")))
            cells = Cells(scope, key, CELLS)
        y = self.calibrator.lower(scope, z, head, cells)
        outputs = (Output("search", "click", self.head, z.id, y.id),)
        return verify(Graph("test", ("search",), tuple(scope.builder.ops.values()), outputs, "search"))

    def initial(self, keyed: bool = False) -> Params:
        """The parameters as they begin, by name."""
        graph = self.graph(keyed)
        assert not any(p.trainable for _, p in graph.params)  # the training loss never moves them
        return {p.path.removeprefix(f"{PLACE}."): begin(p.init, p.shape) for _, p in graph.params}

    def run(self, z: np.ndarray, params: Params | None = None, key: np.ndarray | None = None) -> np.ndarray:
        """The reference's predictions for logits `[N]`, or `[N, K]` of a multiclass head."""
        graph = self.graph(key is not None)
        numbers = params or self.initial(key is not None)
        given = {f"{PLACE}.{name}": torch.from_numpy(value) for name, value in numbers.items()}
        with torch.no_grad():
            values = reference.run(graph, self._feed(z, key), given, len(z))
        return values[graph.outputs[0].prediction].numpy().reshape(z.shape)

    def serve(self, z: np.ndarray, params: Params, key: np.ndarray | None = None) -> np.ndarray:
        """The predictions of the generated code, scripted, in float32."""
        graph = optimise(self.graph(key is not None), "search")
        module = torchscript.load_source(python.render_surface(graph, "test.tower").source, "search")
        given = {f"{PLACE}.{name}": torch.from_numpy(value).float() for name, value in params.items()}
        scripted = torchscript.freeze(torchscript.fill(module.Search(), given))
        feed = self._feed(z, key)
        feed["z"] = feed["z"].float()
        with torch.no_grad():
            return scripted(*(feed[i.feature] for _, i in graph.inputs))[0].numpy().reshape(z.shape)

    def _feed(self, z: np.ndarray, key: np.ndarray | None) -> dict[str, torch.Tensor]:
        feed = {"z": torch.from_numpy(z.reshape(len(z), self.width))}
        return feed if key is None else {**feed, "key": torch.from_numpy(key)}


def begin(init: Init, shape: tuple[int, ...]) -> np.ndarray:
    """What a parameter holds before anything is fitted."""
    if init.kind == "range":
        return np.broadcast_to(np.linspace(*init.values, shape[-1]), shape).copy()
    return np.full(shape, {"zeros": 0.0, "ones": 1.0}[init.kind])
