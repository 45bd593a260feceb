"""What a spec reads from a log: a column for each feature name and each head, and on which rows it counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from towerspec.check.model import FeatureDef, Model, PathDef
from towerspec.ids import Raw
from towerspec.layers.features import Coded, Feature, List, Number
from towerspec.layers.heads import Head, Product


@dataclass(frozen=True)
class Coding:
    """How a raw id becomes the integer that the graph takes.

    `direct` ids pass, or map by the spec's `values`; `hash` takes any 64-bit integer or text; `fitted` looks both up in
    the vocabulary of `table`, a path such as `tables.pins` or `features.country`.
    """

    mode: str
    table: str
    rows: int
    values: tuple[Raw, ...] = ()


@dataclass(frozen=True)
class FeatureColumn:
    """One feature's column; `path` is that of its parameters, `surfaces` the indexes of those that have it.

    Surfaces may declare features of one name each: then several of these read one column, each on its own rows.
    """

    name: str
    path: str
    kind: Feature
    coding: Coding | None
    surfaces: tuple[int, ...]

    @property
    def width(self) -> int:
        """How many numbers or ids a row has: 0 where it is a single one."""
        return (self.kind.shape() or (0,))[0]

    @property
    def listed(self) -> bool:
        return isinstance(self.kind, List)

    @property
    def texts(self) -> bool:
        """Whether the ids may be texts."""
        return self.coding is not None and (self.coding.mode != "direct" or bool(self.coding.values))


@dataclass(frozen=True)
class Condition:
    """A branch's arm: the rows whose key is one of `ids`, or, where it has none, none of `others`."""

    key: str
    ids: tuple[int, ...]
    others: tuple[int, ...]


@dataclass(frozen=True)
class Place:
    """Where a head stands: its surface's index, the arms that lead to it, and the path of its parameters."""

    surface: int
    arms: tuple[Condition, ...]
    path: str


@dataclass(frozen=True)
class LabelColumn:
    """One task's column: the kind of its heads, and each place that has one.

    A product's label is `optional`: its parts' labels train it where it has none of its own.
    """

    name: str
    kind: Head
    places: tuple[Place, ...]

    @property
    def optional(self) -> bool:
        return isinstance(self.kind, Product)

    @property
    def surfaces(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(place.surface for place in self.places))


def feature_columns(model: Model) -> dict[str, list[FeatureColumn]]:
    """The columns that a model's features read, by name, in the order of the text."""
    found: dict[str, list[FeatureColumn]] = {}
    for feature in model.features.values():
        surfaces = tuple(i for i, surface in enumerate(model.surfaces) if feature.has(surface))
        column = FeatureColumn(feature.name, feature.key, feature.kind, coding(model, feature), surfaces)
        found.setdefault(feature.name, []).append(column)
    return found


def coding(model: Model, feature: FeatureDef) -> Coding | None:
    """How a feature's raw ids become integers; none where it has no ids."""
    kind = feature.kind
    if not isinstance(kind, Coded):
        return None
    ids, path, rows = feature.coding(model.tables) or ("direct", "", 0)
    return Coding(ids, path, rows, kind.values or ())


def label_columns(model: Model) -> dict[str, LabelColumn]:
    """The columns that a model's heads read, by task."""
    kinds: dict[str, Head] = {}
    places: dict[str, list[Place]] = {}
    for index, surface in enumerate(model.surfaces.values()):
        for name, kind, path, arms in _heads(model, surface.tower, ()):
            kinds.setdefault(name, kind)
            places.setdefault(name, []).append(Place(index, arms, path))
    return {name: LabelColumn(name, kind, tuple(places[name])) for name, kind in kinds.items()}


def _heads(
    model: Model, path: PathDef, arms: tuple[Condition, ...]
) -> Iterator[tuple[str, Head, str, tuple[Condition, ...]]]:
    """The heads of a tower or an arm and of all below it, each with its path and the arms that lead to it."""
    for head in path.heads:
        yield head.name, head.kind, path.head_key(head), arms
    if path.branch is None:
        return
    key = model.features[path.branch.key].name
    others = tuple(i for arm in path.branch.arms for i in arm.ids)
    for arm in path.branch.arms:
        yield from _heads(model, arm.path, (*arms, Condition(key, arm.ids, others)))


def is_number(column: FeatureColumn) -> bool:
    """Whether a column holds numbers, not ids."""
    return isinstance(column.kind, Number)
