"""Expansion: constants become their values and templates what they stand for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, TypeVar

from towerspec.diagnostics import Label, Report, Span, did_you_mean, listing
from towerspec.syntax import tree

LARGEST = 200_000  # nodes after expansion
N = TypeVar("N")
Template = tree.LayerTemplate | tree.SurfaceTemplate


class _TooLarge(Exception):
    pass


@dataclass
class _Expander:
    report: Report
    consts: dict[str, tree.Const] = field(default_factory=dict)
    layers: dict[str, tree.LayerTemplate] = field(default_factory=dict)
    surfaces: dict[str, tree.SurfaceTemplate] = field(default_factory=dict)
    values: dict[str, tree.Expr] = field(default_factory=dict)
    open: list[str] = field(default_factory=list)  # the templates being expanded, outermost first
    made: int = 0

    def declare(self, items: Sequence[tree.Item]) -> None:
        first: dict[str, tree.Name] = {}
        for item in items:
            if not isinstance(item, (tree.Const, tree.LayerTemplate, tree.SurfaceTemplate)):
                continue
            other = first.setdefault(item.name.text, item.name)
            if other is not item.name:
                self._twice(item.name, other)
            elif isinstance(item, tree.Const):
                self.consts[item.name.text] = item
            elif isinstance(item, tree.LayerTemplate):
                self._parameters(item)
                self.layers[item.name.text] = item
            else:
                self._parameters(item)
                self.surfaces[item.name.text] = item

    def _parameters(self, item: Template) -> None:
        first: dict[str, tree.Name] = {}
        for param in item.params:
            other = first.setdefault(param.name.text, param.name)
            if other is not param.name:
                self._twice(param.name, other)
        for name in _defined(item.body if isinstance(item, tree.LayerTemplate) else item.items):
            if name.text in first:
                self._twice(name, first[name.text])

    def shadows(self, items: tuple[tree.Item, ...]) -> None:
        """Reports each value and parameter with a constant's name: readers would take one for the other.

        The constant gives way, so that what the name means is decided where it is defined.
        """
        for name in _defined(items):
            constant = self.consts.pop(name.text, None)
            if constant is not None:
                self.report.error(
                    "T211",
                    f"`{name.text}` hides the constant `{name.text}`",
                    name.span,
                    "would hide the constant",
                    labels=[Label(constant.name.span, "the constant is defined here")],
                    help="give one of them another name",
                )

    def _twice(self, name: tree.Name, other: tree.Name) -> None:
        self.report.error(
            "T210",
            f"`{name.text}` is defined twice",
            name.span,
            "defined again here",
            labels=[Label(other.span, "first defined here")],
        )

    # ---- substitution ------------------------------------------------------------------------

    def const(self, name: str, use: Span, chain: tuple[str, ...] = ()) -> tree.Expr:
        """A constant's value, its own constants replaced."""
        if name in chain:
            self.report.error(
                "T215",
                f"the constant `{name}` is defined by itself",
                self.consts[name].name.span,
                "leads back to itself",
                notes=[f"the cycle is {' -> '.join(f'`{n}`' for n in (*chain[chain.index(name) :], name))}"],
            )
            return tree.Literal(1, span=use)
        if name not in self.values:
            self.values[name] = self._constant(self.consts[name].value, (*chain, name))
        return replace(self.values[name], span=use)

    def _constant(self, value: tree.Expr, chain: tuple[str, ...]) -> tree.Expr:
        if isinstance(value, tree.Ref) and value.name in self.consts:
            return self.const(value.name, value.span, chain)
        if isinstance(value, tree.ListExpr):
            return replace(value, items=tuple(self._constant(i, chain) for i in value.items))
        if isinstance(value, tree.Call):
            self.report.error(
                "T214",
                "a constant is a number, a text, a word or a list",
                value.span,
                "a call",
                help="a `template` gives a name to a call",
            )
        return value

    def rewrite(self, node: N, values: Mapping[str, tree.Expr]) -> N:
        """The node with constants and a template's options replaced and calls of templates expanded."""
        self.made += 1
        if self.made > LARGEST:
            raise _TooLarge
        if isinstance(node, tuple):
            return tuple(self.rewrite(child, values) for child in node)  # type: ignore[return-value]
        if isinstance(node, tree.Ref):
            return self._ref(node, values)  # type: ignore[return-value]
        if isinstance(node, tree.Call) and node.kind.text in self.layers:
            return self._inline(node, values)  # type: ignore[return-value]
        if not is_dataclass(node) or not isinstance(node, tree.Node) or isinstance(node, (tree.Name, tree.Literal)):
            return node
        changed = {
            f.name: self.rewrite(getattr(node, f.name), values)
            for f in fields(node)
            if f.name != "span" and isinstance(getattr(node, f.name), (tuple, tree.Node))
        }
        return replace(node, **changed)

    def _ref(self, node: tree.Ref, values: Mapping[str, tree.Expr]) -> tree.Expr:
        if node.name in values:
            return replace(values[node.name], span=node.span)
        return self.const(node.name, node.span) if node.name in self.consts else node

    # ---- templates ---------------------------------------------------------------------------

    def _inline(self, call: tree.Call, values: Mapping[str, tree.Expr]) -> tree.Expr:
        template = self.layers[call.kind.text]
        if self._recursive(template, call.kind.span):
            return tree.Inline(call.kind, (), (), span=call.span)
        args = tuple(self.rewrite(a, values) for a in call.args)
        options = {o.name.text: replace(o, value=self.rewrite(o.value, values)) for o in call.options}
        inputs = [p for p in template.params if p.default is None]
        bindings = [(param.name, arg) for param, arg in zip(inputs, args, strict=False)]
        if not self._count(template, call, inputs, args, options):
            return tree.Inline(call.kind, (), (), span=call.span)
        inner: dict[str, tree.Expr] = {}
        for param in template.params:
            if param.name.text in options and param.default is None:
                bindings.append((param.name, options[param.name.text].value))
            elif param.default is not None:
                inner[param.name.text] = (
                    options[param.name.text].value if param.name.text in options else self.rewrite(param.default, {})
                )
        self.open.append(template.name.text)
        body = self.rewrite(template.body, inner)
        self.open.pop()
        return tree.Inline(call.kind, tuple(bindings), body, span=call.span)

    def _count(
        self,
        template: tree.LayerTemplate,
        call: tree.Call,
        inputs: list[tree.Param],
        args: tuple[tree.Expr, ...],
        options: Mapping[str, tree.Option],
    ) -> bool:
        name = template.name.text
        if len(args) > len(inputs):
            count = f"{len(inputs)} input{'s' if len(inputs) != 1 else ''}"
            self._wrong(
                template,
                f"template `{name}` takes {count}, and this gives {len(args)}",
                args[len(inputs)].span,
                "one too many",
            )
        missing = [p.name.text for p in inputs[len(args) :] if p.name.text not in options]
        if missing:
            self._wrong(
                template, f"template `{name}` needs `{missing[0]}`", call.kind.span, f"`{missing[0]}` is not given"
            )
        self._known(template, call.options)
        return not missing and len(args) <= len(inputs)

    def _known(self, template: Template, options: Sequence[tree.Option]) -> None:
        known = [p.name.text for p in template.params]
        for option in options:
            if option.name.text not in known:
                self.report.error(
                    "T214",
                    f"template `{template.name.text}` has no parameter `{option.name.text}`",
                    option.name.span,
                    "not a parameter",
                    notes=[f"its parameters are {listing(known)}"],
                    help=did_you_mean(option.name.text, known),
                )

    def _wrong(self, template: Template, message: str, span: Span, label: str) -> None:
        self.report.error("T214", message, span, label, labels=[Label(template.name.span, "the template")])

    def _recursive(self, template: Template, span: Span) -> bool:
        name = template.name.text
        if name not in self.open:
            return False
        self.report.error(
            "T215",
            f"the template `{name}` uses itself",
            span,
            "leads back to itself",
            notes=[f"the cycle is {' -> '.join(f'`{n}`' for n in (*self.open[self.open.index(name) :], name))}"],
        )
        return True

    def surface(self, node: tree.Surface) -> tree.Surface:
        """A surface with its template's items before its own."""
        call = node.template
        own = self.rewrite(node.items, {})
        if call is None:
            return replace(node, items=own)
        template = self.surfaces.get(call.kind.text)
        if template is None:
            self.report.error(
                "T214",
                f"unknown surface template `{call.kind.text}`",
                call.kind.span,
                "not a surface template",
                notes=[f"surface templates are {listing(sorted(self.surfaces))}"] if self.surfaces else [],
                help=did_you_mean(call.kind.text, self.surfaces),
            )
            return replace(node, template=None, items=own)
        for arg in call.args:
            self._wrong(
                template,
                f"surface template `{call.kind.text}` takes its parameters by name",
                arg.span,
                "without a name",
            )
        self._known(template, call.options)
        complete = not call.args
        given = {o.name.text: self.rewrite(o.value, {}) for o in call.options}
        for param in template.params:
            if param.name.text not in given and param.default is not None:
                given[param.name.text] = self.rewrite(param.default, {})
            elif param.name.text not in given and not call.args:
                self._wrong(
                    template,
                    f"surface template `{call.kind.text}` needs `{param.name.text}`",
                    call.kind.span,
                    f"`{param.name.text}` is not given",
                )
                complete = False
        if not complete:  # the template's own text would be wrong without them, in ways that follow from this
            return replace(node, template=None, items=own)
        return replace(node, template=None, items=(*self.rewrite(template.items, given), *own))


def _defined(node: object) -> Iterator[tree.Name]:
    """The names of all values, features and parameters below a node."""
    if isinstance(node, tuple):
        for child in node:
            yield from _defined(child)
    elif isinstance(node, tree.Node):
        if isinstance(node, (tree.Assign, tree.Feature, tree.Param)):
            yield node.name
        for f in fields(node):
            if f.name != "span":
                yield from _defined(getattr(node, f.name))


def expand(spec: tree.Spec, report: Report) -> tree.Spec:
    """The spec without constants and templates: each is replaced by what it stands for."""
    expander = _Expander(report)
    expander.declare(spec.items)
    expander.shadows(spec.items)
    for name in expander.consts:
        expander.const(name, expander.consts[name].value.span)
    items: list[Any] = []
    try:
        for item in spec.items:
            if isinstance(item, tree.Surface):
                items.append(expander.surface(item))
            elif not isinstance(item, (tree.Const, tree.LayerTemplate, tree.SurfaceTemplate)):
                items.append(expander.rewrite(item, {}))
    except _TooLarge:
        report.error(
            "T216",
            f"the spec grows past {LARGEST:,} parts when its templates are expanded",
            spec.name.span if spec.name else None,
            help="nest templates less, or split the model",
        )
    return replace(spec, items=tuple(items))
