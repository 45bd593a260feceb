"""What is wrong with an option's value, in the language's words rather than pydantic's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args, get_origin

from pydantic_core import ErrorDetails

from towerspec.diagnostics import did_you_mean
from towerspec.layers.base import Kind

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "finite_number": "a number",
    "bool": "`true` or `false`",
    "string": "a word",
    "tuple": "a list",
}
_BOUNDS = {
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "greater_than": "more than {gt}",
    "less_than": "less than {lt}",
}


def wording(cls: type[Kind], details: Sequence[ErrorDetails]) -> str:
    """What a value must be, of all that pydantic says of it: a union has a finding for each of its members."""
    first = details[0]
    type_, ctx = first["type"], first.get("ctx", {})
    exact = _length(cls.model_fields[str(first["loc"][0])].annotation)
    if exact and type_ in ("missing", "too_short", "too_long"):
        return f"must be a list of {exact}"
    if type_ in ("too_short", "too_long"):
        side, count = ("at least", ctx["min_length"]) if type_ == "too_short" else ("at most", ctx["max_length"])
        return f"needs {side} {count} item{'s' if count != 1 else ''}"
    words = list(dict.fromkeys(map(_wanted, details)))
    return f"must be {' or '.join(words)}" if all(words) else "is not of the right type"


def _wanted(detail: ErrorDetails) -> str:
    type_, ctx = detail["type"], detail.get("ctx", {})
    if type_ in _BOUNDS:
        return _BOUNDS[type_].format(**ctx)
    if type_ == "literal_error":
        return str(ctx["expected"]).replace("'", "`")
    return next((text for word, text in _KINDS.items() if type_.startswith(word)), "")


def _length(annotation: Any) -> int | None:
    """How many items a list of a fixed length has."""
    if get_origin(annotation) is tuple and Ellipsis not in get_args(annotation):
        return len(get_args(annotation))
    return next((n for inner in get_args(annotation) if (n := _length(inner))), None)


def _leaves(annotation: Any) -> set[Any]:
    inner = get_args(annotation)
    return set().union(*map(_leaves, inner)) if inner else {annotation}


def wants_word(details: Sequence[ErrorDetails]) -> bool:
    """Whether a word may stand there, so that one which is none of a choice is a misspelt choice."""
    return any(d["type"] == "literal_error" or d["type"].startswith("string") for d in details)


def advice(cls: type[Kind], details: Sequence[ErrorDetails], text: str) -> str | None:
    """What to write instead."""
    detail, value = details[0], details[0]["input"]
    if detail["type"] == "tuple_type" and len(text) < 40:
        annotation = cls.model_fields[str(detail["loc"][0])].annotation
        return f"write `[{text}]`" if type(value) in _leaves(annotation) and not _length(annotation) else None
    if detail["type"] != "literal_error" or not isinstance(value, str):
        return None
    expected = str(detail.get("ctx", {})["expected"]).replace(" or ", ", ").replace("'", "")
    return did_you_mean(value, expected.split(", "))
