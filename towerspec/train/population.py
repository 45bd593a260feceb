"""Users, items and requests for a simulated log: features with the shapes and the skew of real ones.

Ids are Zipf distributed; users and items each have a taste, which their numbers and lists follow, and users meet
items of their own taste more often.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from towerspec.ids import Raw
from towerspec.ir.types import Level
from towerspec.layers.features import Number
from towerspec.train.columns import Coding, FeatureColumn
from towerspec.train.encode import Array
from towerspec.train.rows import Encoder

TASTES, FACTORS = 8, 4
LARGEST = 1_000_000  # ids of a table that occur
MISSING, UNKNOWN = 0.03, 0.01


@dataclass(frozen=True)
class Entities:
    """Users, items, or requests: a taste each, and latent factors that go with it."""

    taste: Array  # [n]
    factors: Array  # [n, FACTORS]

    def __len__(self) -> int:
        return len(self.taste)

    def take(self, rows: Array) -> Entities:
        return Entities(self.taste[rows], self.factors[rows])


def entities(count: int, rng: np.random.Generator) -> Entities:
    """So many users or items; factors gather around their taste's."""
    taste = rng.integers(0, TASTES, count)
    centres = rng.normal(size=(TASTES, FACTORS))
    return Entities(taste, centres[taste] + 0.7 * rng.normal(size=(count, FACTORS)))


def zipf(count: int, size: int, rng: np.random.Generator) -> Array:
    """Ranks below `size`, the first most often: Zipf's law with the exponent 1.05."""
    mass = np.cumsum(np.arange(1, size + 1) ** -1.05)
    return np.asarray(np.searchsorted(mass, rng.random(count) * mass[-1]).clip(max=size - 1))


def to_taste(ranks: Array, taste: Array, size: int, rng: np.random.Generator) -> Array:
    """Six of ten ranks moved to the nearest one of a taste: those whose number leaves that taste's as the remainder."""
    moved = ranks - ranks % TASTES + taste
    follows = (rng.random(len(ranks)) < 0.6) & (moved < size)
    return np.where(follows, moved, ranks)


def domain(coding: Coding) -> int:
    """How many different ids occur: a fifth more than the rows where training chooses among them."""
    rows = coding.rows + coding.rows // 5 + 1 if coding.mode == "fitted" else coding.rows
    return min(4 * rows if coding.mode == "hash" else rows, LARGEST)


def raw_ids(coding: Coding, ranks: Array) -> pa.Array:
    """The raw ids of ranks, so that the most frequent ones are not the lowest: rows' numbers, 64 bits, or texts."""
    if coding.values:
        return written(coding.values, ranks)
    if coding.mode == "hash":
        with np.errstate(over="ignore"):
            return pa.array((ranks.astype(np.int64) + 1) * np.int64(0x2545F4914F6CDD1D))
    if coding.mode == "fitted":
        return pa.array([f"id_{rank}" for rank in ranks.tolist()], pa.string())
    step = next(s for s in range(int(0.618 * coding.rows) + 1, 2 * coding.rows + 2) if np.gcd(s, coding.rows) == 1)
    return pa.array(ranks.astype(np.int64) * step % coding.rows)


def written(values: tuple[Raw, ...], places: Array) -> pa.Array:
    """The spec's values at some places of their list: numbers if all of them are, otherwise texts; null below 0."""
    whole = all(isinstance(value, int) for value in values)
    listed = pa.array(values, pa.int64()) if whole else pa.array(list(map(str, values)), pa.string())
    return listed.take(pa.array(places, pa.int64(), mask=places < 0))


def vocabulary(coding: Coding) -> list[str]:
    """The teacher's own vocabulary of a fitted table: its most frequent ids."""
    return raw_ids(coding, np.arange(min(coding.rows, domain(coding)))).to_pylist()


def column(feature: FeatureColumn, who: Entities, rng: np.random.Generator, ranks: Array | None = None) -> pa.Array:
    """One feature's values for some users, items or requests; `ranks` where it is the id of each of them."""
    if feature.coding is None:
        return _numbers(feature, who, rng)
    if feature.listed:
        return _lists(feature, feature.coding, who, rng)
    size = domain(feature.coding)
    if ranks is None:
        ranks = to_taste(zipf(len(who), size, rng), who.taste, size, rng)
    found = raw_ids(feature.coding, ranks % size)
    if feature.coding.mode == "direct" and not feature.coding.values:
        unknown = rng.random(len(who)) < UNKNOWN
        found = pa.array(np.where(unknown, feature.coding.rows + ranks, found.to_numpy()))
    return _with_nulls(found, MISSING, rng)


def _with_nulls(values: pa.Array, share: float, rng: np.random.Generator) -> pa.Array:
    gone = pa.array(rng.random(len(values)) < share)
    return pc.if_else(gone, pa.scalar(None, values.type), values)


def _numbers(feature: FeatureColumn, who: Entities, rng: np.random.Generator) -> pa.Array:
    kind = feature.kind
    assert isinstance(kind, Number)
    width = feature.width or 1
    loadings = rng.normal(size=(FACTORS, width)) / FACTORS**0.5
    z = 0.7 * who.factors @ loadings + 0.7 * rng.normal(size=(len(who), width))
    if kind.transform != "none":
        values = np.exp(1.0 + 1.2 * z)
    elif kind.clip:
        low, high = kind.clip
        values = (low + high) / 2 + (high - low) / 4 * z
    else:
        values = rng.normal() + np.exp(rng.normal()) * z if kind.normalize != "none" else z
    flat = values.astype(np.float32)
    if feature.width:
        return _with_nulls(pa.array(list(flat), pa.list_(pa.float32())), MISSING, rng)
    return _with_nulls(pa.array(flat[:, 0]), MISSING, rng)


def _lists(feature: FeatureColumn, coding: Coding, who: Entities, rng: np.random.Generator) -> pa.Array:
    """Lists of skewed lengths, some empty and some longer than the spec's."""
    lengths = np.floor(rng.beta(0.9, 1.3, len(who)) * (feature.width + 2)).astype(np.int64)
    lengths[rng.random(len(who)) < MISSING] = 0
    size, total = domain(coding), int(lengths.sum())
    ranks = to_taste(zipf(total, size, rng), np.repeat(who.taste, lengths), size, rng)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return _with_nulls(pa.ListArray.from_arrays(offsets, raw_ids(coding, ranks)), MISSING, rng)


class Population:
    """The users and items of a log, with the features that stay theirs, and how requests draw the rest."""

    def __init__(self, encoder: Encoder, levels: dict[str, Level], users: int, items: int, seed: int) -> None:
        self.features = {name: of[0] for name, of in encoder.features.items()}
        self.levels, self.seed = levels, seed
        rng = np.random.default_rng([seed, 10])
        self.users, self.items = entities(users, rng), entities(items, rng)
        keys = {arm.key for label in encoder.labels.values() for place in label.places for arm in place.arms}
        self.passing = {n for n in self.features if n in keys or rng.random() < 0.25}  # drawn anew each time
        self.fixed: dict[str, pa.Array] = {}
        for level, who in ((Level.REQUEST, self.users), (Level.CANDIDATE, self.items)):
            own = self._id_feature(level)
            self.passing.discard(own or "")
            for name in self._at(level):
                if name not in self.passing:
                    ranks = np.arange(len(who)) if name == own else None
                    self.fixed[name] = column(self.features[name], who, rng, ranks)

    def _at(self, level: Level) -> list[str]:
        return [name for name in self.features if self.levels[name] == level]

    def _id_feature(self, level: Level) -> str | None:
        """The feature that names a user or an item: the category with the most rows, if it has many."""
        many = {n: f.coding.rows for n in self._at(level) if (f := self.features[n]).coding and not f.listed}
        name = max(many, key=lambda n: many[n], default=None)
        return name if name is not None and many[name] >= 500 else None

    def draw(self, users: Array, counts: Array, rng: np.random.Generator) -> dict[str, pa.Array]:
        """The features of requests by `users`, each with so many candidates: columns with a row a candidate."""
        request = np.repeat(np.arange(len(users)), counts)
        size = len(self.items)
        items = to_taste(zipf(len(request), size, rng), self.users.taste[users[request]], size, rng)
        found = {}
        for name, feature in self.features.items():
            asked = self.levels[name] == Level.REQUEST
            if name in self.fixed:
                found[name] = self.fixed[name].take(pa.array(users[request] if asked else items))
            elif asked:
                found[name] = column(feature, self.users.take(users), rng).take(pa.array(request))
            else:
                found[name] = column(feature, self.items.take(items), rng)
        return found
