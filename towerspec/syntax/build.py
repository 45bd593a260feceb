"""From Lark's parse tree to the syntax tree, spans and literals checked on the way."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from lark import Token
from lark import Tree as LarkTree

from towerspec.diagnostics import MOST, Diagnostic, Label, Source, Span
from towerspec.syntax import tree

_INTEGER = re.compile(r"[+-]?\d+(_\d+)*", re.ASCII)
_FLOAT = re.compile(r"[+-]?\d+(_\d+)*(\.\d+(_\d+)*)?([eE][+-]?\d+)?", re.ASCII)
_ESCAPES = {"n": "\n", "t": "\t", '"': '"', "\\": "\\"}
_LARGEST = 2**63 - 1
_NUMBERS = {
    "is not a number": "numbers look like 12, 10_000, 0.5 or 1e-3",
    "is too large": f"a whole number is at most {_LARGEST:_}, and another at most 1.7e308",
    "is too long": "round it; 17 digits are all that count",
}

# Words that open or join a construct can't name something too: the reader would have to guess which is meant.
KEYWORDS = (
    "model", "include", "const", "template", "table", "request", "candidate", "trunk", "surface", "tower", "from",
    "fuse", "after", "with", "branch", "by", "head", "calibrate", "train", "else", "true", "false",
)  # fmt: skip


class Builder:
    """Builds the items of one piece of text that starts at `offset`."""

    def __init__(self, source: Source, offset: int) -> None:
        self.source, self.offset = source, offset
        self.name: tree.Name | None = None
        self.items: list[tree.Item] = []
        self.found: list[Diagnostic] = []

    def join(self, other: Builder) -> None:
        """Adds another piece's items."""
        if other.name is not None:
            self._model(other.name)
        self.items += other.items
        self.found += other.found

    def spec(self) -> tree.Spec:
        return tree.Spec(self.name, tuple(self.items), span=Span(self.source, 0, len(self.source.text)))

    def start(self, parsed: LarkTree[Token]) -> None:
        for child in parsed.children:
            assert isinstance(child, LarkTree)
            if child.data == "model":
                self._model(self._define(child.children[0]))
            else:
                self.items.append(self._node(child))

    def _model(self, name: tree.Name) -> None:
        if self.name is not None:
            self._error(
                Diagnostic(
                    "T108",
                    "the model is named twice",
                    name.span,
                    "named again here",
                    labels=(Label(self.name.span, "first named here"),),
                    help="one file holds one model; remove the second `model` line",
                )
            )
            return
        self.name = name

    # ---- helpers -----------------------------------------------------------------------------

    def _error(self, found: Diagnostic) -> None:
        if len(self.found) <= MOST:
            self.found.append(found)

    def _span(self, node: Any) -> Span:
        if isinstance(node, Token):
            return Span(self.source, self.offset + (node.start_pos or 0), self.offset + (node.end_pos or 0))
        return Span(self.source, self.offset + node.meta.start_pos, self.offset + node.meta.end_pos)

    def _name(self, token: Any) -> tree.Name:
        return tree.Name(str(token), span=self._span(token))

    def _define(self, token: Any) -> tree.Name:
        """A name where it is defined: it can't be a word of the language."""
        if str(token) in KEYWORDS:
            self._error(
                Diagnostic(
                    "T107",
                    f"`{token}` is a word of the language and can't be a name",
                    self._span(token),
                    "can't be a name",
                    help=f"rename it, say to `{token}_value`",
                )
            )
        return self._name(token)

    def _node(self, node: Any) -> Any:
        return getattr(self, f"_{node.data}")(node, self._span(node))

    def _options(self, nodes: Iterable[Any]) -> tuple[tree.Option, ...]:
        for node in nodes:
            if isinstance(node, LarkTree) and node.data == "options":
                return tuple(self._node(o) for o in _trees(node.children))
        return ()

    # ---- expressions -------------------------------------------------------------------------

    def _number(self, node: LarkTree[Token], span: Span) -> tree.Literal:
        text = str(node.children[0])
        value: int | float = 0
        if _INTEGER.fullmatch(text) and len(text) < 40:
            value = int(text)
            problem = "is too large" if abs(value) > _LARGEST else ""
        elif _FLOAT.fullmatch(text) and len(text) < 400:
            value = float(text)
            problem = "is too large" if math.isinf(value) else ""
        else:
            problem = "is too long" if _FLOAT.fullmatch(text) else "is not a number"
        if problem:
            shown = text if len(text) <= 40 else text[:39] + "…"
            self._error(Diagnostic("T106", f"`{shown}` {problem}", span, problem, help=_NUMBERS[problem]))
            value = 0
        return tree.Literal(value, span=span)

    def _string(self, node: LarkTree[Token], span: Span) -> tree.Literal:
        def replace(match: re.Match[str]) -> str:
            if match[1] not in _ESCAPES:
                at = span.start + 1 + match.start()
                self._error(
                    Diagnostic(
                        "T104",
                        f"the text has an unknown escape `\\{match[1]}`",
                        Span(self.source, at, at + 2),
                        "not an escape",
                        help='the escapes are \\n, \\t, \\" and \\\\',
                    )
                )
            return _ESCAPES.get(match[1], match[1])

        return tree.Literal(re.sub(r"\\(.)", replace, str(node.children[0])[1:-1]), span=span)

    def _boolean(self, node: LarkTree[Token], span: Span) -> tree.Literal:
        return tree.Literal(str(node.children[0]) == "true", span=span)

    def _ref(self, node: LarkTree[Token], span: Span) -> tree.Ref:
        return tree.Ref(str(node.children[0]), span=span)

    def _list(self, node: LarkTree[Token], span: Span) -> tree.ListExpr:
        return tree.ListExpr(tuple(self._node(c) for c in _trees(node.children)), span=span)

    def _call(self, node: LarkTree[Token], span: Span) -> tree.Call:
        kind, *rest = node.children
        parts = [self._node(c) for c in _trees(rest)]
        return tree.Call(
            self._name(kind),
            tuple(p for p in parts if not isinstance(p, tree.Option)),
            tuple(p for p in parts if isinstance(p, tree.Option)),
            span=span,
        )

    def _option(self, node: LarkTree[Token], span: Span) -> tree.Option:
        name, value = node.children
        return tree.Option(self._name(name), self._node(value), span=span)

    # ---- statements --------------------------------------------------------------------------

    def _assign(self, node: LarkTree[Token], span: Span) -> tree.Assign:
        name, value = node.children
        return tree.Assign(self._define(name), self._node(value), span=span)

    def _include(self, node: LarkTree[Token], span: Span) -> tree.Include:
        token = node.children[0]
        return tree.Include(self._string(LarkTree("string", [token]), self._span(token)), span=span)

    def _const(self, node: LarkTree[Token], span: Span) -> tree.Const:
        name, value = node.children
        return tree.Const(self._define(name), self._node(value), span=span)

    def _table(self, node: LarkTree[Token], span: Span) -> tree.Table:
        return tree.Table(self._define(node.children[0]), self._options(node.children), span=span)

    def _params(self, node: Any) -> tuple[tree.Param, ...]:
        found = []
        for param in _trees(node.children):
            name, *default = param.children  # an inlined rule leaves no placeholder where it is absent
            value = self._node(default[0]) if default and default[0] is not None else None
            found.append(tree.Param(self._define(name), value, span=self._span(param)))
        return tuple(found)

    def _layer_template(self, node: LarkTree[Token], span: Span) -> tree.LayerTemplate:
        name, params, *body = node.children
        return tree.LayerTemplate(
            self._define(name), self._params(params), tuple(self._node(a) for a in _trees(body)), span=span
        )

    def _surface_template(self, node: LarkTree[Token], span: Span) -> tree.SurfaceTemplate:
        name, params, body = node.children
        return tree.SurfaceTemplate(self._define(name), self._params(params), self._body(body), span=span)

    def _features(self, node: LarkTree[Token], span: Span) -> tree.FeatureBlock:
        level, *features = _trees(node.children)
        return tree.FeatureBlock(str(level.children[0]), tuple(self._node(f) for f in _trees(features)), span=span)

    def _feature(self, node: LarkTree[Token], span: Span) -> tree.Feature:
        name, kind = node.children[:2]
        return tree.Feature(self._define(name), self._name(kind), self._options(node.children), span=span)

    def _trunk(self, node: LarkTree[Token], span: Span) -> tree.Trunk:
        return tree.Trunk(tuple(self._node(a) for a in _trees(node.children)), span=span)

    def _train(self, node: LarkTree[Token], span: Span) -> tree.Train:
        return tree.Train(tuple(self._node(o) for o in _trees(node.children)), span=span)

    def _body(self, node: Any) -> tuple[Any, ...]:
        return tuple(self._node(c) for c in _trees(node.children)) if node is not None else ()

    def _surface(self, node: LarkTree[Token], span: Span) -> tree.Surface:
        name, body = node.children
        return tree.Surface(self._define(name), None, self._body(body), span=span)

    def _surface_from(self, node: LarkTree[Token], span: Span) -> tree.Surface:
        name, call, body = node.children
        return tree.Surface(self._define(name), self._node(call), self._body(body), span=span)

    def _tower(self, node: LarkTree[Token], span: Span) -> tree.Tower:
        start, body = node.children
        return tree.Tower(self._name(start) if start is not None else None, self._body(body), span=span)

    def _fuse(self, node: LarkTree[Token], span: Span) -> tree.Fuse:
        value, after, kind = node.children[:3]
        return tree.Fuse(
            self._name(value), self._node(after), self._name(kind), self._options(node.children), span=span
        )

    def _branch(self, node: LarkTree[Token], span: Span) -> tree.Branch:
        key, *arms = node.children
        return tree.Branch(self._name(key), tuple(self._node(a) for a in _trees(arms)), span=span)

    def _arm(self, node: LarkTree[Token], span: Span) -> tree.Arm:
        label, body = node.children
        assert isinstance(label, LarkTree)
        token: Any = label.children[0]
        at = self._span(token)
        if token.type == "NUMBER":
            shown: tree.Literal | tree.Name = self._number(LarkTree("number", [token]), at)
        elif token.type == "STRING":
            shown = self._string(LarkTree("string", [token]), at)
        else:
            shown = tree.Name(str(token), span=at)
        return tree.Arm(shown, self._body(body), span=span)

    def _head(self, node: LarkTree[Token], span: Span) -> tree.Head:
        name, kind, *rest = node.children
        heads = next((r for r in _trees(rest) if r.data == "heads"), None)
        args = tuple(self._name(t) for t in heads.children if t is not None) if heads else ()
        return tree.Head(self._define(name), self._name(kind), args, self._options(rest), span=span)

    def _calibrate(self, node: LarkTree[Token], span: Span) -> tree.Calibrate:
        head, kind, *rest = node.children
        by = next((self._name(t) for t in rest if isinstance(t, Token)), None)
        return tree.Calibrate(self._name(head), self._name(kind), self._options(rest), by, span=span)


def _trees(nodes: Iterable[Any]) -> list[LarkTree[Token]]:
    return [n for n in nodes if isinstance(n, LarkTree)]
