"""Ids and tables: from integers to vectors, with a meaning for every integer."""

from __future__ import annotations

from towerspec.frozen import dataclass
from towerspec.ir.primitives.base import Primitive, need, same_rows
from towerspec.ir.types import ITEM_BYTES, Level, Type


@dataclass(frozen=True)
class Ids(Primitive):
    """Maps any integer to a row: below 0 to `missing`, from `rows` on to `unknown`; a bad index can't reach a table."""

    name = "ids"
    rows: int
    unknown: int
    missing: int

    def infer(self, ids: Type) -> Type:
        need(ids.dtype == "int", "ids must be integers")
        return ids

    def code(self, args: tuple[str, ...], types: tuple[Type, ...], out: Type) -> str:
        return f"row_ids({args[0]}, {self.rows}, {self.unknown}, {self.missing})"


@dataclass(frozen=True)
class IdColumns(Primitive):
    """`Ids` of several features: ids `[K]`, and of each its table's rows and first row, its `unknown` and `missing`."""

    name = "id_columns"

    def infer(self, ids: Type, *of: Type) -> Type:
        need(all(t.dtype == "int" and t.shape == ids.shape for t in (ids, *of)), "ids and what is known of them differ")
        need(len(of) == 4 and all(t.level == Level.CONSTANT for t in of), "four numbers are known of each id")
        return ids

    def code(self, args: tuple[str, ...], types: tuple[Type, ...], out: Type) -> str:
        return f"id_columns({', '.join(args)})"


@dataclass(frozen=True)
class Hash(Primitive):
    """Maps any 64-bit id to a row, `(mix(id) >> 1) mod rows` with SplitMix64's output function; -1 stays -1, missing.

    Steele, Lea & Flood 2014, OOPSLA, doi:10.1145/2660193.2660195, with the constants of their reference program:
    `z = id + 9e3779b97f4a7c15`, `z = (z ^ z >> 30) * bf58476d1ce4e5b9`, `z = (z ^ z >> 27) * 94d049bb133111eb`,
    `mix = z ^ z >> 31`, all of it in 64 unsigned bits.
    """

    name = "hash"
    rows: int

    def infer(self, ids: Type) -> Type:
        need(ids.dtype == "int", "ids must be integers")
        return ids

    def code(self, args: tuple[str, ...], types: tuple[Type, ...], out: Type) -> str:
        return f"hash_ids({args[0]}, {self.rows})"


@dataclass(frozen=True)
class Mask(Primitive):
    """Which positions of a padded list hold an id: those at or above 0."""

    name = "mask"

    def infer(self, ids: Type) -> Type:
        need(ids.dtype == "int", "ids must be integers")
        return Type(ids.level, ids.shape, "bool")

    def code(self, args: tuple[str, ...], types: tuple[Type, ...], out: Type) -> str:
        return f"{args[0]} >= 0"


@dataclass(frozen=True)
class Embed(Primitive):
    """Rows of a table: ids of shape `S`, a table of `[rows, D]`, out `S + [D]`."""

    name = "embed"

    def infer(self, ids: Type, table: Type) -> Type:
        need(
            ids.dtype == "int" and table.level == Level.CONSTANT and len(table.shape) == 2,
            "embed takes ids and a table",
        )
        return Type(ids.level, (*ids.shape, table.shape[1]), table.dtype)

    def traffic(self, args: tuple[Type, ...], out: Type) -> int:
        return args[0].bytes + 2 * out.bytes

    def code(self, args: tuple[str, ...], types: tuple[Type, ...], out: Type) -> str:
        return f"F.embedding({args[0]}, {args[1]})"


@dataclass(frozen=True)
class ZeroRow(Primitive):
    """A table with zeros in one of its rows."""

    name = "zero_row"
    row: int

    def infer(self, table: Type) -> Type:
        need(table.level == Level.CONSTANT and len(table.shape) == 2 and table.dtype == "float", "it is of a table")
        need(0 <= self.row < table.shape[0], "the table has no such row")
        return table


@dataclass(frozen=True)
class EmbedBag(Primitive):
    """The sum of a list's rows of a table, or their mean without the ids `missing`, whose row is zeros: `[L]` to `[D]`.

    A list of missing ids alone gives zeros.
    """

    name = "embed_bag"
    fn: str
    missing: int

    def infer(self, ids: Type, table: Type) -> Type:
        need(self.fn in ("sum", "mean"), f"a bag has no {self.fn}")
        need(ids.dtype == "int" and len(ids.shape) == 1, "a bag is a list of ids")
        need(table.level == Level.CONSTANT and len(table.shape) == 2 and table.dtype == "float", "a bag takes a table")
        return Type(ids.level, (table.shape[1],))

    def traffic(self, args: tuple[Type, ...], out: Type) -> int:
        ids, table = args
        return ids.bytes + ids.numel * table.shape[1] * ITEM_BYTES[table.dtype] + out.bytes

    def code(self, args: tuple[str, ...], types: tuple[Type, ...], out: Type) -> str:
        if self.fn == "sum":
            return f'F.embedding_bag({args[0]}, {args[1]}, mode="sum")'
        return f"bag_mean({args[0]}, {args[1]}, {self.missing})"


@dataclass(frozen=True)
class Bucketize(Primitive):
    """The index of the bucket that a number falls in; `edges` of `[B]` make B + 1 buckets, right-closed."""

    name = "bucketize"

    def infer(self, x: Type, edges: Type) -> Type:
        need(len(edges.shape) == 1 and edges.level == Level.CONSTANT, "bucketize takes a list of edges")
        return Type(x.level, x.shape, "int")

    def code(self, args: tuple[str, ...], types: tuple[Type, ...], out: Type) -> str:
        return f"torch.bucketize({args[0]}, {args[1]})"


@dataclass(frozen=True)
class Interpolate(Primitive):
    """The piecewise-linear function through knots, at `x`: x `[1]`, knots `[K]` ascending, values `[K]`.

    Outside the knots it keeps the end values, or the end slopes where `extend` is set.
    """

    name = "interpolate"
    extend: bool = False

    def infer(self, x: Type, knots: Type, values: Type) -> Type:
        need(x.shape == (1,) and len(knots.shape) == 1 and knots.shape == values.shape, "knots and values differ")
        need(knots.shape[0] >= 2, "interpolation needs two knots")
        return Type(same_rows(x, knots, values), (1,))

    def code(self, args: tuple[str, ...], types: tuple[Type, ...], out: Type) -> str:
        return f"interpolate({', '.join(args)}, {self.extend})"


@dataclass(frozen=True)
class Fill(Primitive):
    """Replaces what is not a finite number."""

    name = "fill"

    def infer(self, x: Type, fill: Type) -> Type:
        need(fill.level == Level.CONSTANT and x.dtype == "float", "fill takes a number and a constant")
        return x

    def code(self, args: tuple[str, ...], types: tuple[Type, ...], out: Type) -> str:
        return f"fill({args[0]}, {args[1]})"


@dataclass(frozen=True)
class Present(Primitive):
    """A feature's value on the rows of the surfaces that have it, and a constant on the others'.

    In a surface's slice one operand is left: the value where the surface has the feature, else the constant.
    """

    name = "present"
    surfaces: tuple[str, ...]

    def infer(self, value: Type, *default: Type) -> Type:
        for other in default:
            need(other.shape == value.shape and other.dtype == value.dtype, "a default must look like its value")
        return value if value.level > Level.CONSTANT else value.at(Level.CANDIDATE)

    def code(self, args: tuple[str, ...], types: tuple[Type, ...], out: Type) -> str:
        if len(args) == 2:
            return f"present({args[0]}, {args[1]}, surface, {list(self.surfaces)!r})"
        return args[0] if types[0].level == out.level else f"repeat({args[0]}, n)"
