"""A diagram as Graphviz DOT."""

from __future__ import annotations

from collections.abc import Iterator

from towerspec.graph.diagram import Diagram, Edge, Lane, Node
from towerspec.graph.palette import colour
from towerspec.ir.types import Level

SHAPES = {"branch": "diamond", "arm": "plaintext", "fusion": "hexagon", "head": "box"}


def to_dot(diagram: Diagram) -> str:
    """The diagram for Graphviz's `dot`, the flow from the bottom up.

    >>> to_dot(Diagram("m", "", (), (), ())).splitlines()[0]
    'digraph "m" {'
    """
    return "\n".join([f"digraph {_quoted(diagram.model)} {{", *_body(diagram), "}", ""])


def _body(diagram: Diagram) -> Iterator[str]:
    font = 'fontname="Helvetica,Arial,sans-serif"'
    yield f"  graph [rankdir=BT, {font}, labelloc=t, label={_quoted(f'{diagram.model}: {diagram.summary}')}]"
    yield f'  node [shape=box, style="rounded,filled", fillcolor="#ffffff", color="#64748b", {font}, fontsize=11]'
    yield f'  edge [color="#64748b", {font}, fontsize=9]'
    yield "  subgraph cluster_trunk {"
    yield '    label="trunk"; style="rounded,filled"; color="#e2e8f0"; fillcolor="#f1f5f9"'
    yield from (f"    {_node(n, None)}" for n in diagram.nodes)
    yield "  }"
    for index, lane in enumerate(diagram.lanes):
        yield from _lane(index, lane)
    yield from (f"  {_edge(e)}" for e in diagram.all_edges)


def _lane(index: int, lane: Lane) -> Iterator[str]:
    yield f"  subgraph cluster_surface_{index} {{"
    yield f'    label={_quoted(", ".join(lane.names))}; style="rounded"; color="{colour(index)}"; penwidth=2'
    yield from (f"    {_node(n, colour(index))}" for n in lane.nodes)
    yield "  }"


def _node(node: Node, stroke: str | None) -> str:
    words = [node.title, node.detail, ", ".join(i.name for i in node.items), node.calibration]
    fields = {"label": "\n".join(word for word in words if word), "tooltip": node.text}
    if node.role in SHAPES:
        fields["shape"] = SHAPES[node.role]
    if stroke:
        fields["color"] = stroke
    return f"{_quoted(node.id)} [{', '.join(f'{k}={_quoted(v)}' for k, v in fields.items())}]"


def _edge(edge: Edge) -> str:
    style = ", style=dashed" if edge.flow.level == Level.REQUEST else ""
    return f"{_quoted(edge.source)} -> {_quoted(edge.target)} [label={_quoted(edge.label)}{style}]"


def _quoted(text: str) -> str:
    r"""A DOT string; in a label `\n` breaks the line, so that a text's own backslashes are doubled.

    >>> print(_quoted('say "x"'))
    "say \"x\""
    """
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\r", " ")
    return '"' + escaped.replace("\n", "\\n") + '"'
