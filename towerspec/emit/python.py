"""Writes Python that a person can read: the unified model, and each surface's serving graph."""

from __future__ import annotations

import ast
import functools
import inspect
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from types import ModuleType

import jinja2

from towerspec import __version__
from towerspec.check.names import COUNTS
from towerspec.diagnostics import Span
from towerspec.emit import helpers, traceable_helpers
from towerspec.emit.body import CONTEXT, Call, Function, Writer, context_of, returned
from towerspec.emit.names import Names, class_name, class_names, comment, hint, literal, method, spec_line
from towerspec.emit.params import Part, build_tree, constructor, members
from towerspec.emit.steps import Plan, Step, own, place_of, plan
from towerspec.emit.wrapping import wrap_source
from towerspec.ir.graph import Graph
from towerspec.ir.primitives import Input, Opaque, Param, Reshape
from towerspec.ir.types import Level
from towerspec.passes.reuse import FRESH


@dataclass
class Class:
    """One generated class."""

    name: str
    base: str
    comment: list[str] = field(default_factory=list)
    doc: str = ""
    constants: list[str] = field(default_factory=list)
    parameters: str = ""
    constructor: list[str] = field(default_factory=list)
    functions: list[Function] = field(default_factory=list)


# ---- the unified model -------------------------------------------------------------------------


def render_model(graph: Graph, slices: dict[str, Graph], spec_path: str) -> str:
    """The unified model: a class for each statement with parameters, and a root that wires them.

    The root's `forward(features, surface, request)` computes the trunk on all rows and each tower on its own
    surface's rows; a method for each surface of `slices` serves that surface alone.
    """
    return _Unified(graph, slices, spec_path).render()


class _Unified:
    def __init__(self, graph: Graph, slices: dict[str, Graph], spec_path: str) -> None:
        self.graph, self.slices, self.spec_path = graph, slices, spec_path
        self.base = os.path.dirname(spec_path)
        params = [op.prim for op in graph.ops if isinstance(op.prim, Param)]
        opaques = [op.prim for op in graph.ops if isinstance(op.prim, Opaque)]
        scopes = {op.scope for op, _ in graph.params if self._has_ops(op.scope)}
        self.classes: dict[str, Class] = {}
        self.names = class_names(sorted(scopes), graph.model)
        self.tree = build_tree(params, opaques, self.names)
        self.methods: dict[str, dict[tuple[object, ...], str]] = {scope: {} for scope in self.names}
        self.plan = plan(graph, grouped=True)
        self.first = {o.name: o.surface for o in reversed(graph.outputs)}  # which surface is the first with each head

    def _has_ops(self, scope: str) -> bool:
        return scope in self._op_scopes

    @functools.cached_property
    def _op_scopes(self) -> set[str]:
        return {op.scope for op in self.graph.ops if not isinstance(op.prim, (Input, Param))}

    @functools.cached_property
    def _spans(self) -> dict[str, Span]:
        """The first place in the spec of each scope."""
        return {op.scope: op.span for op in reversed(self.graph.ops) if op.span}

    def render(self) -> str:
        root = Class(class_name(self.graph.model), "nn.Module")
        root.doc = "The whole model; `forward` routes rows to their surfaces, and each surface has a method of its own."
        root.constants = [
            _wrapped_tuple("SURFACES", self.graph.surfaces),
            _wrapped_tuple("REQUEST", dict.fromkeys(i.feature for i in self._request_inputs)),
        ]
        root.parameters = ", seed: int = 0"
        writer = self._writer(self.plan)
        root.functions.append(self._forward(writer))
        for surface in self.slices:
            root.functions.append(self._surface(surface))
        for surface in self.graph.surfaces:
            results = [i for o in self.graph.heads[surface] for i in (o.prediction, o.logit)]
            root.functions.append(writer.function(own(surface), results))
        root.functions += writer.arms()
        root.constructor = ["super().__init__()"]
        root.constructor += [f"self.{name} = {constructor(part, 0)}" for name, part in self.tree.parts.items()]
        root.constructor.append("initialise(self, seed)")
        for scope, name in self.names.items():
            self._class(scope, name)
        return _render(
            f"{self.graph.model}: the unified model.", self.spec_path, [*self.classes.values(), root], self.graph
        )

    @property
    def _request_inputs(self) -> list[Input]:
        return [i for _, i in self.graph.inputs if i.level == Level.REQUEST]

    def _writer(self, plan_: Plan) -> Writer:
        writer = Writer(plan_, self.tree, self.base, some="some(rows)")
        writer.call = lambda step: self._call(step, writer)
        return writer

    def _call(self, step: Step, writer: Writer) -> Call | None:
        """The method that stands for a step of a statement with parameters, added to its class if it is new."""
        if step.scope not in self.names or step.branch:
            return None
        names = Names()
        inner = writer.within(self.tree.find(step.scope), {op.id: hint(op) for op in step.ops})
        arguments = []
        for id_ in step.reads:
            if writer.belongs(id_, step):
                continue
            prim = self.graph.by_id[id_].prim if id_ in self.graph.by_id else writer.graph.by_id[id_].prim
            base = "_".join(prim.path.split(".")[-2:]) if isinstance(prim, Param) else ""
            arguments.append((names.give(id_, base) if base else inner.name(id_, names), "Tensor"))
        lines = [inner.statement(op, names, inner.name(op.id, names), step.scope) for op in step.ops]
        context = context_of(lines)
        value, type_ = returned([inner.name(i, names) for i in step.makes])
        function = Function("", arguments + [(c, CONTEXT[c]) for c in context], lines, value, type_)
        name = self._method(step, function, writer.graph)
        at = self.tree.access(step.scope)
        return Call(at if name == "forward" else f"{at}.{name}", tuple(context))

    def _method(self, step: Step, function: Function, graph: Graph) -> str:
        known = self.methods[step.scope]
        if function.key not in known:
            surface = step.ops[0].owner or graph.surface or "shared"
            name = "forward" if not known else f"_for_{surface}"
            while name in known.values():
                name += "_"
            known[function.key] = function.name = name
            cls = self.classes.setdefault(step.scope, Class(self.names[step.scope], "Part"))
            cls.functions.append(function)
        return known[function.key]

    def _class(self, scope: str, name: str) -> None:
        cls = self.classes.setdefault(scope, Class(name, "Part"))
        part = self.tree.find(scope)
        span = self._spans.get(scope)
        cls.comment = [f"{scope}"] + ([spec_line(span, self.base)] if span else [])
        cls.base = "nn.ModuleList" if part.is_list else "Part"
        cls.constructor = [members(part, 0)]

    def _forward(self, writer: Writer) -> Function:
        names = Names()
        body = self._features(names, writer) + writer.body((), names)
        for surface in self.graph.surfaces:
            body += self._route(surface, names, writer)
        lines = ["out: dict[str, Tensor] = {}", "n = surface.size(0)"]
        lines += ["if request is None:", "    request = torch.arange(n, device=surface.device)"]
        used = context_of(body)
        if "r" in used or "asked" in used:
            lines.append(f"r = features[{literal(self._request_inputs[0].feature)}].size(0)")
        if "asked" in used:
            lines.append("asked = surfaces_asked(surface, request, r)")
        return Function(
            "forward",
            [("features", "dict[str, Tensor]"), ("surface", "Tensor"), ("request", "Tensor | None = None")],
            lines + body,
            "out",
            "dict[str, Tensor]",
            "each row of `surface` is an index into SURFACES; rows without a head get NaN in its place\n"
            "        # with `request`, the features of REQUEST have a row a request, and it says which is each row's",
        )

    def _features(self, names: Names, writer: Writer) -> list[str]:
        return [
            f"{writer.name(op.id, names)} = features[{literal(i.feature)}]  # {op.type.dims}"
            for op, i in self.graph.inputs
            if op.owner is None
        ]

    def _route(self, surface: str, names: Names, writer: Writer) -> list[str]:
        """One surface's rows through its own part."""
        place = own(surface)
        captured = self.plan.captured(place)
        by_id = self.graph.by_id
        outputs = self.graph.heads[surface]
        like = next(
            writer.name(i, names) for i in captured if by_id[i].type.dtype == "float" and not _own_input(by_id[i])
        )
        lines = [f"# surface {surface}"]
        for o in outputs:
            for key, id_ in ((o.name, o.prediction), (f"{o.name}.logit", o.logit)):
                if self.first[o.name] == surface:
                    lines.append(f"out[{literal(key)}] = unset({like}, n, {list(by_id[id_].type.shape)})")
        index = writer.surfaces[surface]
        lines += [f"rows = rows_with(surface, [{index}])", "if some(rows):"]
        arguments = ["rows.numel()", "torch.arange(rows.numel(), device=rows.device)"]
        if any(by_id[i].type.level == Level.REQUEST for i in captured):
            lines.append(f"    asking = rows_with(asked, [{index}])")
            arguments[1] = "torch.searchsorted(asking, request[rows])"
        arguments += ["asking.numel()"] if self.plan.repeats(place) else []
        arguments += [self._routed(i, names, writer) for i in captured]
        parts = [f"_part_{i}" for i in range(2 * len(outputs))]
        lines.append(f"    {', '.join(parts)} = self.{writer.functions[place]}({', '.join(arguments)})")
        for i, o in enumerate(outputs):
            for key, part in ((o.name, parts[2 * i]), (f"{o.name}.logit", parts[2 * i + 1])):
                lines.append(f"    out[{literal(key)}] = out[{literal(key)}].index_copy(0, rows, {part})")
        return lines

    def _routed(self, id_: str, names: Names, writer: Writer) -> str:
        op = self.graph.by_id[id_]
        if op.type.level == Level.CONSTANT:  # such as a part of a weight: it is the same for all rows
            return writer.name(id_, names)
        rows = "asking" if op.type.level == Level.REQUEST else "rows"
        if _own_input(op):
            assert isinstance(op.prim, Input)
            return f"features[{literal(op.prim.feature)}][{rows}]"
        return f"{writer.name(id_, names)}[{rows}]"

    def _surface(self, surface: str) -> Function:
        sliced = self.slices[surface]
        plan_ = plan(sliced, grouped=True)
        writer, names = self._writer(plan_), Names()
        arguments, lines = signature(sliced, names, writer, always=True)
        lines += writer.body((), names)
        captured = [writer.name(i, names) for i in plan_.captured(own(surface))]
        results = [i for o in sliced.outputs for i in (o.prediction, o.logit)]
        # A head whose prediction is its logit (a regression) stands twice, here and in what the function returns.
        call = [writer.name(i, names) for i in results]
        lines.append(
            f"{', '.join(call)} = self.{writer.functions[own(surface)]}({', '.join(['n', 'request', *captured])})"
        )
        predictions = _owned(sliced, [o.prediction for o in sliced.outputs], writer, names)
        return Function(
            method(surface), arguments, lines, *_tuple(predictions), comment=f"surface {surface} alone", exported=True
        )


def _own_input(op: object) -> bool:
    return isinstance(getattr(op, "prim", None), Input) and getattr(op, "owner", None) is not None


def _tuple(names: Sequence[str]) -> tuple[str, str]:
    value = f"({names[0]},)" if len(names) == 1 else ", ".join(names)
    return value, f"tuple[{', '.join(['Tensor'] * len(names))}]"


def _wrapped_tuple(name: str, items: Iterable[str]) -> str:
    shown = [literal(item) for item in items]
    line = f"{name} = ({', '.join(shown)},)" if len(shown) == 1 else f"{name} = ({', '.join(shown)})"
    return line if len(line) <= 110 else "\n        ".join([f"{name} = (", *(f"{item}," for item in shown)]) + "\n    )"


# ---- one surface -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rendered:
    """A surface's source, its class, and which op each variable of each of its functions holds."""

    source: str
    cls: str
    variables: dict[str, dict[str, str]]


def render_surface(graph: Graph, spec_path: str, logits: bool = False, traceable: bool = False) -> Rendered:
    """One surface's serving graph after optimisation, flat, in the order in which it runs.

    With `traceable`, it has no Python decision that depends on a tensor's numbers or rows, for torch.export, and
    takes `candidates_per_request` for one request as well.
    """
    opaques = [op.prim for op in graph.ops if isinstance(op.prim, Opaque)]
    tree = build_tree((op.prim for op in graph.ops if isinstance(op.prim, Param)), opaques, inits=False)
    writer, names = Writer(plan(graph, grouped=False), tree, None, traceable=traceable), Names()
    arguments, _ = signature(graph, names, writer, always=True)
    body = writer.body((), names)
    prelude = signature(graph, names, writer, always=False, body=body)[1]
    results = [o.prediction for o in graph.outputs] + ([o.logit for o in graph.outputs] if logits else [])
    values = _owned(graph, results, writer, names)
    surface = graph.surface or graph.model
    cls = Class(class_name(surface), "nn.Module", doc=f"Surface {surface}: everything it needs and nothing else.")
    cls.constructor = ["super().__init__()"]
    cls.constructor += [f"self.{name} = {constructor(part, 0)}" for name, part in tree.parts.items()]
    forward = Function("forward", arguments, prelude + body, *_tuple(values), variables=names.variables)
    cls.functions = [forward, *writer.arms()]
    helping = (helpers, traceable_helpers) if traceable else (helpers,)
    source = _render(f"{graph.model}: surface {surface}.", spec_path, [cls], graph, helping)
    return Rendered(source, cls.name, {f.name: f.variables for f in cls.functions})


def _owned(graph: Graph, results: Sequence[str], writer: Writer, names: Names) -> list[str]:
    """The results, each without gaps and in memory of its own: a caller may read it as an array, and write to it."""
    values, taken = [], set()
    for id_ in results:
        name, made = writer.name(id_, names), graph.by_id[id_]
        while isinstance(made.prim, Reshape):
            made = graph.by_id[made.inputs[0]]
        own = isinstance(made.prim, FRESH) and not graph.by_id[id_].type.shape and made.id not in taken
        values.append(name if own else f"dense({name})")
        taken.add(made.id)
    return values


def takes_counts(graph: Graph) -> bool:
    """Whether a surface has inputs of both levels, so that candidates must be told which request is theirs."""
    return {i.level for _, i in graph.inputs} >= {Level.REQUEST, Level.CANDIDATE}


def signature(
    graph: Graph, names: Names, writer: Writer, always: bool, body: Sequence[str] = ()
) -> tuple[list[tuple[str, str]], list[str]]:
    """A surface's arguments in call order, and the statements that say how many rows there are and whose.

    Without `always`, only the statements that the body needs.
    """
    inputs = [(writer.name(op.id, names), i.level) for op, i in graph.inputs]
    requests = [name for name, level in inputs if level == Level.REQUEST]
    candidates = [name for name, level in inputs if level == Level.CANDIDATE]
    arguments = [(name, "Tensor") for name, _ in inputs]
    if requests and candidates:
        arguments.append((COUNTS, "Tensor | None = None"))
    used = {"n", "request"} if always else set(context_of(body))
    lines = []
    if "request" in used or "n" in used:
        lines.append(f"n = {(candidates or requests)[0]}.size(0)")
    if "r" in used:
        lines.append(f"r = {requests[0]}.size(0)" if requests else "r = 1")
    if "request" in used:
        r = f"{requests[0]}.size(0)" if requests else "1"
        counts = COUNTS if requests and candidates else "None"
        lines.append(f"request = row_map({r}, n, {counts}, {inputs[0][0]})")
    return arguments, lines


# ---- the file ----------------------------------------------------------------------------------


@functools.cache
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("towerspec.emit"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    made.filters["comment"] = comment
    return made


@functools.cache
def _helper_sources(modules: tuple[ModuleType, ...]) -> dict[str, str]:
    """The sources of some modules' functions by name; a later one's stand in for an earlier one's."""
    found = {
        name: value
        for module in modules
        for name, value in vars(module).items()
        if getattr(value, "__module__", "") == module.__name__
    }
    return {
        name: inspect.getsource(value).rstrip().replace("  # type: ignore[attr-defined]", "")
        for name, value in found.items()
    }


def _words(code: str) -> frozenset[str]:
    """The names that some code uses."""
    return frozenset(node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name))


def _used_helpers(words: frozenset[str], modules: tuple[ModuleType, ...]) -> list[str]:
    """The helpers among some names, and those that they name, in the order of their file."""
    sources = _helper_sources(modules)
    used: set[str] = set()
    wanted = [name for name in sources if name in words]
    while wanted:
        name = wanted.pop()
        if name not in used:
            used.add(name)
            wanted += [other for other in _words(sources[name]) if other in sources]
    return [source for name, source in sources.items() if name in used]


def _render(
    title: str, spec_path: str, classes: list[Class], graph: Graph, helping: tuple[ModuleType, ...] = (helpers,)
) -> str:
    targets = sorted({op.prim.target for op in graph.ops if isinstance(op.prim, Opaque)})
    context = {
        "title": title,
        "version": __version__,
        "source": os.path.basename(spec_path),
        "classes": classes,
        "foreign_imports": [f"from {t.split(':')[0]} import {t.split(':')[1]}" for t in targets],
        "helpers": [],
        "standard_imports": [],
        "functional": False,
    }
    template = _environment().get_template("module.py.j2")
    words = _words(template.render(context))
    helpers_used = _used_helpers(words, helping)
    words = words.union(*map(_words, helpers_used))
    context["helpers"] = helpers_used
    context["standard_imports"] = [f"import {w}" for w in ("hashlib", "math") if w in words]
    context["functional"] = "F" in words
    return wrap_source(template.render(context))


__all__ = ["COUNTS", "place_of", "render_model", "render_surface", "takes_counts", "Part"]
