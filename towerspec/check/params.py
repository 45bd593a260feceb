"""From a call's options to a checked kind, with each of pydantic's findings at the option it is about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from towerspec.diagnostics import Label, Report, Span, did_you_mean, listing
from towerspec.layers.base import Kind
from towerspec.syntax import tree

K = TypeVar("K", bound=Kind)


def plain(value: tree.Expr) -> Any:
    """An option's value as Python data: words as strings, lists as tuples; a call stays a node."""
    if isinstance(value, tree.Literal):
        return value.value
    if isinstance(value, tree.Ref):
        return value.name
    if isinstance(value, tree.ListExpr):
        return tuple(plain(item) for item in value.items)
    return value


def options_by_name(options: Sequence[tree.Option], report: Report) -> dict[str, tree.Option]:
    """The options by name; one given twice is an error, and the first counts."""
    found: dict[str, tree.Option] = {}
    for option in options:
        first = found.setdefault(option.name.text, option)
        if first is not option:
            report.error(
                "T217",
                f"option `{option.name.text}` is given twice",
                option.name.span,
                "again here",
                labels=[Label(first.name.span, "first given here")],
            )
    return found


def build(cls: type[K], options: Sequence[tree.Option], at: Span, what: str, report: Report) -> K | None:
    """The kind with these options as its parameters, or none and what is wrong with them in the report."""
    given = options_by_name(options, report)
    try:
        return cls.model_validate({name: plain(option.value) for name, option in given.items()})
    except ValidationError as error:
        seen: set[str] = set()
        for detail in error.errors(include_url=False):
            name = str(detail["loc"][0]) if detail["loc"] else ""
            # A union reports once a member: the first says enough. One option that stands for another is itself wrong.
            stands_in = name and name not in given and detail["type"] != "missing"
            if name not in seen and not stands_in:
                seen.add(name)
                _report(cls, detail, name, given, at, what, report)
        return None


def _report(
    cls: type[Kind], detail: ErrorDetails, name: str, given: dict[str, tree.Option], at: Span, what: str, report: Report
) -> None:
    known = list(cls.model_fields)
    if detail["type"] == "missing":
        report.error(
            "T302", f"{what} needs the option `{name}`", at, f"`{name}` is missing", notes=_describe(cls, name)
        )
    elif detail["type"] == "extra_forbidden":
        notes = [f"{what} takes {listing(sorted(known))}"] if known else [f"{what} takes no options"]
        report.error(
            "T207",
            f"{what} has no option `{name}`",
            given[name].name.span,
            "not an option",
            notes=notes,
            help=did_you_mean(name, known),
        )
    elif not name:
        message = str(detail["ctx"]["error"]) if "ctx" in detail and "error" in detail["ctx"] else detail["msg"]
        report.error("T307", f"these options of {what} don't go together: {message}", at)
    else:
        span = _smallest(given[name].value, [part for part in detail["loc"][1:] if isinstance(part, int)])
        wording = _wording(cls, name, detail)
        each = "" if span == given[name].value.span else "each of "
        report.error(
            "T301",
            f"{each}`{name}` of {what} {wording}",
            span,
            wording if detail["type"] != "literal_error" else "not one of these",
            notes=_describe(cls, name),
            help=_choice(detail),
        )


def _smallest(value: tree.Expr, indexes: list[int]) -> Span:
    for index in indexes:
        if isinstance(value, tree.ListExpr) and index < len(value.items):
            value = value.items[index]
    return value.span


def _describe(cls: type[Kind], name: str) -> list[str]:
    description = cls.model_fields[name].description if name in cls.model_fields else None
    return [f"`{name}` is {description}"] if description else []


_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "`true` or `false`",
    "string": "a word",
    "tuple": "a list",
}


def _wording(cls: type[Kind], name: str, detail: ErrorDetails) -> str:
    """What is wrong with a value, in the language's words rather than pydantic's."""
    type_, ctx = detail["type"], detail.get("ctx", {})
    bounds = {
        "greater_than_equal": "at least {ge}",
        "less_than_equal": "at most {le}",
        "greater_than": "more than {gt}",
        "less_than": "less than {lt}",
    }
    if type_ in bounds:
        return f"must be {bounds[type_].format(**ctx)}"
    if type_ in ("too_short", "too_long"):
        side, count = ("at least", ctx["min_length"]) if type_ == "too_short" else ("at most", ctx["max_length"])
        return f"needs {side} {count} item{'s' if count != 1 else ''}"
    if type_ == "literal_error":
        return f"must be {ctx['expected'].replace(chr(39), '`')}"
    annotation = str(cls.model_fields[name].annotation).lower() if len(detail["loc"]) == 1 else ""
    for word, text in _KINDS.items():
        if type_.startswith(word) and (not annotation or word in annotation or word == "string"):
            return f"must be {text}"
    return "is not of the right type"


def _choice(detail: ErrorDetails) -> str | None:
    if detail["type"] != "literal_error" or not isinstance(detail["input"], str):
        return None
    expected = detail.get("ctx", {})["expected"].replace(" or ", ", ").replace("'", "")
    return did_you_mean(detail["input"], expected.split(", "))
