"""How layers write the op graph: values that know their type, and scopes that know their place in the spec."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Seq
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from towerspec.diagnostics import Span
from towerspec.ir.graph import Op
from towerspec.ir.primitives import (
    Affine,
    Attention,
    Binary,
    Concat,
    Dropout,
    Embed,
    Expand,
    Init,
    LayerNorm,
    Linear,
    MaskFill,
    Matmul,
    Opaque,
    Param,
    Pool,
    Primitive,
    Reduce,
    Reshape,
    Slice,
    Softmax,
    Stack,
    Transpose,
    Unary,
)
from towerspec.ir.types import Level, ShapeError, Type

ZEROS, ONES = Init("zeros"), Init("ones")


MOST_OPS = 300_000  # and operands, as layers ask for them
MOST_NUMBERS = 2**31  # of a parameter, or of a value's row: 8 GiB in fp32


class InterferenceError(ShapeError):
    """An operation would mix what belongs to two surfaces."""


class NamesakeError(ShapeError):
    """Two statements would have parameters at one path."""


class TooLarge(Exception):
    """A graph passes a bound in this scope: of the numbers that one value or parameter would hold, or else of ops."""

    def __init__(self, scope: Scope, numbers: int | None = None) -> None:
        super().__init__(f"{scope.path} makes the graph too large")
        self.scope, self.numbers = scope, numbers


@dataclass(frozen=True)
class Value:
    """A handle on one op's result, in the scope where it is being used."""

    scope: Scope
    id: str
    type: Type

    @property
    def shape(self) -> tuple[int, ...]:
        return self.type.shape

    @property
    def width(self) -> int:
        """The size of the last axis."""
        return self.type.shape[-1]

    def __add__(self, other: Value | float) -> Value:
        return self._arithmetic("add", other)

    def __sub__(self, other: Value | float) -> Value:
        return self._arithmetic("sub", other)

    def __mul__(self, other: Value | float) -> Value:
        return self._arithmetic("mul", other)

    def __truediv__(self, other: Value | float) -> Value:
        return self._arithmetic("div", other)

    def __neg__(self) -> Value:
        return self.apply("neg")

    __radd__, __rmul__ = __add__, __mul__

    def __rsub__(self, other: float) -> Value:
        return self.scope.op(Affine(-1.0, float(other)), self)

    def _arithmetic(self, fn: str, other: Value | float) -> Value:
        if isinstance(other, Value):
            return self.scope.op(Binary(fn), self, other)
        number = float(other)
        affine = {"add": (1.0, number), "sub": (1.0, -number), "mul": (number, 0.0)}
        return self.scope.op(Affine(*(affine[fn] if fn != "div" else (1.0 / number, 0.0))), self)

    def __getitem__(self, columns: slice) -> Value:
        return self.scope.op(Slice(*columns.indices(self.width)[:2]), self)

    def apply(self, fn: str) -> Value:
        """A function of each number; `identity` changes nothing."""
        return self if fn == "identity" else self.scope.op(Unary(fn), self)

    def relu(self) -> Value:
        return self.apply("relu")

    def sigmoid(self) -> Value:
        return self.apply("sigmoid")

    def softmax(self, mask: Value | None = None) -> Value:
        return self.scope.op(Softmax(), self, *([mask] if mask else []))

    def reshape(self, *shape: int) -> Value:
        return self if shape == self.shape else self.scope.op(Reshape(shape), self)

    def transpose(self) -> Value:
        return self.scope.op(Transpose(), self)

    def sum(self, axis: int = -1, keep: bool = False) -> Value:
        return self.scope.op(Reduce("sum", axis, keep), self)

    def mean(self, axis: int = -1, keep: bool = False) -> Value:
        return self.scope.op(Reduce("mean", axis, keep), self)

    def matmul(self, other: Value, transposed: bool = False) -> Value:
        return self.scope.op(Matmul(transposed), self, other)

    def mask_fill(self, mask: Value) -> Value:
        return self.scope.op(MaskFill(), self, mask)

    def dropout(self, p: float) -> Value:
        """Zeroes a share `p` of the numbers in training."""
        return self.scope.op(Dropout(p), self) if p else self

    def pool(self, mask: Value, fn: str) -> Value:
        return self.scope.op(Pool(fn), self, mask)

    def expand(self, level: Level = Level.CANDIDATE) -> Value:
        return self if self.type.level >= level else self.scope.op(Expand(level), self)


@dataclass(frozen=True)
class Sequence:
    """A padded list of vectors: `value` is `[L, D]` a row, `mask` says which of the L positions are there."""

    value: Value
    mask: Value

    @property
    def width(self) -> int:
        return self.value.width

    @property
    def length(self) -> int:
        return self.value.shape[0]


def attention(q: Value, k: Value, v: Value, mask: Value | None = None, heads: int = 1) -> Value:
    """Scaled dot-product attention; see the primitive."""
    return q.scope.op(Attention(heads), q, k, v, *([mask] if mask else []))


@dataclass
class Builder:
    """Collects ops, each once: an op with the same primitive, operands and place is the one that is already there."""

    ops: dict[str, Op] = field(default_factory=dict)
    asked: int = 0  # ops and operands, those that were there already as well
    _known: dict[tuple[object, ...], Op] = field(default_factory=dict)
    _paths: Paths = field(default_factory=lambda: Paths())
    _counts: dict[tuple[str, str], int] = field(default_factory=dict)  # how many ops have asked for a name

    def add(self, scope: Scope, prim: Primitive, inputs: tuple[str, ...], hint: str, owner: str | None) -> Op:
        key = (prim, inputs, scope.path, scope.region, owner)
        self.asked += 1 + len(inputs)
        if self.asked > MOST_OPS:
            raise TooLarge(scope)
        known = self._known.get(key)
        if known is not None:
            return known
        operands = [self.ops[i] for i in inputs]
        owners = {o for o in (owner, *(op.owner for op in operands)) if o}
        if len(owners) > 1:
            raise InterferenceError(
                f"an operation mixes what belongs to the surfaces {' and '.join(f'`{o}`' for o in sorted(owners))}"
            )
        type_ = prim.infer(*(op.type for op in operands))
        if type_.numel > MOST_NUMBERS:
            raise TooLarge(scope, type_.numel)
        mine = next(iter(owners), None)
        name = self._name(scope, hint, mine)
        made = self.ops[name] = self._known[key] = Op(
            name, prim, inputs, type_, scope.path, scope.span, mine, scope.region
        )
        return made

    def declare(self, path: str, statement: str) -> None:
        """Says that a statement has a parameter at a path. Raises `NamesakeError` where another has it already."""
        self._paths.declare(path, statement)

    def _name(self, scope: Scope, hint: str, owner: str | None) -> str:
        # A value of a trunk statement that belongs to one surface carries that surface's name.
        at = f"@{owner}" if owner and not scope.path.startswith(f"surfaces.{owner}.") else ""
        base, count = f"{scope.path}.{hint}", self._counts.get((f"{scope.path}.{hint}", at), 0) + 1
        name = base + at if count == 1 else f"{base}_{count}{at}"
        while name in self.ops:
            count += 1
            name = f"{base}_{count}{at}"
        self._counts[base, at] = count
        return name


@dataclass
class Paths:
    """Where parameters are, and which statement's each is: no two share a path, and none lies within another."""

    statements: dict[str, str] = field(default_factory=dict)  # by path
    around: dict[str, str] = field(default_factory=dict)  # by each path that leads to a parameter, the first such one

    def declare(self, path: str, statement: str) -> None:
        if self.statements.get(path) == statement:
            return
        steps = path.split(".")
        outer = [".".join(steps[:count]) for count in range(1, len(steps))]
        for other in (path, self.around.get(path), *outer):
            if other in self.statements:
                raise NamesakeError(f"`{path}` and `{other}` would be parameters at one place of the model")
        self.statements[path] = statement
        for at in outer:
            self.around.setdefault(at, path)


@dataclass(frozen=True)
class Scope:
    """Where ops are written: the statement's path and span, the surface it is lowered for, the branch arms around it.

    `owner` is set while a surface's own statements are lowered: all that is made there is that surface's.
    """

    builder: Builder
    path: str
    surface: str
    span: Span | None = None
    owner: str | None = None
    region: tuple[str, ...] = ()

    def inside(self, name: str, span: Span | None = None) -> Scope:
        """The scope of a part of this statement."""
        return replace(self, path=f"{self.path}.{name}", span=span or self.span)

    def use(self, value: Value) -> Value:
        """The same value, as an operand in this scope."""
        return Value(self, value.id, value.type)

    def op(self, prim: Primitive, *operands: Value, hint: str | None = None) -> Value:
        """Adds an operation; the result's type and owner follow from the operands."""
        ids = tuple(o.id for o in operands)
        made = self.builder.add(self, prim, ids, hint or str(getattr(prim, "fn", prim.name)), self.owner)
        return Value(self, made.id, made.type)

    def param(
        self,
        name: str,
        shape: Seq[int],
        init: Init = ZEROS,
        *,
        own: bool = False,
        trainable: bool = True,
        dtype: str = "float",
    ) -> Value:
        """A parameter named `<path>.<name>`; with `own`, one for each surface.

        In the name `a.weight` the surface comes before the last part: `<path>.a.<surface>.weight`.
        """
        if own:
            *front, last = name.split(".")
            name = ".".join([*front, self.surface, last])
        path = f"{self.path}.{name}"
        self.builder.declare(path, self.path)
        root = replace(self, region=()) if self.region else self  # a parameter lives outside every branch
        owner = self.surface if own else self.owner
        prim = Param(path, tuple(shape), init, trainable, dtype)
        made = self.builder.add(root, prim, (), name, owner)
        return Value(self, made.id, made.type)

    def linear(self, x: Value, width: int, name: str = "", *, bias: bool = True, own: bool = False) -> Value:
        """`x W^T + b` to a new width, with parameters `<name>.weight` and `<name>.bias`."""
        at = f"{name}." if name else ""
        weight = self.param(f"{at}weight", (width, x.width), glorot(x.width, width), own=own)
        operands = [x, weight, self.param(f"{at}bias", (width,), own=own)] if bias else [x, weight]
        return self.op(Linear(), *operands, hint=f"linear_{name.replace('.', '_')}" if name else "linear")

    def layernorm(self, x: Value, name: str = "norm", *, own: bool = False) -> Value:
        """Layer normalisation over the last axis, with parameters `<name>.scale` and `<name>.shift`."""
        at = f"{name}." if name else ""
        scale = self.param(f"{at}scale", (x.width,), ONES, own=own)
        shift = self.param(f"{at}shift", (x.width,), own=own)
        return self.op(LayerNorm(), x, scale, shift, hint=name.replace(".", "_"))

    def module(
        self,
        target: str,
        *inputs: Value,
        width: int,
        params: Mapping[str, tuple[Seq[int], Init]],
        name: str = "module",
        flops: int = 0,
        own: bool = False,
        **arguments: float | str,
    ) -> Value:
        """The result `[…, width]` of an `nn.Module` from outside, for what primitives can't say.

        `target` is `package.module:Class`, made with `arguments`. It is called with the inputs, has to be scriptable,
        and treats each row by itself. `params` are its parameters and buffers by name, as its state dict has them,
        with their shapes and how they begin; `flops` is what a row costs. Optimisations don't look into it.
        """
        made = [self.param(f"{name}.{at}", shape, init, own=own) for at, (shape, init) in params.items()]
        inner = f"{name}.{self.surface}" if own else name
        prim = Opaque(target, tuple(sorted(arguments.items())), f"{self.path}.{inner}", tuple(params), (width,), flops)
        level = max(x.type.level for x in inputs)
        return self.op(prim, *(self.use(x).expand(level) for x in inputs), *made, hint=name)

    def embed(self, ids: Value, table: Value) -> Value:
        return self.op(Embed(), ids, table)

    def concat(self, values: Seq[Value]) -> Value:
        """Joins along the last axis; constants are repeated for each row first."""
        level = max(v.type.level for v in values)
        values = [self.use(v).expand(level) for v in values]
        return values[0] if len(values) == 1 else self.op(Concat(), *values)

    def stack(self, values: Seq[Value]) -> Value:
        """K vectors `[D]` as a matrix `[K, D]`."""
        level = max(v.type.level for v in values)
        return self.op(Stack(), *(self.use(v).expand(level) for v in values))


def glorot(fan_in: int, fan_out: int) -> Init:
    """Uniform within ±sqrt(6 / (fan_in + fan_out)). Glorot & Bengio 2010, AISTATS, equation 16."""
    return Init("uniform", ((6.0 / (fan_in + fan_out)) ** 0.5,))


@contextmanager
def located(at: str | int | None) -> Iterator[None]:
    """Marks shape errors raised inside with the argument or option that they are about."""
    try:
        yield
    except ShapeError as error:
        if not hasattr(error, "at"):
            error.at = at  # type: ignore[attr-defined]
        raise
