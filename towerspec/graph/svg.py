"""SVG."""

from __future__ import annotations

from towerspec.graph.diagram import Diagram


def to_svg(diagram: Diagram) -> str:
    """Later."""
    return "<svg xmlns='http://www.w3.org/2000/svg'/>"
