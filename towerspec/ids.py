"""When a text and a whole number are one id, and what the `values` of a spec are: the rule of docs/inputs.md."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Union

Raw = Union[int, str]
MISSING = -1  # the id that stands for none
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,19}", re.ASCII)
_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?", re.ASCII)
VALUES = range(-(2**63), 2**63 - 1)  # an id that is too large becomes 2^63 - 1, which must be no value


def whole(text: str) -> int | None:
    """The whole number of at most 64 bits, with or without a sign, that a text is the usual decimal form of.

    >>> whole("100"), whole("-5"), whole("007"), whole("1.0"), whole("anna")
    (100, -5, None, None, None)
    """
    number = int(text) if _WHOLE.fullmatch(text) else None
    return number if number is not None and -(2**63) <= number < 2**64 else None


def signed(number: int) -> int:
    """The signed number with the same 64 bits.

    >>> signed(2**64 - 2), signed(5)
    (-2, 5)
    """
    return number - 2**64 if 2**63 <= number < 2**64 else number


def usual(id_: Raw) -> Raw:
    """An id of a vocabulary in the one form that all of its forms have: 100 for 100 and "100".

    >>> usual("100"), usual(100), usual("007")
    (100, 100, '007')
    """
    number = whole(id_) if isinstance(id_, str) else id_
    return id_ if number is None else signed(number)


def typed(values: Iterable[Raw]) -> tuple[Raw, ...]:
    """A spec's `values` with those that are whole numbers as numbers, in quotes or not.

    >>> typed([1, "2", "02", "two"])
    (1, 2, '02', 'two')

    Raises:
        ValueError: one is a whole number beyond 64 bits.
    """
    found = tuple(value if isinstance(value, int) or whole(value) is None else int(value) for value in values)
    if any(isinstance(value, int) and value not in VALUES for value in found):
        raise ValueError("`values` holds a whole number that is not between -2^63 and 2^63 - 2")
    return found


def by_value(values: Iterable[Raw]) -> bool:
    """Whether a number that is given stands for a value, not for a place among them: where any value is a number.

    >>> by_value(["grid", "closeup"]), by_value([1, 2]), by_value(["01", "02"])
    (False, True, True)
    """
    return any(isinstance(value, int) or _NUMBER.fullmatch(value) is not None for value in values)
