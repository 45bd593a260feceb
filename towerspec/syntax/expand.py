"""Expansion: constants become their values and templates what they stand for, within bounds of size and depth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from towerspec.diagnostics import Label, Report, Span, did_you_mean, listing
from towerspec.syntax import tree
from towerspec.syntax.constants import DEEPEST, LARGEST, Value, circle, constants
from towerspec.syntax.declarations import Template, declarations, parts_of

N = TypeVar("N")


class _TooLarge(Exception):
    """The expansion of what was written at a place passes a bound."""

    def __init__(self, message: str, span: Span | None) -> None:
        super().__init__(message)
        self.span = span


@dataclass
class _Expander:
    report: Report
    layers: dict[str, tree.LayerTemplate]
    surfaces: dict[str, tree.SurfaceTemplate]
    values: dict[str, Value]  # of the constants
    whole: bool
    open: dict[str, Span] = field(default_factory=dict)  # the templates being expanded and their calls, outermost first
    made: int = 0  # parts so far
    added: int = 0  # those of them that constants and templates add to the text's own
    inputs: dict[str, set[str]] = field(default_factory=dict)  # of templates: the parameters that stand for values
    level: int = 0  # how many lists and calls, expanded ones included, are around this part
    deepest: int = 0  # the deepest level since a measure began

    # ---- substitution ------------------------------------------------------------------------

    def rewrite(self, node: N, values: Mapping[str, Value]) -> N:
        """The node with constants and a template's options replaced and calls of templates expanded."""
        if isinstance(node, tuple):
            return self._items(node, values)  # type: ignore[return-value]
        assert isinstance(node, tree.Node)
        self._grow(1, node.span, own=not self.open)
        if isinstance(node, tree.Ref):
            return self._ref(node, values)  # type: ignore[return-value]
        levels = 1 if isinstance(node, (tree.ListExpr, tree.Call)) else 0
        self._enter(levels, node.span)
        inline = isinstance(node, tree.Call) and node.kind.text in self.layers
        made = self._inline(node, values) if inline else self._parts(node, values)  # type: ignore[arg-type]
        self.level -= levels
        return made  # type: ignore[return-value]

    def _items(self, nodes: tuple[N, ...], values: Mapping[str, Value]) -> tuple[N, ...]:
        made = tuple([n if isinstance(n, (tree.Name, tree.Literal)) else self.rewrite(n, values) for n in nodes])
        return nodes if all(new is old for new, old in zip(made, nodes, strict=True)) else made

    def _parts(self, node: tree.Node, values: Mapping[str, Value]) -> tree.Node:
        changed: dict[str, Any] = {}
        for name in parts_of(type(node)):
            old = getattr(node, name)
            if isinstance(old, (tree.Node, tuple)) and not isinstance(old, (tree.Name, tree.Literal)):
                new = self.rewrite(old, values)
                if new is not old:
                    changed[name] = new
        return replace(node, **changed) if changed else node

    def _grow(self, parts: int, span: Span, *, own: bool = False) -> None:
        self.made += parts
        self.added += 0 if own else parts
        if self.added > LARGEST:
            raise _TooLarge(f"the spec grows past {LARGEST:,} parts", span)

    def _enter(self, levels: int, span: Span) -> None:
        self.level += levels
        self.deepest = max(self.deepest, self.level)
        if self.level > DEEPEST:
            raise _TooLarge(f"the spec nests deeper than {DEEPEST} levels", span)

    def _ref(self, node: tree.Ref, values: Mapping[str, Value]) -> tree.Expr:
        value = values.get(node.name) or self.values.get(node.name)
        if value is None:
            return replace(node, meant=(values, self.values)) if values or self.values else node
        self._grow(value.size, node.span)
        self._enter(value.depth, node.span)
        self.level -= value.depth
        return replace(value.expr, span=node.span)

    def _measured(self, node: tree.Expr, values: Mapping[str, Value]) -> Value:
        """An expression rewritten, with its size and depth, to stand for a template's parameter."""
        made, level, deepest = self.made, self.level, self.deepest
        self.deepest = level
        expr = self.rewrite(node, values)
        value = Value(expr, self.made - made, self.deepest - level)
        self.deepest = max(deepest, self.deepest)
        return value

    # ---- templates ---------------------------------------------------------------------------

    def _inline(self, call: tree.Call, values: Mapping[str, Value]) -> tree.Inline:
        template = self.layers[call.kind.text]
        if self._recursive(template, call.kind.span):
            return tree.Inline(call.kind, (), (), span=call.span)
        args = [self._measured(a, values) for a in call.args]
        options = {o.name.text: self._measured(o.value, values) for o in call.options}
        if not self._fits(template, call, options):
            return tree.Inline(call.kind, (), (), span=call.span)
        needed = [p.name for p in template.params if p.default is None]
        given = {**options, **{name.text: arg for name, arg in zip(needed, args, strict=False)}}
        for param in template.params:
            if param.default is not None and param.name.text not in given:
                given[param.name.text] = self._measured(param.default, {})
        self.open[template.name.text] = call.kind.span
        inputs = self._inputs(template)
        bindings = [(name, given.pop(name.text).expr) for name in needed if name.text in inputs]
        body = self.rewrite(template.body, given)
        self.open.popitem()
        return tree.Inline(call.kind, tuple(bindings), body, span=call.span)

    def _inputs(self, template: tree.LayerTemplate, depth: int = 0) -> set[str]:
        """The parameters that stand for values: all but those that the body reads in options alone."""
        name = template.name.text
        if name not in self.inputs:
            self.inputs[name] = set()  # of a template that uses itself nothing is known, and that is an error
            read: dict[bool, set[str]] = {True: set(), False: set()}
            for statement in template.body:
                for word, option in self._reads(statement.value, False, depth):
                    read[option].add(word)
            self.inputs[name] = {p.name.text for p in template.params} - (read[True] - read[False])
        return self.inputs[name]

    def _reads(self, value: tree.Expr, option: bool, depth: int) -> Iterator[tuple[str, bool]]:
        """The names that an expression reads, and whether in an option."""
        depth += 1
        if depth > DEEPEST + 1:
            raise _TooLarge(f"the spec nests deeper than {DEEPEST} levels", value.span)
        if isinstance(value, tree.Ref):
            yield value.name, option
        elif isinstance(value, tree.ListExpr):
            for item in value.items:
                yield from self._reads(item, option, depth)
        elif isinstance(value, tree.Call):
            template = self.layers.get(value.kind.text)
            needed = [p.name.text for p in template.params if p.default is None] if template else []
            inputs = self._inputs(template, depth) if template else set()
            for i, arg in enumerate(value.args):
                yield from self._reads(arg, i < len(needed) and needed[i] not in inputs, depth)
            for given in value.options:
                yield from self._reads(given.value, given.name.text not in inputs.intersection(needed), depth)

    def _fits(self, template: tree.LayerTemplate, call: tree.Call, options: Mapping[str, Value]) -> bool:
        name, args = template.name.text, call.args
        inputs = [p for p in template.params if p.default is None]
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
        name, names = template.name.text, [*self.open]
        if name not in self.open:
            return False
        self.report.error(
            "T215",
            f"the template `{name}` uses itself",
            span,
            "leads back to itself",
            notes=[f"the cycle is {circle(names[names.index(name) :])}"],
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
            if self.whole:
                self._unknown(call.kind)
            return replace(node, template=None, items=own)
        given = self._given(template, call)
        if given is None:  # the template's own text would be wrong without them, in ways that follow from this
            return replace(node, template=None, items=own)
        self.open[template.name.text] = call.kind.span
        items = self.rewrite(template.items, given)
        self.open.popitem()
        return replace(node, template=None, items=(*items, *own))

    def _unknown(self, name: tree.Name) -> None:
        self.report.error(
            "T214",
            f"unknown surface template `{name.text}`",
            name.span,
            "not a surface template",
            notes=[f"surface templates are {listing(sorted(self.surfaces))}"] if self.surfaces else [],
            help=did_you_mean(name.text, self.surfaces),
        )

    def _given(self, template: tree.SurfaceTemplate, call: tree.Call) -> dict[str, Value] | None:
        """The values of a surface template's parameters; none where one is missing."""
        for arg in call.args:
            self._wrong(
                template,
                f"surface template `{call.kind.text}` takes its parameters by name",
                arg.span,
                "without a name",
            )
        self._known(template, call.options)
        given = {o.name.text: self._measured(o.value, {}) for o in call.options}
        complete = not call.args
        for param in template.params:
            if param.name.text not in given and param.default is not None:
                given[param.name.text] = self._measured(param.default, {})
            elif param.name.text not in given and not call.args:
                self._wrong(
                    template,
                    f"surface template `{call.kind.text}` needs `{param.name.text}`",
                    call.kind.span,
                    f"`{param.name.text}` is not given",
                )
                complete = False
        return given if complete else None


def expand(spec: tree.Spec, report: Report, *, whole: bool = True) -> tree.Spec | None:
    """The spec without constants and templates: each is replaced by what it stands for.

    None where that would pass a bound (T216): then only what is reported is known. Where the text is not `whole`, a
    template that is not there may only be one that could not be read.
    """
    declared = declarations(spec.items, report)
    values = constants(declared.consts, report)
    if any(d.code == "T216" for d in report):
        return None
    expander = _Expander(report, declared.layers, declared.surfaces, values, whole)
    items: list[Any] = []
    try:
        for item in spec.items:
            if isinstance(item, tree.Surface):
                items.append(expander.surface(item))
            elif not isinstance(item, (tree.Const, tree.LayerTemplate, tree.SurfaceTemplate)):
                items.append(expander.rewrite(item, {}))
    except _TooLarge as error:
        _too_large(error, expander.open, report)
        return None
    return replace(spec, items=tuple(items))


def _too_large(error: _TooLarge, calls: Mapping[str, Span], report: Report) -> None:
    """Reports a bound that is passed: at the call of the text that leads there, or the constant's use."""
    names = [f"`{name}`" for name in calls]
    report.error(
        "T216",
        f"{error} where {names[0]} is expanded" if names else str(error),
        next(iter(calls.values()), error.span),
        "grows past the bound here",
        notes=[f"the templates on the way are {' -> '.join(names[:8])}{' -> …' if len(names) > 8 else ''}"]
        if len(names) > 1
        else [],
        help="nest templates and constants less, or split the model",
    )
