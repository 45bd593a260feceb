"""Frozen dataclasses that are quick to define.

`dataclasses.dataclass(frozen=True)` writes and compiles six methods for each class. For the hundred classes of syntax
trees, models and primitives that takes longer than a check does, so here all of them share five, and only `__init__`
is of a class's own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(*, frozen: bool) -> Callable[[type[C]], type[C]]:
        """A decorator as the standard one, for classes whose values never change once they are made.

        >>> @dataclass(frozen=True)
        ... class Size:
        ...     width: int
        ...     note: str = dataclasses.field(default="", compare=False)
        >>> Size(2, "a") == Size(2, "b"), len({Size(2), Size(2), Size(3)}), Size(3)
        (True, 2, Size(width=3, note=''))
        >>> Size(2).width = 3
        Traceback (most recent call last):
        dataclasses.FrozenInstanceError: cannot assign to field 'width'
        """
        assert frozen
        return _frozen


C = TypeVar("C")


def _frozen(cls: type[C]) -> type[C]:
    made: Any = dataclasses.dataclass(repr=False, eq=False)(cls)
    names = [f.name for f in dataclasses.fields(made) if f.compare]
    made._compared = attrgetter(*names) if names else _nothing
    for name in ("__setattr__", "__delattr__", "__eq__", "__hash__", "__repr__"):
        setattr(made, name, vars(_Methods)[name])
    return made


def _nothing(self: object) -> tuple[()]:
    return ()


class _Methods:
    """What the classes share, as the standard decorator would write it for each."""

    _compared: Callable[[object], object]

    def __setattr__(self, name: str, value: object) -> None:
        if name in self.__dict__:  # `__init__` sets each field once
            raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
        self.__dict__[name] = value

    def __delattr__(self, name: str) -> None:
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        compared = self.__class__._compared
        return compared(self) == compared(other)

    def __hash__(self) -> int:
        return hash(self.__class__._compared(self))

    def __repr__(self) -> str:
        fields: tuple[dataclasses.Field[object], ...] = dataclasses.fields(self)  # type: ignore[arg-type]
        shown = ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in fields if f.repr)
        return f"{self.__class__.__qualname__}({shown})"
