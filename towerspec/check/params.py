"""From a call's options to a checked kind, with each of pydantic's findings at the option it is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from towerspec.check.wording import advice, wants_word, wording
from towerspec.diagnostics import MOST, Label, Report, Span, did_you_mean, listing
from towerspec.layers.base import Kind
from towerspec.spelling import nearest
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
        found: dict[str, list[ErrorDetails]] = {}
        for detail in error.errors(include_url=False):
            found.setdefault(str(detail["loc"][0]) if detail["loc"] else "", []).append(detail)
        unknown = [name for name, details in found.items() if details[0]["type"] == "extra_forbidden"][:MOST]
        near = {nearest(name, cls.model_fields) for name in unknown}
        for name, details in found.items():
            missing = details[0]["type"] == "missing" and len(details[0]["loc"]) == 1
            # One that stands for another option is itself wrong, and one is not missing that is misspelt.
            if (name in given or missing or not name) and not (missing and name in near):
                _report(cls, name, details, given, at, what, report)
        return None


def _report(
    cls: type[Kind],
    name: str,
    details: list[ErrorDetails],
    given: Mapping[str, tree.Option],
    at: Span,
    what: str,
    report: Report,
) -> None:
    known, detail = list(cls.model_fields), details[0]
    if name not in given and name:
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
        said = f"these options of {what} don't go together" if given else f"{what} lacks options"
        report.error("T307", f"{said}: {message}", at)
    else:
        _value(cls, name, details, given[name], what, report)


def _value(
    cls: type[Kind], name: str, details: list[ErrorDetails], option: tree.Option, what: str, report: Report
) -> None:
    """Reports the first place of an option's value that is wrong."""
    place = _place(details[0])
    details = [d for d in details if _place(d) == place]
    value = _smallest(option.value, place)
    said, notes = wording(cls, details), _describe(cls, name)
    each = "" if value is option.value else "each of "
    if isinstance(value, tree.Ref) and not wants_word(details):
        constants = [name for names in value.meant for name in names]
        message = f"`{value.name}` is no constant, and {each}`{name}` of {what} {said}"
        help_ = did_you_mean(value.name, constants)
        report.error("T301", message, value.span, "not a constant", notes=notes, help=help_)
        return
    shown = value.span.text
    if shown.isidentifier() and shown != getattr(value, "name", str(getattr(value, "value", "")).lower()):
        notes = [*notes, f"`{shown}` stands for `{_written(plain(value))}` here"]
    label = "not one of these" if details[0]["type"] == "literal_error" else said
    report.error(
        "T301", f"{each}`{name}` of {what} {said}", value.span, label, notes=notes, help=advice(cls, details, shown)
    )


def _place(detail: ErrorDetails) -> list[int]:
    """Which item of a list a finding is about."""
    return [part for part in detail["loc"][1:] if isinstance(part, int)]


def _smallest(value: tree.Expr, indexes: list[int]) -> tree.Expr:
    for index in indexes:
        if isinstance(value, tree.ListExpr) and index < len(value.items):
            value = value.items[index]
    return value


def _written(value: Any) -> str:
    """Python data as a spec writes it; a long list is cut."""
    if isinstance(value, tuple):
        return f"[{listing((_written(item) for item in value[:9]), 8)}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _describe(cls: type[Kind], name: str) -> list[str]:
    description = cls.model_fields[name].description if name in cls.model_fields else None
    return [f"`{name}` is {description}"] if description else []
