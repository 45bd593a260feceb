"""What a layer kind is, and the registry that grammar, checker, documentation and tests read.

A kind is one class: its fields are its parameters, its docstring says what it computes and where that
was published, and `lower` writes it in primitives. Shapes, levels, cost, gradients and generated
code follow from the primitives.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NoReturn, Union

from pydantic import BaseModel, ConfigDict, Field

from towerspec.ir.builder import Scope, Sequence, Value
from towerspec.ir.types import ShapeError

Tensor = Union[Value, Sequence]  # what a layer's input may be where it takes both
Width = Annotated[int, Field(ge=1, le=65536)]
Depth = Annotated[int, Field(ge=1, le=256)]
Rate = Annotated[float, Field(ge=0.0, lt=1.0)]
Activation = Literal["identity", "relu", "gelu", "silu", "sigmoid", "tanh", "elu", "leaky_relu", "softplus"]
Norm = Literal["none", "layer", "batch"]

_DEFINES = re.compile(r'^    kind = "(\w+)"$', re.MULTILINE)
CATEGORIES = ("block", "feature", "layer", "fusion", "head", "calibrator")
_REGISTRY: dict[str, dict[str, type[Kind]]] = {category: {} for category in CATEGORIES}


class Kind(BaseModel):
    """The base of everything that a spec can name and give parameters: `kind(…, parameter: value)`."""

    # A kind's validator is built when a spec first names it: most specs name few.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)

    category: ClassVar[str]
    kind: ClassVar[str]
    example: ClassVar[str] = ""  # one statement for the reference, compiled by the tests
    also: ClassVar[tuple[str, ...]] = ()  # what others call it; where one of these is written, this kind is proposed

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        if "kind" not in cls.__dict__:
            return
        known = _REGISTRY[cls.category]
        other = known.get(cls.kind)
        if other is not None and (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(f"{cls.category} kind {cls.kind!r} is already {other.__module__}.{other.__qualname__}")
        known[cls.kind] = cls


class LayerError(ShapeError):
    """A layer can't take these inputs or parameters together; `at` is the input's index or the parameter's name."""

    def __init__(self, message: str, at: int | str | None = None, help: str | None = None) -> None:
        super().__init__(message)
        self.at, self.help = at, help


def fail(message: str, at: int | str | None = None, help: str | None = None) -> NoReturn:
    raise LayerError(message, at, help)


class Layer(Kind):
    """An operation of the trunk or of a surface: `name = kind(inputs…, parameters)`.

    The annotations of `lower` say what it takes: `Value` a vector, `Sequence` a sequence, `Tensor` either;
    `*xs` any number of them.
    """

    category = "layer"

    def lower(self, b: Scope, *inputs: Any, **kwargs: Any) -> Tensor:
        raise NotImplementedError(f"layer kind {self.kind!r} has no lower")


class Fusion(Kind):
    """How a surface's module joins its tower: `fuse x after k with kind`. `h` is the tower so far."""

    category = "fusion"

    def lower(self, b: Scope, h: Value, x: Value) -> Value:
        raise NotImplementedError(f"fusion kind {self.kind!r} has no lower")


def signature(kind: type[Kind]) -> list[tuple[str, str, bool]]:
    """The inputs that a kind's `lower` takes after the scope: name, type's name, and whether it is `*name`."""
    return _inputs(kind.lower)  # type: ignore[attr-defined]


@functools.cache
def _inputs(lower: Callable[..., Any]) -> list[tuple[str, str, bool]]:
    parameters = list(inspect.signature(lower).parameters.values())[2:]
    return [(p.name, str(p.annotation).split(".")[-1], p.kind is p.VAR_POSITIONAL) for p in parameters]


@functools.cache
def _files() -> dict[str, list[str]]:
    """For each file of this folder, as a module's name, the kinds that its text defines."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return {f"towerspec.layers.{file.stem}": _DEFINES.findall(file.read_text(encoding="utf-8")) for file in files}


@functools.cache
def _load() -> None:
    for module in _files():
        importlib.import_module(module)
    from importlib.metadata import entry_points

    for entry in entry_points(group="towerspec.layers"):
        entry.load()


def kinds(category: str) -> Mapping[str, type[Kind]]:
    """All kinds of a category by name: the built-in ones and those that installed packages add.

    A package adds its own by an entry point in the group `towerspec.layers` that names a module.
    """
    _load()
    return dict(sorted(_REGISTRY[category].items()))


def find(category: str, name: str) -> type[Kind] | None:
    """The kind of this name, as `kinds(category).get(name)` has it; what else there is need not be imported.

    >>> find("fusion", "gate").__module__, find("layer", "gatd")
    ('towerspec.layers.fusions', None)
    """
    if name not in _REGISTRY[category]:
        for module in [module for module, defined in _files().items() if name in defined]:
            importlib.import_module(module)
    return _REGISTRY[category].get(name) or kinds(category).get(name)
