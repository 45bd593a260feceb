"""Runs one layer by itself: the only file of these tests that knows how a layer is computed."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any, Union

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from towerspec.emit import aoti, constants, python, reference, torchscript
from towerspec.ir.builder import Builder, Scope, Sequence, Value
from towerspec.ir.cost import op_flops
from towerspec.ir.graph import Graph, Output
from towerspec.ir.primitives import Input, Mask, Param
from towerspec.ir.types import Level
from towerspec.ir.verify import verify
from towerspec.layers.base import Layer, Tensor, kinds
from towerspec.passes import optimise

PLACE = "trunk.y"  # the statement's path; parameters are named below it


@dataclass(frozen=True)
class Seq:
    """A padded list of vectors: values `[N, L, D]`, and which of them are there, `[N, L]`."""

    values: np.ndarray
    mask: np.ndarray


Array = Union[np.ndarray, Seq]


@dataclass(frozen=True)
class Lowered:
    """A layer's op graph and the ids of its result: a value, and a mask where it is a sequence."""

    graph: Graph
    result: str
    mask: str | None


@dataclass(frozen=True)
class Run:
    """What a layer gave, its parameters by name, and its matrix products' operations: as declared, and as counted."""

    output: np.ndarray
    mask: np.ndarray | None
    params: dict[str, np.ndarray]
    declared_flops: int
    counted_flops: int


def make(kind: str, **options: Any) -> Layer:
    """A layer of a kind, its options checked."""
    made = kinds("layer")[kind](**options)
    assert isinstance(made, Layer)
    return made


def lower(
    layer: Layer,
    inputs: tuple[Array, ...],
    levels: tuple[Level, ...] = (),
    surface: str = "search",
    builder: Builder | None = None,
) -> Lowered:
    """The layer as one statement of the trunk, lowered for a surface; with a builder, after what is already in it."""
    builder = builder or Builder()
    scope = Scope(builder, PLACE, surface)
    levels = levels or tuple(Level.CANDIDATE for _ in inputs)
    operands = [_operand(scope, i, x, level) for i, (x, level) in enumerate(zip(inputs, levels, strict=True))]
    made = layer.lower(scope, *operands)
    value, mask = (made.value, made.mask) if isinstance(made, Sequence) else (made, None)
    outputs = (Output(surface, "y", "regression", value.id, value.id),)
    graph = verify(Graph("test", (surface,), tuple(builder.ops.values()), outputs, surface))
    return Lowered(graph, value.id, mask.id if mask else None)


def _operand(scope: Scope, index: int, x: Array, level: Level) -> Tensor:
    def read(name: str, shape: tuple[int, ...], dtype: str) -> Value:
        place = Scope(scope.builder, f"features.{name}", scope.surface)
        return scope.use(place.op(Input(name, level, shape, dtype), hint="input"))

    if isinstance(x, Seq):
        values = read(f"x{index}", x.values.shape[1:], "float")
        return Sequence(values, scope.op(Mask(), read(f"ids{index}", x.mask.shape[1:], "int")))
    return read(f"x{index}", x.shape[1:], "float")


def run(
    layer: Layer,
    *inputs: Array,
    levels: tuple[Level, ...] = (),
    rows: int | None = None,
    params: dict[str, np.ndarray] | None = None,
) -> Run:
    """The layer's result on these inputs, in float64, with parameters that are random unless they are given."""
    lowered = lower(layer, inputs, levels)
    graph, feed = lowered.graph, _feed(inputs)
    rows = len(feed["x0"]) if rows is None else rows
    numbers = {p.path: (params or {}).get(_short(p.path), _random(p)) for _, p in graph.params}
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        values = reference.run(graph, feed, {k: torch.from_numpy(v) for k, v in numbers.items()}, rows)
    flops = op_flops(graph)
    declared = sum(flops[op.id] * len(values[op.id]) for op in graph.ops if flops[op.id])
    mask = values[lowered.mask].numpy() if lowered.mask else None
    short = {_short(path): value for path, value in numbers.items()}
    return Run(values[lowered.result].numpy(), mask, short, declared, counter.get_total_flops())


def serve(layer: Layer, *inputs: Array, level: int = 2, cpu: str = "any") -> tuple[np.ndarray, np.ndarray]:
    """The layer's result from its generated code, scripted and loaded, in float32; and its graph's reference."""
    lowered = lower(layer, inputs)
    graph, feed = optimise(lowered.graph, "search", level, cpu=cpu), _feed(inputs)
    graph, params = constants.fold(graph, {p.path: torch.from_numpy(_random(p)).float() for _, p in graph.params})
    feed = {name: x.float() if x.is_floating_point() else x for name, x in feed.items()}
    module = torchscript.load_source(python.render_surface(graph, "test.tower").source, "search")
    scripted = torchscript.freeze(torchscript.fill(module.Search().eval(), params))
    scripted = torchscript.from_bytes(torchscript.to_bytes(scripted))
    with torch.no_grad():
        served = scripted(*(feed[i.feature] for _, i in graph.inputs))[0]
    return served.numpy(), reference.run(graph, feed, params, len(feed["x0"]))[graph.outputs[0].prediction].numpy()


def exported(layer: Layer, *inputs: Array, rows: tuple[int, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
    """For the first so many rows: the result of the layer's exported program, in float32, and the reference's."""
    lowered = lower(layer, inputs)
    graph, feed = optimise(lowered.graph, "search"), _feed(inputs)
    params = {p.path: torch.from_numpy(_random(p)).float() for _, p in graph.params}
    feed = {name: x.float() if x.is_floating_point() else x for name, x in feed.items()}
    module = torchscript.load_source(python.render_surface(graph, "test.tower", traceable=True).source, "search")
    model = torchscript.fill(module.Search(), params).eval().requires_grad_(False)
    names = [i.feature for _, i in graph.inputs]
    program = aoti.export(model, [{"shape": ["N"]}] * len(names), [feed[name] for name in names]).module()
    found = []
    for count in rows:
        some = {name: feed[name][:count] for name in names}
        wanted = reference.run(graph, some, params, count)[graph.outputs[0].prediction]
        found.append((program(*some.values())[0].numpy(), wanted.numpy()))
    return found


def gradient(layer: Layer, *inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The layer's result, and the gradient of its sum by the first input."""
    lowered, feed = lower(layer, inputs), _feed(inputs)
    x = feed["x0"].requires_grad_()
    params = {p.path: torch.from_numpy(_random(p)) for _, p in lowered.graph.params}
    result = reference.run(lowered.graph, feed, params, len(x))[lowered.result]
    return result.detach().numpy(), torch.autograd.grad(result.sum(), x)[0].numpy()


def _feed(inputs: tuple[Array, ...]) -> dict[str, torch.Tensor]:
    found = {}
    for i, x in enumerate(inputs):
        found[f"x{i}"] = torch.from_numpy(x.values if isinstance(x, Seq) else x)
        if isinstance(x, Seq):
            found[f"ids{i}"] = torch.from_numpy(np.where(x.mask, 0, -1))
    return found


def _short(path: str) -> str:
    return path.removeprefix(f"{PLACE}.")


def _random(param: Param) -> np.ndarray:
    """Numbers that depend on the parameter's name and shape alone; a variance is above zero."""
    made = np.random.default_rng(zlib.crc32(param.path.encode())).normal(0.0, 0.7, param.shape)
    return np.abs(made) + 0.3 if param.path.endswith("var") else made
