"""Where rows take different paths, and where code from outside comes in."""

from __future__ import annotations

from towerspec.frozen import dataclass
from towerspec.ir.primitives.base import Primitive, need
from towerspec.ir.types import Level, Type


@dataclass(frozen=True)
class Merge(Primitive):
    """Brings one output of a branch's arms together: the operands are the key's ids, then a value of each arm.

    `arms` holds every arm's label and the ids that select it; the arm with no ids takes all others.
    `defined` names the arms that the operands come from; rows of another arm get NaN.
    """

    name = "merge"
    branch: str
    arms: tuple[tuple[str, tuple[int, ...]], ...]
    defined: tuple[str, ...]

    def infer(self, key: Type, *values: Type) -> Type:
        need(key.dtype == "int" and key.shape == (), "a branch key is one id")
        need(len(values) == len(self.defined) > 0, "one value an arm")
        need(len({(v.shape, v.dtype) for v in values}) == 1, "the arms' values differ in shape")
        return Type(Level.CANDIDATE, values[0].shape)


@dataclass(frozen=True)
class Opaque(Primitive):
    """An `nn.Module` from outside, the escape hatch: its class, its parameters' place, its output's shape.

    The operands are the inputs, then the declared parameters in the order of `names`.
    """

    name = "opaque"
    pure = False  # nobody knows what is inside
    target: str  # "package.module:Class"
    arguments: tuple[tuple[str, int | float | bool | str], ...]
    path: str
    names: tuple[str, ...]
    shape: tuple[int, ...]
    row_flops: int = 0

    def infer(self, *args: Type) -> Type:
        values = args[: len(args) - len(self.names)]
        need(len({v.level for v in values}) == 1, "an opaque module's inputs are of one level")
        return Type(values[0].level, self.shape)

    def flops(self, args: tuple[Type, ...], out: Type) -> int:
        return self.row_flops

    def code(self, args: tuple[str, ...], types: tuple[Type, ...], out: Type) -> str:
        return f"{{module}}({', '.join(args)})"
