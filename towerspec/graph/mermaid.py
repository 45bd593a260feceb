"""A diagram as a Mermaid flowchart, which GitHub and most wikis draw from the text."""

from __future__ import annotations

from collections.abc import Iterator

from towerspec.graph.diagram import Diagram, Edge, Node
from towerspec.graph.palette import colour
from towerspec.ir.types import Level

BRACKETS = {"branch": ("{{", "}}"), "arm": ("([", "])"), "fusion": ("(", ")"), "join": ("([", "])"), "head": ("[", "]")}


def to_mermaid(diagram: Diagram) -> str:
    """The diagram as a flowchart, the flow from the bottom up.

    >>> to_mermaid(Diagram("m", "", (), (), ())).splitlines()[3]
    'flowchart BT'
    """
    return "\n".join([*_body(diagram), ""])


def _body(diagram: Diagram) -> Iterator[str]:
    ids = {id_: f"n{index}" for index, id_ in enumerate(diagram.by_id)}
    yield from ("---", f"title: {diagram.model}", "---", "flowchart BT")
    yield '  subgraph trunk["trunk"]'
    yield from (f"    {_node(ids, n)}" for n in diagram.nodes)
    yield "  end"
    for index, lane in enumerate(diagram.lanes):
        yield f"  subgraph s{index}[{_quoted(', '.join(lane.names))}]"
        yield from (f"    {_node(ids, n)}" for n in lane.nodes)
        yield "  end"
        yield f"  style s{index} fill:{colour(index)}1a,stroke:{colour(index)},stroke-width:2px"
    yield from (f"  {_edge(ids, e)}" for e in diagram.all_edges)


def _node(ids: dict[str, str], node: Node) -> str:
    left, right = BRACKETS.get(node.role, ("[", "]"))
    words = [node.title, node.detail, ", ".join(i.name for i in node.items), node.calibration]
    return f"{ids[node.id]}{left}{_quoted(*(word for word in words if word))}{right}"


def _edge(ids: dict[str, str], edge: Edge) -> str:
    arrow = "-.->" if edge.flow.level == Level.REQUEST else "-->"
    return f"{ids[edge.source]} {arrow}|{_quoted(edge.label)}| {ids[edge.target]}"


def _quoted(*lines: str) -> str:
    """A Mermaid string. Its only escapes are entities, which `#` begins; letters, digits and a few signs stay.

    >>> _quoted("a", '"]-->x')
    '"a<br/>#34;#93;--#62;x"'
    """
    return '"' + "<br/>".join("".join(_char(c) for c in line) for line in lines) + '"'


def _char(char: str) -> str:
    return char if char.isalnum() or char in " _-.,:·×=+?" else f"#{ord(char)};"
