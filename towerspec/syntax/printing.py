"""The pieces of the canonical form: each construct's text, and where its lists begin and end."""

from __future__ import annotations

import re
from typing import Any

from towerspec.syntax import tree

# A list of a statement: its brackets, its items, and the offsets of the brackets in the text.
Group = tuple[str, str, tuple[Any, ...], int, int]


def is_block(node: object) -> bool:
    """Whether a construct holds statements between braces."""
    kinds = (
        tree.LayerTemplate,
        tree.SurfaceTemplate,
        tree.FeatureBlock,
        tree.Trunk,
        tree.Tower,
        tree.Branch,
        tree.Arm,
        tree.Train,
    )
    if isinstance(node, tree.Surface):
        # A surface made from a template may stand without a body.
        return node.template is None or node.span.end > node.template.span.end
    return isinstance(node, kinds)


def header(node: Any) -> tuple[str, tuple[Any, ...], int]:
    """A block's text before its brace, its statements, and the offset after which the brace stands."""
    if isinstance(node, tree.FeatureBlock):
        return node.level, node.features, node.span.start
    if isinstance(node, tree.Trunk):
        return "trunk", node.body, node.span.start
    if isinstance(node, tree.Train):
        return "train", node.options, node.span.start
    if isinstance(node, (tree.LayerTemplate, tree.SurfaceTemplate)):
        surface = "surface " if isinstance(node, tree.SurfaceTemplate) else ""
        params = ", ".join(p.name.text + (f": {one_line(p.default)}" if p.default else "") for p in node.params)
        after = node.params[-1].span.end if node.params else node.name.span.end
        items = node.items if isinstance(node, tree.SurfaceTemplate) else node.body
        return f"template {surface}{node.name.text}({params})", items, after
    if isinstance(node, tree.Surface):
        made = f" = {one_line(node.template)}" if node.template else ""
        return f"surface {node.name.text}{made}", node.items, (node.template or node.name).span.end
    if isinstance(node, tree.Tower):
        start = f" from {node.start.text}" if node.start else ""
        return f"tower{start}", node.items, node.start.span.end if node.start else node.span.start
    if isinstance(node, tree.Branch):
        return f"branch by {node.key.text}", node.arms, node.key.span.end
    return one_line(node.label), node.items, node.label.span.end


def number(text: str) -> str:
    """A number's canonical text: integers from 10,000 on in groups of three.

    >>> number("1234567"), number("+0.50"), number("9_999")
    ('1_234_567', '0.50', '9999')
    """
    text = text.removeprefix("+")
    if re.fullmatch(r"-?[\d_]+", text):
        value = int(text.replace("_", ""))
        return f"{value:_}" if abs(value) >= 10_000 else str(value)
    return text.lower()


def _string(value: str) -> str:
    for raw, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\t", "\\t")):
        value = value.replace(raw, escaped)
    return f'"{value}"'


def cells(node: Any) -> list[str]:
    """A statement in the columns that line up with its neighbours'."""
    if isinstance(node, tree.Feature):
        return [node.name.text, f": {node.kind.text}", *([_options(node)] if node.options else [])]
    if isinstance(node, tree.Assign):
        return [node.name.text, f"= {one_line(node.value)}"]
    if isinstance(node, tree.Head):
        return [f"head {node.name.text}", one_line(node).split(" ", 2)[2]]
    return [one_line(node)]


def _options(node: Any) -> str:
    return f"{{ {', '.join(one_line(o) for o in node.options)} }}"


def one_line(node: Any) -> str:
    """A construct on one line."""
    parts = groups_of(node, [])
    return "".join(p if isinstance(p, str) else f"{p[0]}{', '.join(one_line(i) for i in p[2])}{p[1]}" for p in parts)


def groups_of(node: Any, braces: list[int]) -> list[str | Group]:
    """A statement or expression as texts and lists in turn; `braces` are the offsets of `{` in the text."""
    if isinstance(node, tree.Name):  # the model's line is its name, the span at the keyword
        return [f"model {node.text}" if len(node.span.text) > len(node.text) else node.text]
    if isinstance(node, tree.Literal):
        value = node.value
        if isinstance(value, bool):
            return ["true" if value else "false"]
        return [_string(value) if isinstance(value, str) else number(node.span.text)]
    if isinstance(node, tree.Ref):
        return [node.name]
    if isinstance(node, tree.ListExpr):
        return [("[", "]", node.items, node.span.start, node.span.end)]
    if isinstance(node, tree.Call):
        items = tuple(sorted((*node.args, *node.options), key=lambda i: i.span.start))
        return [node.kind.text, ("(", ")", items, node.kind.span.end, node.span.end)]
    if isinstance(node, tree.Option):
        return [f"{node.name.text}: ", *groups_of(node.value, braces)]
    return _statement(node, braces)


def _statement(node: Any, braces: list[int]) -> list[str | Group]:
    if isinstance(node, tree.Assign):
        return [f"{node.name.text} = ", *groups_of(node.value, braces)]
    if isinstance(node, tree.Const):
        return [f"const {node.name.text} = ", *groups_of(node.value, braces)]
    if isinstance(node, tree.Include):
        return ["include ", *groups_of(node.path, braces)]
    if isinstance(node, tree.Surface):
        return [f"surface {node.name.text} = ", *groups_of(node.template, braces)]
    if isinstance(node, tree.Table):
        return [f"table {node.name.text}", *_group(node, node.name.span.end, braces)]
    if isinstance(node, tree.Feature):
        return [f"{node.name.text} : {node.kind.text}", *_group(node, node.kind.span.end, braces)]
    if isinstance(node, tree.Head):
        args = f"({', '.join(a.text for a in node.args)})" if node.args else ""
        after = node.args[-1].span.end if node.args else node.kind.span.end
        return [f"head {node.name.text} : {node.kind.text}{args}", *_group(node, after, braces)]
    if isinstance(node, tree.Fuse):
        depth = "".join(str(p) for p in groups_of(node.after, braces))
        return [
            f"fuse {node.value.text} after {depth} with {node.kind.text}",
            *_group(node, node.kind.span.end, braces),
        ]
    assert isinstance(node, tree.Calibrate)
    by = [f" by {node.by.text}"] if node.by else []
    return [f"calibrate {node.head.text} with {node.kind.text}", *_group(node, node.kind.span.end, braces), *by]


def _group(node: Any, after: int, braces: list[int]) -> list[str | Group]:
    if not node.options:
        return [] if not isinstance(node, tree.Table) else [" {}"]
    start = next((b for b in braces if b >= after), after)
    return [(" { ", " }", node.options, start, node.span.end)]
