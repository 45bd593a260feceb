"""One colour a surface, from palettes that people with any colour vision can tell apart."""

from __future__ import annotations

# Okabe and Ito 2008, Color Universal Design, without its yellow and black, then Tol 2021, "muted", where it differs.
COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#882255",
    "#999933",
    "#332288",
    "#44aa99",
)


def colour(index: int) -> str:
    """The colour of the lane with this number; they begin anew after the last.

    >>> colour(0), colour(len(COLOURS)) == colour(0)
    ('#0072b2', True)
    """
    return COLOURS[index % len(COLOURS)]
