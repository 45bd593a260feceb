"""Faults in an optimised graph's code, one at a time: what an op makes is changed between it and its readers."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from towerspec.check import check
from towerspec.emit import constants, torchscript
from towerspec.emit.build import Options
from towerspec.emit.names import class_name
from towerspec.emit.python import render_model, render_surface
from towerspec.emit.torchscript import widened
from towerspec.emit.verify import DOUBLE, Served, Verifier, compare
from towerspec.emit.verify.checks import widen
from towerspec.ir.graph import Op
from towerspec.ir.primitives import Input
from towerspec.passes import optimise, slice_surface
from towerspec.watch import Watch

Fault = Callable[[Tensor], Tensor]


def fault_of(op: Op) -> Fault:
    """Another result: numbers half as large again and shifted, other rows of a table, a mask's opposite."""
    if op.type.dtype == "bool":
        return torch.logical_not
    if op.type.dtype == "int":
        return lambda x: torch.where(x > 0, x - 1, x + 1)
    return lambda x: x * 1.5 + 0.25


class Planted:
    """A surface's generated code with a place for a fault behind each op, and the verifier that compares it."""

    def __init__(
        self, spec: Path, surface: str, level: int = 2, without: Sequence[str] = (), logits: bool = False
    ) -> None:
        self.verifier, self.surface = verifier(spec), surface
        self.sliced = self.verifier.slices[surface]
        optimised = optimise(self.verifier.graph, surface, level, without, logits)
        self.folded, self.mine = constants.fold(optimised, self.verifier.weights)
        rendered = render_surface(self.folded, str(spec), logits)
        self.placed: set[str] = set()
        source = self._with_places(rendered.source, rendered.variables)
        module = torchscript.load_source(source, surface)
        module.__dict__["_planted"] = self._planted
        self.module: nn.Module = getattr(module, rendered.cls)().eval()
        self.active: tuple[str, Fault] | None = None

    def _with_places(self, source: str, variables: dict[str, dict[str, str]]) -> str:
        tree = ast.parse(source)
        for function in (f for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) and f.name in variables):
            arguments = {a.arg for a in function.args.args}
            for name, id_ in variables[function.name].items():
                op = self.folded.by_id[id_]
                places = [i for i, statement in enumerate(function.body) if name in _assigned(statement)]
                if not places and not (isinstance(op.prim, Input) and function.name == "forward" and name in arguments):
                    continue  # a value from around the function, or a parameter
                self.placed.add(id_)
                call = ast.parse(f"{name} = _planted({id_!r}, {name})").body[0]
                function.body.insert(places[-1] + 1 if places else 0, call)
        return ast.unparse(ast.fix_missing_locations(tree))

    def _planted(self, id_: str, x: Tensor) -> Tensor:
        return self.active[1](x) if self.active and id_ == self.active[0] else x

    @property
    def ops(self) -> list[Op]:
        """The ops behind which there is a place."""
        return [op for op in self.folded.ops if op.id in self.placed]

    @cached_property
    def _wide(self) -> nn.Module:
        return widened(self.module, self.mine)

    def refuses(self, op: Op, fault: Fault | None = None) -> bool:
        """Whether the verifier notices a fault in what an op makes."""
        self.active = (op.id, fault or fault_of(op))
        try:
            return self.differs()
        finally:
            self.active = None

    def refuses_weights(self, path: str, change: Fault) -> bool:
        """Whether it notices other numbers in a parameter."""
        return self.differs(widened(self.module, {**self.mine, path: change(self.mine[path].clone())}))

    def narrow(self, weights: Mapping[str, Tensor] | None = None) -> nn.Module:
        """The code in float32, with its weights or others, as a file has it."""
        return torchscript.fill(type(self.module)().eval().requires_grad_(False), weights or self.mine)

    def verify(self, eager: nn.Module, served: Served, weights: Mapping[str, Tensor] | None = None) -> None:
        """What a compile does with a surface's module and a file of it."""
        self.verifier.surface(self.surface, self.folded, weights or self.mine, False, eager, served)

    def differs(self, wide: nn.Module | None = None) -> bool:
        """Whether the code, with its weights or others, is not what the spec says."""
        wide = self._wide if wide is None else wide
        try:
            found, _ = compare(
                self.sliced,
                lambda *inputs: wide(*map(widen, inputs)),
                self.verifier.cases(self.surface).all,
                DOUBLE,
            )
        except (IndexError, RuntimeError, ValueError):  # it doesn't even run
            return True
        return found is not None


def _assigned(statement: ast.stmt) -> set[str]:
    """The names that a statement gives a value, anywhere in it."""
    targets = [t for node in ast.walk(statement) if isinstance(node, ast.Assign) for t in node.targets]
    return {n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)}


@cache
def verifier(spec: Path) -> Verifier:
    """A spec's verifier, with parameters that training might have left."""
    model, graph = check(spec).sound()
    slices = {surface: slice_surface(graph, surface) for surface in graph.surfaces}
    source = render_model(graph, slices, model.path)
    unified = getattr(torchscript.load_source(source, "model"), class_name(graph.model))(seed=0)
    tensors = torchscript.tensors(unified)
    wide = {name: lived_in(name, widen(x.detach())) for name, x in tensors.items()}
    return Verifier(model, graph, slices, wide, Options(), Watch())


def lived_in(path: str, x: Tensor) -> Tensor:
    """A parameter as training might leave it: no bias is 0, no scale 1, and no cell of a calibrator like another."""
    if not x.is_floating_point():
        return x
    generator = torch.Generator().manual_seed(sum(path.encode()))
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    last = path.rsplit(".", 1)[-1]
    if last in ("knots", "values"):
        low, high = float(x.min()), float(x.max())
        share = torch.rand(x.shape, generator=generator, dtype=x.dtype)
        return (low + (high - low) * (0.3 + 0.4 * share)).sort(-1).values
    if last == "edges":  # ages
        return (15 + 70 * torch.rand(x.shape, generator=generator, dtype=x.dtype)).sort(-1).values
    if last in ("std", "var", "temperature", "high", "a", "b"):
        return x * (0.7 + 0.6 * torch.rand(x.shape, generator=generator, dtype=x.dtype))
    return x if last == "weight" and bool(x.any()) else x + 0.1 * noise
