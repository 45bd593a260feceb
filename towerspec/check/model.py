"""The model graph: a spec whose names are resolved and whose parameters are checked.

Every value has a key, its path in the spec: `features.country`, `trunk.crossed`, `surfaces.search.intent`;
`request` and `candidate` are the groups of a level's features. Only names and parameters are known
here; widths and levels follow when the model is lowered to primitives.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import field

from towerspec.check.names import FUSE, tower_step
from towerspec.diagnostics import Span
from towerspec.frozen import dataclass
from towerspec.ir.types import Level
from towerspec.layers.base import Fusion, Layer
from towerspec.layers.blocks import Tower, Train
from towerspec.layers.calibrators import Calibrator
from towerspec.layers.features import Coded, Feature
from towerspec.layers.heads import Head

GROUPS = {"request": Level.REQUEST, "candidate": Level.CANDIDATE}


@dataclass(frozen=True)
class Operand:
    """A value where it is used."""

    key: str
    span: Span


@dataclass(frozen=True)
class Node:
    """One call of a layer; `layer` is none where its parameters are wrong. `options` says where each was given."""

    key: str
    layer: Layer | None
    inputs: tuple[Operand, ...]
    span: Span
    name_span: Span
    options: dict[str, Span]


@dataclass(frozen=True)
class TableDef:
    name: str
    rows: int
    dim: int
    span: Span
    ids: str = "direct"


@dataclass(frozen=True)
class FeatureDef:
    """A feature; `surface` is set where only one surface declares it."""

    key: str
    name: str
    kind: Feature
    level: Level
    surface: str | None
    span: Span

    def coding(self, tables: Mapping[str, TableDef | None]) -> tuple[str, str, int] | None:
        """What its ids are, the path of the table that they belong to, and that table's rows; none without ids."""
        if not isinstance(self.kind, Coded):
            return None
        if self.kind.table is not None:
            table = tables.get(self.kind.table)
            return (table.ids, f"tables.{table.name}", table.rows) if table else None
        return self.kind.ids, self.key, (self.kind.own_table() or (0, 0))[0]

    def has(self, surface: str) -> bool:
        """Whether a surface has this feature."""
        if self.surface is not None:
            return self.surface == surface
        return self.kind.on is None or surface in self.kind.on


@dataclass(frozen=True)
class FuseDef:
    after: int
    value: Operand
    fusion: Fusion
    span: Span


@dataclass(frozen=True)
class CalibrateDef:
    kind: Calibrator
    by: str | None  # the key feature's key
    span: Span


@dataclass(frozen=True)
class HeadDef:
    name: str
    kind: Head
    parts: tuple[str, ...]  # the heads that a product multiplies
    calibrate: CalibrateDef | None
    span: Span


@dataclass(frozen=True)
class ArmDef:
    """One arm: the ids of the key that select it (none: all others), and its path."""

    label: str
    ids: tuple[int, ...]
    path: PathDef
    span: Span


@dataclass(frozen=True)
class BranchDef:
    key: str
    name: str
    arms: tuple[ArmDef, ...]
    span: Span


@dataclass(frozen=True)
class PathDef:
    """A tower, or one arm of it: layers, fusions at their depths, heads, and a branch at the end."""

    key: str
    params: Tower
    fuses: tuple[FuseDef, ...]
    heads: tuple[HeadDef, ...]
    branch: BranchDef | None
    span: Span

    def head_key(self, head: HeadDef) -> str:
        """Where one of its heads has its parameters."""
        return f"{self.key}.{tower_step(head.name)}"

    def fuse_keys(self) -> Iterator[tuple[FuseDef, str]]:
        """Its fusions, each with where it has its parameters.

        The last step of that path says what the line says: value, depth and kind. Of lines that say the same, the
        second and later ones are numbered.
        """
        count: dict[str, int] = {}
        for fuse in self.fuses:
            key = f"{self.key}.{FUSE}{fuse.value.key.rsplit('.', 1)[-1]}_after_{fuse.after}_{fuse.fusion.kind}"
            count[key] = count.get(key, 0) + 1
            yield fuse, key if count[key] == 1 else f"{key}_{count[key]}"

    def walk(self) -> Iterator[PathDef]:
        """This path and all below it."""
        yield self
        for arm in self.branch.arms if self.branch else ():
            yield from arm.path.walk()


@dataclass(frozen=True)
class SurfaceDef:
    name: str
    weight: float
    nodes: tuple[Node, ...]  # in an order in which each comes after what it reads
    start: Operand
    tower: PathDef
    span: Span

    @property
    def heads(self) -> tuple[str, ...]:
        """The head names, each once, in the order of the text."""
        return tuple(dict.fromkeys(h.name for path in self.tower.walk() for h in path.heads))


@dataclass(frozen=True)
class Model:
    name: str
    path: str
    tables: dict[str, TableDef]
    features: dict[str, FeatureDef]  # by key, in the order of the text
    trunk: tuple[Node, ...]
    surfaces: dict[str, SurfaceDef]
    text: str
    complete: bool = True  # whether every feature and surface that the text declares is here
    train: Train = field(default_factory=Train)  # how it is trained

    def group(self, name: str) -> tuple[FeatureDef, ...]:
        """The features that `request` or `candidate` stands for: the shared ones of that level that are vectors."""
        return self._groups[name]

    @functools.cached_property
    def _groups(self) -> dict[str, tuple[FeatureDef, ...]]:
        vectors = [f for f in self.features.values() if f.surface is None and f.kind.kind != "sequence"]
        return {name: tuple(f for f in vectors if f.level == level) for name, level in GROUPS.items()}
