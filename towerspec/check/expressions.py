"""From assignments to nodes: every call of a layer, nested or from a template, gets a key of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from towerspec.check.model import Node, Operand
from towerspec.check.names import Namespace, check_usable, unknown, unknown_kind
from towerspec.check.params import build
from towerspec.diagnostics import Report, Span
from towerspec.ir.builder import Scope
from towerspec.layers.base import Layer, Tensor, find, signature
from towerspec.syntax import tree


class Alias(Layer):
    """A second name for a value: `a = b`, and the name of what a template gives."""

    def lower(self, b: Scope, x: Tensor) -> Tensor:
        return x


@dataclass
class Expressions:
    """Resolves the expressions of one block, a surface's or the trunk's, into nodes.

    `owners` says which surfaces have a name of their own, for a name that isn't seen here.
    """

    report: Report
    owners: Mapping[str, Sequence[str]] = field(default_factory=dict)
    surface: str | None = None
    nodes: list[Node] = field(default_factory=list)
    _taken: set[str] = field(default_factory=set)  # the nodes' keys
    _counts: dict[str, int] = field(default_factory=dict)  # the nested calls that have asked for a key

    def assign(self, statements: Iterable[tree.Assign], names: Namespace, prefix: str) -> None:
        """Adds the nodes of a block's statements; names may be used before the line that defines them."""
        statements = list(statements)
        defined = [s for s in statements if names.define(s.name, f"{prefix}.{s.name.text}", self.report)]
        for statement in defined:
            self._node(statement.value, f"{prefix}.{statement.name.text}", names, statement.name.span)

    def operand(self, value: tree.Expr, names: Namespace, parent: str) -> Operand | None:
        """The value that an expression stands for, with nodes added for the calls in it."""
        if isinstance(value, tree.Ref):
            return self.name(value.name, value.span, names)
        if isinstance(value, (tree.Call, tree.Inline)):
            kind = value.kind.text if isinstance(value, tree.Call) else value.template.text
            key = self._key(f"{parent}.{kind}")
            self._node(value, key, names, None)
            return Operand(key, value.span)
        self.report.error(
            "T303",
            "an input must be a value, not a number, text or list",
            value.span,
            "not a value",
            help="numbers, texts and lists go into options, as `name: value`",
        )
        return None

    def _add(self, node: Node) -> None:
        self.nodes.append(node)
        self._taken.add(node.key)

    def _key(self, base: str) -> str:
        """A key for a nested call that no node has yet."""
        count = self._counts.get(base, 0) + 1
        while (key := base if count == 1 else f"{base}_{count}") in self._taken:
            count += 1
        self._counts[base] = count
        return key

    def name(self, name: str, span: Span, names: Namespace) -> Operand | None:
        """The value that a word stands for."""
        entry = names.find(name)
        if entry is not None:
            return Operand(entry.key, span)
        owner = next((s for s in self.owners.get(name, ()) if s != self.surface), None)
        if owner is not None:
            self.report.error(
                "T406",
                f"`{name}` belongs to surface `{owner}` and can't be used here",
                span,
                f"only `{owner}` has it",
                notes=[
                    "what is shared by all surfaces, and every other surface, "
                    "must not depend on one surface's own values"
                ],
                help=f"use it in `surface {owner}`, or declare it at the top level with `on: [{owner}]`",
            )
        else:
            unknown("T201", "value", name, span, list(names.names()), self.report)
        return None

    def _node(self, value: tree.Expr, key: str, names: Namespace, name_span: Span | None) -> None:
        if isinstance(value, tree.Call):
            self._call(value, key, names, name_span)
        else:
            operand = (
                self._inline(value, key, names) if isinstance(value, tree.Inline) else self.operand(value, names, key)
            )
            inputs = (operand,) if operand else ()
            layer = Alias() if operand else None
            self._add(Node(key, layer, inputs, value.span, name_span or value.span, {}))

    def _inline(self, value: tree.Inline, key: str, names: Namespace) -> Operand | None:
        inner = Namespace()
        for name, bound in value.bindings:
            operand = self.operand(bound, names, f"{key}.{name.text}")
            if operand is not None:
                check_usable(name, self.report)
                inner.define(name, operand.key, Report())
        unbound = {name.text for name, _ in value.bindings} - set(inner.entries)
        if unbound:  # already reported; the body's errors would follow from it
            return None
        self.assign(value.body, inner, key)
        return Operand(f"{key}.{value.body[-1].name.text}", value.span) if value.body else None

    def _call(self, call: tree.Call, key: str, names: Namespace, name_span: Span | None) -> None:
        inputs = [self.operand(arg, names, key) for arg in call.args]
        layer = self._layer(call)
        known = tuple(i for i in inputs if i is not None)
        if len(known) < len(inputs):
            layer = None
        options = {o.name.text: o.value.span for o in call.options}
        self._add(Node(key, layer, known, call.span, name_span or call.span, options))

    def _layer(self, call: tree.Call) -> Layer | None:
        cls = find("layer", call.kind.text)
        if cls is None:
            unknown_kind("T202", "layer", "layer", call.kind, self.report)
            return None
        layer = build(cls, call.options, call.kind.span, f"layer `{call.kind.text}`", self.report)
        takes = signature(cls)
        variadic = any(many for _, _, many in takes)
        if (variadic and len(call.args) >= max(1, len(takes))) or (not variadic and len(call.args) == len(takes)):
            assert layer is None or isinstance(layer, Layer)
            return layer
        count = f"{'at least ' if variadic else ''}{len(takes)} input{'s' if len(takes) != 1 else ''}"
        self.report.error(
            "T303",
            f"layer `{call.kind.text}` takes {count}, and this gives {len(call.args)}",
            call.kind.span,
            notes=[f"its inputs are {', '.join(('*' if many else '') + name for name, _, many in takes)}"],
        )
        return None
