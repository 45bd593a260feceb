"""The bodies of generated functions: steps written as statements, branches as calls of their arms."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from towerspec.emit.names import Names, comment, hint, last_step, spec_line, value_names
from towerspec.emit.params import Part
from towerspec.emit.steps import Place, Plan, Step, arm_of, own
from towerspec.ir.graph import Graph, Op
from towerspec.ir.primitives import Attention, Merge, Opaque, Param, Present, Reshape
from towerspec.ir.types import Level

CONTEXT = {"n": "int", "r": "int", "request": "Tensor", "surface": "Tensor", "asked": "Tensor"}
_WIDTH = 118


@dataclass
class Function:
    """One method of a generated class."""

    name: str
    arguments: list[tuple[str, str]]
    lines: list[str]
    returns: str
    type: str
    comment: str = ""
    exported: bool = False
    variables: dict[str, str] = field(default_factory=dict)  # which op each variable holds

    @property
    def header(self) -> str:
        """The `def` line, wrapped where it is long."""
        arguments = ["self", *(f"{name}: {type_}" for name, type_ in self.arguments)]
        line = f"def {self.name}({', '.join(arguments)}) -> {self.type}:"
        if len(line) <= _WIDTH - 4:
            return line
        return "\n".join([f"def {self.name}(", *(f"        {a}," for a in arguments), f"    ) -> {self.type}:"])

    @property
    def key(self) -> tuple[object, ...]:
        """What two methods share when one can stand for the other."""
        return (tuple(self.arguments), tuple(self.lines), self.returns)


@dataclass(frozen=True)
class Call:
    """The method that a step calls, and which of the function-wide values it takes."""

    method: str
    context: tuple[str, ...]


@dataclass
class Writer:
    """Writes the functions of one class from a plan; `call` gives the method that stands for a step, if any.

    With `traceable`, no statement depends on the numbers in a tensor: an arm runs on its rows, also where it has none.
    """

    plan: Plan
    tree: Part
    base: str | None  # the folder that comments name places of the spec from; without it they name none
    call: Callable[[Step], Call | None] = field(default=lambda step: None)
    traceable: bool = False
    some: str = "rows.numel() > 0"

    @property
    def graph(self) -> Graph:
        return self.plan.graph

    def __post_init__(self) -> None:
        self.local: dict[str, str] = {}  # names within one statement's class
        self.spoken = _spoken(self.plan)
        self.functions = function_names(self.plan)
        self.surfaces = {surface: at for at, surface in enumerate(self.graph.surfaces)}

    def within(self, tree: Part, local: dict[str, str]) -> Writer:
        """A writer of one statement's class, which knows what this one does."""
        made = copy.copy(self)
        made.tree, made.local, made.some, made.call = tree, local, "rows.numel() > 0", lambda step: None
        return made

    def name(self, id_: str, names: Names) -> str:
        """The variable of a value, named after the spec where the spec names it."""
        if id_ in names.by_id:
            return names.by_id[id_]
        op = self.graph.by_id[id_]
        base = self.spoken.get(id_) or self.local.get(id_) or f"{last_step(op.scope)}_{hint(op)}"
        return names.give(id_, base)

    def operand(self, id_: str, names: Names, root: str = "self", inside: str = "") -> str:
        """The expression of an operand: a variable, or where a parameter lives."""
        prim = self.graph.by_id[id_].prim
        if not isinstance(prim, Param) or id_ in names.by_id:
            return self.name(id_, names)
        return self.tree.access(prim.path[len(inside) + 1 :] if inside else prim.path, root)

    def statement(self, op: Op, names: Names, target: str, inside: str = "") -> str:
        """One op as one assignment, with its shape."""
        operands = op.inputs
        if isinstance(op.prim, Opaque):  # its module holds its parameters
            operands = operands[: len(operands) - len(op.prim.names)]
        args = tuple(self.operand(i, names, inside=inside) for i in operands)
        if self.traceable and isinstance(op.prim, (Attention, Reshape)):
            args = tuple(f"dense({arg})" for arg in args)
        types = self.graph.types(op)
        if isinstance(op.prim, Present) and len(args) == 2:
            having = [self.surfaces[s] for s in op.prim.surfaces]
            of = "asked" if op.type.level == Level.REQUEST else "surface"
            code = f"present({args[0]}, {args[1]}, {of}, {having})"
        else:
            code = op.prim.code(args, types, op.type)
        if isinstance(op.prim, Opaque):
            path = op.prim.path[len(inside) + 1 :] if inside else op.prim.path
            code = code.format(module=self.tree.access(path) if path else "self")
        return annotate(f"{target} = {code}", op.type.dims)

    def body(self, place: Place, names: Names, results: Sequence[str] = ()) -> list[str]:
        """The statements of a place, in order."""
        lines: list[str] = []
        scope = None
        for step in self.plan.at(place):
            called = self.call(step)
            if called is not None:
                lines.append(self._called(step, called, names))
                continue
            if step.scope != scope or step.branch:
                scope = step.scope
                line = spec_line(step.ops[0].span, self.base)
                lines.append(f"# {comment(scope)}" + (f"  ({line})" if line else ""))
            if step.branch:
                lines += self._dispatch(step, names)
            else:
                lines += [self.statement(op, names, self.name(op.id, names)) for op in step.ops]
        return lines

    def _called(self, step: Step, called: Call, names: Names) -> str:
        arguments = [self.operand(i, names) for i in step.reads if not self.belongs(i, step)]
        targets = ", ".join(self.name(i, names) for i in step.makes)
        line = f"{targets} = {called.method}({', '.join([*arguments, *called.context])})"
        return annotate(line, ", ".join(self.graph.by_id[i].type.dims for i in step.makes))

    def belongs(self, id_: str, step: Step) -> bool:
        """Whether an operand is a parameter of the step's own statement."""
        prim = self.graph.by_id[id_].prim
        return isinstance(prim, Param) and prim.path.startswith(f"{step.scope}.")

    def _dispatch(self, step: Step, names: Names) -> list[str]:
        """A branch: each arm's rows through that arm's function; with one request, all rows take one arm."""
        merge = step.ops[0].prim
        assert isinstance(merge, Merge)
        key = self.operand(step.ops[0].inputs[0], names)
        like = self._like(self.plan.captured(arm_of(step, merge.arms[0][0])), names)
        lines = []
        for op in step.ops:
            target = self.name(op.id, names)
            lines.append(annotate(f"{target} = unset({like}, n, {list(op.type.shape)})", op.type.dims))
        listed = [i for _, ids in merge.arms for i in ids]
        for label, ids in sorted(merge.arms, key=lambda arm: not arm[1]):
            lines += self._arm(
                step, label, f"rows_with({key}, {list(ids)})" if ids else f"rows_without({key}, {listed})", names
            )
        return lines

    def _like(self, captured: Sequence[str], names: Names) -> str:
        """A value of float32, or none of its rows made that, for what an arm's result looks like."""
        types = {i: self.graph.by_id[i].type.dtype for i in captured}
        for id_ in captured:
            if types[id_] == "float":
                return self.name(id_, names)
        return next(f"{self.name(i, names)}[:0].to(torch.float32)" for i in captured if types[i] == "bf16")

    def _arm(self, step: Step, label: str, rows: str, names: Names) -> list[str]:
        place = arm_of(step, label)
        returned = self.plan.arms[place]
        function = f"self.{self.functions[place]}"
        parts = [f"_part_{i}" for i in range(len(returned))]
        merged = [
            (self.name(op.id, names), parts[returned.index(op.inputs[1 + op.prim.defined.index(label)])])
            for op in step.ops
            if isinstance(op.prim, Merge) and label in op.prim.defined
        ]
        if self.traceable:
            taken, put = "{0}[rows]", "{0}.index_copy(0, rows, {1})"
        else:
            taken, put = "take_rows({0}, rows, n)", "put_rows({0}, rows, {1}, n)"
        arguments = ["rows.numel()", taken.format("request")]
        for id_ in self.plan.captured(place):
            constant = self.graph.by_id[id_].type.level == Level.CONSTANT  # the same for all rows
            arguments.append(self.name(id_, names) if constant else taken.format(self.name(id_, names)))
        # One call, also where all rows take this arm: two would double the code with each branch inside a branch.
        lines = [f"{', '.join(parts)} = {function}({', '.join(arguments)})"]
        lines += [f"{target} = {put.format(target, part)}" for target, part in merged]
        if self.traceable:
            return [f"rows = {rows}", *lines]
        return [f"rows = {rows}", f"if {self.some}:", *(f"    {line}" for line in lines)]

    def function(self, place: Place, results: Sequence[str], comment: str = "") -> Function:
        """The function of an arm or of a surface's own part: from the values that it captures to its results."""
        names = Names()
        arguments = [("n", "int"), ("request", "Tensor")]
        arguments += [("r", "int")] if self.plan.repeats(place) else []
        arguments += [(self.name(i, names), "Tensor") for i in self.plan.captured(place)]
        lines = self.body(place, names)
        returns, type_ = returned([self.name(i, names) for i in results])
        return Function(self.functions[place], arguments, lines, returns, type_, comment, variables=names.variables)

    def arms(self) -> list[Function]:
        """The functions of all branch arms."""
        return [self.function(place, values, place[-1].split(".")[-1]) for place, values in self.plan.arms.items()]


def _spoken(plan: Plan) -> dict[str, str]:
    """What values are called that mean something in the spec, alone or as what a statement makes."""
    graph = plan.graph
    ends: dict[str, str] = {}
    for op in graph.ops:
        ends[op.scope] = op.id
    main = {s.makes[0]: last_step(s.scope) for s in plan.steps if len(s.makes) == 1 and len(s.ops) > 1}
    return {**{id_: last_step(scope) for scope, id_ in ends.items()}, **main, **value_names(graph)}


def returned(names: Sequence[str]) -> tuple[str, str]:
    """The `return` expression and its type for one value or several."""
    if len(names) == 1:
        return names[0], "Tensor"
    return ", ".join(names), f"tuple[{', '.join(['Tensor'] * len(names))}]"


def function_names(plan: Plan) -> dict[Place, str]:
    """The private method that runs each place, none twice: `a_b.c` and `a.b_c` are two paths."""
    # `own` and `arm` keep these apart from everything that nn.Module has.
    found = {own(surface): f"_own_{surface}" for surface in plan.graph.surfaces}
    names = Names()
    for place in plan.arms:
        found[place] = f"_arm_{names.fresh(place[-1].removeprefix('surfaces.'))}"
    return found


def annotate(line: str, dims: str) -> str:
    """A statement with its shape as a comment."""
    return f"{line}  # {dims}"


def context_of(lines: Sequence[str]) -> list[str]:
    """Which of the function-wide values some lines need."""
    text = "\n".join(line.split("  # ")[0] for line in lines if not line.startswith("#"))
    text = re.sub(r'"[^"]*"', "", text)  # a feature of that name is none of them
    return [word for word in CONTEXT if re.search(rf"(?<![\w.]){word}\b(?!=)", text)]
