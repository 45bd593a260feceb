"""The constants and templates that a spec declares, and what has a name that one of them has already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from towerspec.diagnostics import Label, Report
from towerspec.syntax import tree

Template = tree.LayerTemplate | tree.SurfaceTemplate


@dataclass
class Declarations:
    """The constants and templates by name."""

    consts: dict[str, tree.Const] = field(default_factory=dict)
    layers: dict[str, tree.LayerTemplate] = field(default_factory=dict)
    surfaces: dict[str, tree.SurfaceTemplate] = field(default_factory=dict)


def declarations(items: Sequence[tree.Item], report: Report) -> Declarations:
    """All of a spec's; reports a name that is defined twice (T210), or hides a constant (T211)."""
    found = Declarations()
    first: dict[str, tree.Name] = {}
    for item in items:
        if not isinstance(item, (tree.Const, tree.LayerTemplate, tree.SurfaceTemplate)):
            continue
        if _twice(item.name, first, report):
            continue
        if isinstance(item, tree.Const):
            found.consts[item.name.text] = item
            continue
        _parameters(item, report)
        if isinstance(item, tree.LayerTemplate):
            found.layers[item.name.text] = item
        else:
            found.surfaces[item.name.text] = item
    _shadows(items, found.consts, report)
    return found


def _twice(name: tree.Name, first: dict[str, tree.Name], report: Report) -> bool:
    other = first.setdefault(name.text, name)
    if other is not name:
        report.error(
            "T210",
            f"`{name.text}` is defined twice",
            name.span,
            "defined again here",
            labels=[Label(other.span, "first defined here")],
        )
    return other is not name


def _parameters(item: Template, report: Report) -> None:
    first: dict[str, tree.Name] = {}
    for param in item.params:
        _twice(param.name, first, report)
    for name in defined(item.body if isinstance(item, tree.LayerTemplate) else item.items):
        if name.text in first:
            _twice(name, first, report)


def _shadows(items: Sequence[tree.Item], consts: dict[str, tree.Const], report: Report) -> None:
    """Reports each value, table, surface and parameter with a constant's name: readers would take one for the other.

    The constant gives way, so that what the name means is decided where it is defined.
    """
    for name in defined(tuple(items)):
        constant = consts.pop(name.text, None)
        if constant is not None:
            report.error(
                "T211",
                f"`{name.text}` hides the constant `{name.text}`",
                name.span,
                "would hide the constant",
                labels=[Label(constant.name.span, "the constant is defined here")],
                help="give one of them another name",
            )


_PARTS: dict[type[tree.Node], tuple[str, ...]] = {}


def parts_of(cls: type[tree.Node]) -> tuple[str, ...]:
    """The fields of a kind of node that may hold nodes."""
    if cls not in _PARTS:
        _PARTS[cls] = tuple(f.name for f in fields(cls) if f.name != "span")
    return _PARTS[cls]


def defined(node: object) -> Iterator[tree.Name]:
    """The names of all values, features, parameters, tables and surfaces below a node."""
    if isinstance(node, tuple):
        for child in node:
            yield from defined(child)
    elif isinstance(node, tree.Node):
        if isinstance(node, (tree.Assign, tree.Feature, tree.Param, tree.Table, tree.Surface)):
            yield node.name
        kind: Any = type(node)
        for name in parts_of(kind):
            yield from defined(getattr(node, name))
