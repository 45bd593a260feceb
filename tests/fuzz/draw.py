"""Random draws: numbers, and the options of any kind that the registry holds, by what its fields say they take."""

from __future__ import annotations

import types
from collections.abc import Collection, Mapping, Sequence
from random import Random
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from towerspec.layers.base import Kind

T = TypeVar("T")
TRIES = 60
FLOATS = (0.0, 0.25, 0.5, 1.0, 2.0, 3.5)


class Stuck(Exception):
    """A kind took none of the options that were drawn for it."""


class Draw(Random):
    """A generator of one spec's choices; `common` is a width that many of its values share."""

    def __init__(self, seed: object) -> None:
        super().__init__(str(seed))
        self.common = self.choice([2, 3, 4, 4, 6])

    def chance(self, p: float) -> bool:
        return self.random() < p

    def some(self, items: Sequence[T], least: int = 0) -> list[T]:
        """Several of the items, in their order."""
        count = self.randint(min(least, len(items)), len(items))
        picked = set(self.sample(range(len(items)), count))
        return [item for i, item in enumerate(items) if i in picked]


def options(
    draw: Draw, cls: type[Kind], fixed: Mapping[str, Any] | None = None, skip: Collection[str] = ()
) -> dict[str, Any]:
    """Options that a kind takes: the fixed ones, the required ones, and others by chance.

    Raises `Stuck` where the kind refuses all that is drawn.
    """
    fixed = fixed or {}
    for _ in range(TRIES):
        found = dict(fixed)
        for name, info in cls.model_fields.items():
            if name not in fixed and name not in skip and (info.is_required() or draw.chance(0.4)):
                found |= _option(draw, name, info)
        try:
            cls.model_validate(found)
        except ValidationError:
            continue
        return found
    raise Stuck(f"{cls.category} {cls.kind} with {fixed}")


def _option(draw: Draw, name: str, info: FieldInfo) -> dict[str, Any]:
    """One option, or none where only its kind knows what it may be and it can be left out."""
    try:
        return {name: value(draw, info.annotation, _bounds(info))}
    except Stuck:
        if info.is_required():
            raise
        return {}


def _bounds(info: Any) -> dict[str, Any]:
    """What an annotation's metadata say: `ge`, `gt`, `le`, `lt`, `min_length`, `max_length`."""
    found: dict[str, Any] = {}
    for mark in getattr(info, "metadata", ()):
        if isinstance(mark, FieldInfo):
            found |= _bounds(mark)
        for name in ("ge", "gt", "le", "lt", "min_length", "max_length"):
            if getattr(mark, name, None) is not None:
                found[name] = getattr(mark, name)
    return found


def value(draw: Draw, annotation: Any, bounds: Mapping[str, Any]) -> Any:
    """A value of an annotated type: mostly small, since what is large takes long and finds little."""
    origin, args = get_origin(annotation), get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        return value(draw, annotation.__origin__, {**bounds, **_bounds(_Marks(annotation.__metadata__))})
    if origin is Literal:
        return draw.choice(args)
    if origin in (Union, types.UnionType):
        return value(draw, draw.choice([a for a in args if a is not type(None)]), bounds)
    if origin is tuple:
        return _list(draw, args, bounds)
    if annotation is bool:
        return draw.chance(0.5)
    if annotation is int:
        return _whole(draw, bounds)
    if annotation is float:
        return _number(draw, bounds)
    raise Stuck(f"nothing is known about values of {annotation}")


class _Marks:
    def __init__(self, metadata: Sequence[Any]) -> None:
        self.metadata = metadata


def _list(draw: Draw, args: tuple[Any, ...], bounds: Mapping[str, Any]) -> tuple[Any, ...]:
    if args[-1] is not Ellipsis:
        return tuple(sorted(value(draw, a, {}) for a in args))
    least = bounds.get("min_length", 0)
    return tuple(value(draw, args[0], {}) for _ in range(least + draw.choice([0, 0, 1, 1, 2])))


def _whole(draw: Draw, bounds: Mapping[str, Any]) -> int:
    low = bounds.get("ge", bounds.get("gt", -4) + 1)
    high = min(bounds.get("le", bounds.get("lt", low + 8) - 1), low + 5)
    if low <= draw.common <= bounds.get("le", draw.common) and draw.chance(0.5):
        return draw.common
    return min(draw.randint(low, high), draw.randint(low, high))


def _number(draw: Draw, bounds: Mapping[str, Any]) -> float:
    low, high = bounds.get("ge", bounds.get("gt", -3.0)), bounds.get("le", bounds.get("lt", 4.0))
    allowed = [x for x in FLOATS if low <= x <= high and x != bounds.get("gt") and x != bounds.get("lt")]
    if allowed and draw.chance(0.5):
        return draw.choice(allowed)
    return round(draw.uniform(low, min(high, low + 4.0)), draw.choice([1, 3, 6]))
