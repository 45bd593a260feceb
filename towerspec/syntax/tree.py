"""The syntax tree: one frozen dataclass a construct, each with the span it was read from.

Spans take no part in equality, so that two trees are equal when they say the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field, fields, is_dataclass
from typing import Union

from towerspec.diagnostics import Span
from towerspec.frozen import dataclass


@dataclass(frozen=True)
class Node:
    """What every node has: the smallest span that holds all of it."""

    span: Span = field(compare=False, repr=False, kw_only=True)


# ---- expressions -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Name(Node):
    """An identifier where it is defined or referred to by a fixed construct."""

    text: str


@dataclass(frozen=True)
class Literal(Node):
    """An integer, a float, a string, `true` or `false`."""

    value: Union[int, float, str, bool]


@dataclass(frozen=True)
class Ref(Node):
    """A bare word in an expression: a value, a constant, a parameter of a template, or a choice such as `relu`.

    After expansion `meant` has the names of the constants and parameters that it could have been.
    """

    name: str
    meant: tuple[Mapping[str, object], ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True)
class ListExpr(Node):
    items: tuple[Expr, ...]


@dataclass(frozen=True)
class Option(Node):
    """`name: value`."""

    name: Name
    value: Expr


@dataclass(frozen=True)
class Call(Node):
    """`kind(input, …, option: value, …)`, of a layer or of a template."""

    kind: Name
    args: tuple[Expr, ...]
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Inline(Node):
    """A layer template's call, expanded: `bindings` are read outside, `body` inside; its last line is the result."""

    template: Name
    bindings: tuple[tuple[Name, Expr], ...]
    body: tuple[Assign, ...]


Expr = Union[Literal, Ref, ListExpr, Call, Inline]


# ---- statements ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Assign(Node):
    """`name = expression`."""

    name: Name
    value: Expr


@dataclass(frozen=True)
class Feature(Node):
    """`name : kind { options }`."""

    name: Name
    kind: Name
    options: tuple[Option, ...]


@dataclass(frozen=True)
class FeatureBlock(Node):
    """`request { … }` or `candidate { … }`."""

    level: str
    features: tuple[Feature, ...]


@dataclass(frozen=True)
class Fuse(Node):
    """`fuse value after depth with kind { options }`."""

    value: Name
    after: Expr
    kind: Name
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Head(Node):
    """`head name : kind(heads…) { options }`."""

    name: Name
    kind: Name
    args: tuple[Name, ...]
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Calibrate(Node):
    """`calibrate head with kind { options } by feature`."""

    head: Name
    kind: Name
    options: tuple[Option, ...]
    by: Name | None


@dataclass(frozen=True)
class Arm(Node):
    """One arm of a branch: the key's value, and the path it runs; `else` catches the remaining values."""

    label: Literal | Name
    items: tuple[TowerItem, ...]


@dataclass(frozen=True)
class Branch(Node):
    """`branch by key { arm { … } … }`."""

    key: Name
    arms: tuple[Arm, ...]


@dataclass(frozen=True)
class Tower(Node):
    """`tower from value { … }`; without `from` it starts at the trunk's last value."""

    start: Name | None
    items: tuple[TowerItem, ...]


TowerItem = Union[Option, Fuse, Branch, Head, Calibrate]
SurfaceItem = Union[Option, FeatureBlock, Assign, Tower, Calibrate]


# ---- top level -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Include(Node):
    path: Literal


@dataclass(frozen=True)
class Const(Node):
    name: Name
    value: Expr


@dataclass(frozen=True)
class Param(Node):
    """A template's parameter; without a default it must be given."""

    name: Name
    default: Expr | None


@dataclass(frozen=True)
class LayerTemplate(Node):
    """`template name(x, width: 64) { hidden = …  out = … }`: the last line is the result."""

    name: Name
    params: tuple[Param, ...]
    body: tuple[Assign, ...]


@dataclass(frozen=True)
class SurfaceTemplate(Node):
    """`template surface name(rows, depth: 2) { … }`."""

    name: Name
    params: tuple[Param, ...]
    items: tuple[SurfaceItem, ...]


@dataclass(frozen=True)
class Table(Node):
    """`table name { rows: …, dim: … }`."""

    name: Name
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Trunk(Node):
    body: tuple[Assign, ...]


@dataclass(frozen=True)
class Surface(Node):
    """`surface name { … }`, or `surface name = template(options) { … }`."""

    name: Name
    template: Call | None
    items: tuple[SurfaceItem, ...]


@dataclass(frozen=True)
class Train(Node):
    """`train { epochs: 3  seed: 1 }`."""

    options: tuple[Option, ...]


Item = Union[Include, Const, LayerTemplate, SurfaceTemplate, Table, FeatureBlock, Trunk, Surface, Train]


@dataclass(frozen=True)
class Spec(Node):
    """A whole file: the model's name and its declarations, in order."""

    name: Name | None
    items: tuple[Item, ...]


def walk(node: object) -> Iterator[Node]:
    """Every node below and including this one, parents first."""
    if isinstance(node, tuple):
        for child in node:
            yield from walk(child)
    elif is_dataclass(node) and isinstance(node, Node):
        yield node
        for f in fields(node):
            if f.name != "span":
                yield from walk(getattr(node, f.name))
