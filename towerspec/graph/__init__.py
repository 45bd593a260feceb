"""Pictures of a spec: the trunk, a tower for each surface, fusions and calibration, without torch.

`make.py` turns a checked spec into a `Diagram`, and each renderer turns that into text of its own form.
"""

from __future__ import annotations

from collections.abc import Callable

from towerspec.check import Checked
from towerspec.graph.diagram import Diagram
from towerspec.graph.dot import to_dot
from towerspec.graph.make import make_diagram
from towerspec.graph.mermaid import to_mermaid
from towerspec.graph.svg import to_svg

__all__ = ["RENDERERS", "Diagram", "make_diagram", "render"]

RENDERERS: dict[str, Callable[[Diagram], str]] = {"svg": to_svg, "dot": to_dot, "mermaid": to_mermaid}


def render(checked: Checked, form: str = "svg") -> str:
    """The picture of a spec as text: `svg`, `dot` or `mermaid`. Raises `SpecError` where the spec has errors.

    >>> from towerspec.check import check_text
    >>> spec = "model m candidate { x : number } trunk { t = linear(x, width: 4) } "
    >>> spec += "surface s { tower { head y : binary } }"
    >>> render(check_text(spec), "mermaid").splitlines()[0]
    '---'
    """
    return RENDERERS[form](make_diagram(*checked.sound()))
