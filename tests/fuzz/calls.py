"""Expressions of generated specs. A kind's own `lower` says what it takes and how wide its result is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tests.fuzz.coverage import Coverage
from tests.fuzz.draw import Draw, Stuck, options
from tests.fuzz.text import Block, Literals, braced
from towerspec.ir.builder import Builder, Scope, Value
from towerspec.ir.builder import Sequence as Positions
from towerspec.ir.primitives import Input, Mask
from towerspec.ir.types import Level, ShapeError
from towerspec.layers.base import Kind, Layer, kinds, signature

WIDEST = 40
MOST_OPS = 250  # of one call


@dataclass(frozen=True)
class Item:
    """A value: how it is written, what it is, and the names that it reads."""

    text: str
    handle: Value | Positions
    reads: frozenset[str]

    @property
    def is_list(self) -> bool:
        return isinstance(self.handle, Positions)

    @property
    def width(self) -> int:
        return self.handle.width

    def named(self, name: str) -> Item:
        return Item(name, self.handle, frozenset({name}))


@dataclass(frozen=True)
class Template:
    """A layer template: its inputs, its option with the default, and its lines as calls of kinds."""

    name: str
    inputs: tuple[str, ...]
    option: tuple[str, int] | None
    lines: tuple[tuple[str, type[Kind], tuple[str, ...], dict[str, Any]], ...]

    def takes(self) -> list[tuple[str, str, bool]]:
        return [(name, "Value", False) for name in self.inputs]


@dataclass
class Calls:
    """Makes expressions; each is lowered as it is made, which gives its type or shows that it can't be."""

    draw: Draw
    literals: Literals
    coverage: Coverage
    layers: Sequence[type[Kind]]
    templates: list[Template] = field(default_factory=list)
    builder: Builder = field(default_factory=Builder)
    made: int = 0

    def scope(self) -> Scope:
        self.made += 1
        return Scope(self.builder, f"at{self.made}", "here")

    def vector(self, width: int) -> Value:
        """Any value of a width."""
        scope = self.scope()
        return scope.op(Input(scope.path, Level.CANDIDATE, (width,), "float"))

    def sequence(self, length: int, width: int) -> Positions:
        """Any sequence."""
        scope = self.scope()
        ids = scope.op(Input(f"{scope.path}.ids", Level.CANDIDATE, (length,), "int"))
        value = scope.op(Input(f"{scope.path}.value", Level.CANDIDATE, (length, width), "float"))
        return Positions(value, scope.op(Mask(), ids))

    # ---- calls -------------------------------------------------------------------------------

    def call(self, pool: Sequence[Item], depth: int = 0, among: Sequence[Any] | None = None) -> Item:
        """A call of some layer or template on some of the pool's values."""
        callees = among or [*self.layers, *self.templates]
        for attempt in range(8):
            made = self._try(self.draw.choice(callees), pool, depth, attempt > 1 or self.draw.chance(0.3))
            if made is not None:
                return made
        return self.linear(self._vectors(pool, 1, depth)[0], self.draw.common)

    def linear(self, x: Item, width: int) -> Item:
        return Item(f"linear({x.text}, width: {width})", self.vector(width), x.reads)

    def concat(self, items: Sequence[Item]) -> Item:
        """All of several vectors side by side."""
        if len(items) == 1:
            return items[0]
        total = sum(i.width for i in items)
        reads = frozenset[str]().union(*(i.reads for i in items))
        return Item(f"concat({', '.join(i.text for i in items)})", self.vector(total), reads)

    def encoded(self, x: Item) -> Item:
        """A sequence as a vector."""
        encoders = [c for c in self.layers if [t for _, t, _ in signature(c)] == ["Sequence"]]
        for _ in range(6):
            made = self._try(self.draw.choice(encoders), [x], 2, False)
            if made is not None and not made.is_list:
                return made
        return Item(f"pooling({x.text})", self.vector(x.width), x.reads)

    def _try(self, callee: Any, pool: Sequence[Item], depth: int, level: bool) -> Item | None:
        takes = callee.takes() if isinstance(callee, Template) else signature(callee)
        inputs = self._inputs(takes, pool, depth)
        if inputs is None:
            return None
        if level:
            inputs = self._levelled(inputs)
        try:
            found, lowered = self._lowered(callee, inputs)
        except (ShapeError, Stuck):
            return None
        if lowered.width > WIDEST or (isinstance(lowered, Value) and len(lowered.shape) != 1):
            return None
        name = callee.name if isinstance(callee, Template) else callee.kind
        self.coverage.kind("template" if isinstance(callee, Template) else "layer", name, found)
        texts = [*(i.text for i in inputs), *self.literals.options(found)]
        reads = frozenset[str]().union(*(i.reads for i in inputs))
        return Item(f"{name}({', '.join(texts)})", lowered, reads)

    def _inputs(self, takes: Sequence[tuple[str, str, bool]], pool: Sequence[Item], depth: int) -> list[Item] | None:
        inputs: list[Item] = []
        for _, wanted, many in takes:
            count = self.draw.choice([1, 2, 2, 3]) if many else 1
            lists = [i for i in pool if i.is_list]
            if wanted == "Sequence" or (wanted == "Tensor" and lists and self.draw.chance(0.5)):
                if not lists:
                    return None
                inputs += [self.draw.choice(lists) for _ in range(count)]
            else:
                inputs += self._vectors(pool, count, depth)
        return inputs

    def _vectors(self, pool: Sequence[Item], count: int, depth: int) -> list[Item]:
        """Vectors of the pool, or calls on some of it."""
        vectors = [i for i in pool if not i.is_list]
        picked = []
        for _ in range(count):
            nested = self.call(pool, depth + 1) if depth < 2 and self.draw.chance(0.25) and vectors else None
            if nested is not None and nested.is_list:
                nested = self.encoded(nested)
            picked.append(nested or (self.draw.choice(vectors) if vectors else self.encoded(self.draw.choice(pool))))
        return picked

    def _levelled(self, inputs: Sequence[Item]) -> list[Item]:
        """All vectors brought to one width: that of a sequence beside them, or of the first."""
        lists = [i for i in inputs if i.is_list]
        width = (lists or list(inputs))[0].width
        width = width if 1 < width <= 8 or lists else self.draw.common
        return [i if i.width == width or i.is_list else self.linear(i, width) for i in inputs]

    def _lowered(self, callee: Any, inputs: Sequence[Item]) -> tuple[dict[str, Any], Value | Positions]:
        before, scope = len(self.builder.ops), self.scope()
        handles = [_used(scope, i.handle) for i in inputs]
        if isinstance(callee, Template):
            found = (
                {} if callee.option is None or self.draw.chance(0.5) else {callee.option[0]: self.draw.randint(1, 6)}
            )
            lowered = self._template(callee, handles, found)
        else:
            found = options(self.draw, callee)
            layer = callee.model_validate(found)
            assert isinstance(layer, Layer)
            lowered = layer.lower(scope, *handles)
        if len(self.builder.ops) - before > MOST_OPS:
            raise Stuck("too large")
        return found, lowered

    # ---- templates ---------------------------------------------------------------------------

    def _template(self, template: Template, handles: Sequence[Any], given: Mapping[str, Any]) -> Value | Positions:
        values = dict(zip(template.inputs, handles, strict=True))
        for name, cls, reads, found in template.lines:
            scope = self.scope()
            chosen = {k: self._option(template, v, given) for k, v in found.items()}
            layer = cls.model_validate(chosen)
            values[name] = layer.lower(scope, *(_used(scope, values[r]) for r in reads))  # type: ignore[attr-defined]
        return values[template.lines[-1][0]]

    def _option(self, template: Template, value: Any, given: Mapping[str, Any]) -> Any:
        if template.option is None or value != Param(template.option[0]):
            return value
        return given.get(*template.option)

    def template(self, name: str, fresh: Any) -> Block:
        """Makes a layer template, to be called from then on, and its text."""
        inputs = tuple(fresh("parameter") for _ in range(self.draw.choice([1, 1, 2])))
        param = fresh("parameter") if self.draw.chance(0.7) else None
        lines: list[tuple[str, type[Kind], tuple[str, ...], dict[str, Any]]] = []
        plain = [c for c in self.layers if all(t in ("Value", "Tensor") for _, t, _ in signature(c))]
        lifted = False
        unread = list(inputs)
        for i in range(self.draw.randint(1, 3)):
            cls = self.draw.choice(plain)
            many = any(m for _, _, m in signature(cls))
            need = len(signature(cls))
            known = [*inputs, *(line[0] for line in lines)]
            reads = [unread.pop() if unread else self.draw.choice(known) for _ in range(need + (many and i == 0))]
            found = options(self.draw, cls)
            whole = [k for k, v in found.items() if type(v) is int]
            if param and whole and not lifted:
                found[self.draw.choice(whole)] = Param(param)
                lifted = True
            lines.append((fresh("value"), cls, tuple(reads), found))
            unread.append(lines[-1][0])
        while len(unread) > 1:  # the result has to depend on every line
            cls = next(c for c in self.layers if c.kind == "concat")
            lines.append((fresh("value"), cls, tuple(unread), {}))
            unread = [lines[-1][0]]
        default = (param, self.draw.randint(1, 6)) if param and lifted else None
        made = Template(name, inputs, default, tuple(lines))
        self.templates.append(made)
        heads = [*inputs, *([f"{default[0]}: {default[1]}"] if default else [])]
        body = [
            f"{line} = {cls.kind}({', '.join([*reads, *self._written(found)])})" for line, cls, reads, found in lines
        ]
        return braced(f"template {name}({', '.join(heads)})", body)

    def _written(self, found: Mapping[str, Any]) -> list[str]:
        return [f"{k}: {v.name if isinstance(v, Param) else self.literals.text(v)}" for k, v in found.items()]


@dataclass(frozen=True)
class Param:
    """Stands for a template's option in its body."""

    name: str


def _used(scope: Scope, handle: Value | Positions) -> Value | Positions:
    if isinstance(handle, Positions):
        return replace(handle, value=scope.use(handle.value), mask=scope.use(handle.mask))
    return scope.use(handle)


def layer_kinds(names: Collection[str] | None = None) -> list[type[Kind]]:
    """The layers of the registry, those that packages add as well."""
    return [cls for name, cls in kinds("layer").items() if names is None or name in names]
