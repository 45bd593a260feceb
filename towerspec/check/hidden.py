"""Constants and templates that have a name of the registry, and would take its place without a word."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, get_args, get_origin

from towerspec.diagnostics import Report
from towerspec.layers.base import CATEGORIES, find, kinds
from towerspec.syntax import tree


def check_hidden(items: Iterable[tree.Item], report: Report) -> None:
    """Reports a layer template named as a layer, and a constant that stands for a word and is named as a choice."""
    constants = []
    for item in items:
        if isinstance(item, tree.LayerTemplate) and (kind := find("layer", item.name.text)) is not None:
            _hides(item.name, f"the layer `{kind.kind}`", "would hide the layer", report)
        elif isinstance(item, tree.Const) and _is_word(item.value):
            constants.append(item.name)
    every = [kind for category in CATEGORIES for kind in kinds(category).values()] if constants else []
    choices = {choice for kind in every for choice in _choices(kind)}
    for name in constants:
        if name.text in choices:
            _hides(name, f"the word `{name.text}`", "would hide an option's choice", report)


def _hides(name: tree.Name, what: str, label: str, report: Report) -> None:
    report.error("T211", f"`{name.text}` hides {what}", name.span, label, help="give it another name")


def _is_word(value: tree.Expr) -> bool:
    return isinstance(value, tree.Ref) or (isinstance(value, tree.Literal) and isinstance(value.value, str))


def _choices(annotation: Any) -> Iterable[str]:
    """The words that a kind's options choose from."""
    if hasattr(annotation, "model_fields"):
        for field in annotation.model_fields.values():
            yield from _choices(field.annotation)
    elif get_origin(annotation) is Literal:
        yield from (word for word in get_args(annotation) if isinstance(word, str))
    else:
        for inner in get_args(annotation):
            yield from _choices(inner)
