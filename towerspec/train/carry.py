"""What a training takes over from an earlier run, and what of it stays as it is."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from towerspec.check import Checked
from towerspec.check.model import Model
from towerspec.check.parts import part_paths, report_unknown_part
from towerspec.diagnostics import Report
from towerspec.emit.torchscript import tensors
from towerspec.ids import usual
from towerspec.ir.axes import Label, Names, Rows, axes
from towerspec.ir.graph import Graph
from towerspec.layers.features import EXTRA_ROWS
from towerspec.train.run import Run
from towerspec.weights import read_safetensors


@dataclass(frozen=True)
class Carried:
    """What of an earlier run goes on: all of a parameter, a part of one that has grown or changed, or none of it."""

    run: str
    carried: tuple[str, ...]
    grown: tuple[Grown, ...]
    resized: tuple[str, ...]  # there in both, with nothing in common
    new: tuple[str, ...]
    lost: tuple[str, ...]
    tables: tuple[Ids, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return json.loads(json.dumps(asdict(self)))

    def lines(self) -> list[str]:
        """The same for people, parameters of one place together."""
        shown = [f"carried {len(self.carried)} parameters from {self.run}: {_grouped(self.carried)}"]
        shown += [f"carried a part of {grown.words()}" for grown in self.grown]
        rest = (("begun anew, as they have nothing in common", self.resized), ("new", self.new), ("lost", self.lost))
        shown += [f"{word}: {_grouped(paths)}" for word, paths in rest if paths]
        return shown + [ids.words() for ids in self.tables]


@dataclass(frozen=True)
class Grown:
    """A parameter of which a part goes on: of each axis, how many places were there before, and how many there are."""

    path: str
    kept: tuple[int, ...]
    shape: tuple[int, ...]

    def words(self) -> str:
        names = ("row", "column") if len(self.shape) == 2 else ("place",) * len(self.shape)
        parts = [f"{k:,} of {n:,} {name}s" for k, n, name in zip(self.kept, self.shape, names, strict=True) if k < n]
        return f"{self.path}: {' and '.join(parts) or 'its columns in another order'}"


@dataclass(frozen=True)
class Ids:
    """What became of the ids of a fitted table: known ones keep their rows, new ones get what is free."""

    table: str
    known: int
    new: int
    without: int

    def words(self) -> str:
        shown = f"{self.table}: {self.known:,} ids keep their rows, {self.new:,} new ones get a row"
        return f"{shown}, {self.without:,} find none free" if self.without else shown


def _grouped(paths: Iterable[str]) -> str:
    """Parameters by the part that they are of.

    >>> _grouped(["trunk.shared.0.weight", "trunk.shared.0.bias", "tables.pins.weight"])
    'trunk.shared (2), tables.pins'
    """
    counts: dict[str, int] = {}
    for path in paths:
        steps = path.split(".")
        part = ".".join(steps[: 3 if steps[0] == "surfaces" else 2])
        counts[part] = counts.get(part, 0) + 1
    return ", ".join(f"{part} ({n})" if n > 1 else part for part, n in counts.items()) or "none"


def carry(module: nn.Module, checked: Checked, run: Run) -> Carried:
    """Gives a module what the run learned, number by number, and says what that is.

    A number goes on where what it stands for is there in both specs: an id's row, a feature's column of a first layer.

    Raises:
        SpecError: the folder holds no run (T801), or its weights can't be read (T604).
    """
    same = Alike(checked, run.checked())  # a folder without a record is no run
    old, mine = read_safetensors(run.weights), tensors(module)
    found: dict[str, list[Any]] = {"carried": [], "grown": [], "resized": [], "new": []}
    with torch.no_grad():
        for path, x in mine.items():
            pairs = same.places(path, x, old[path]) if path in old else None
            if path not in old:
                found["new"].append(path)
            elif pairs is None:
                found["resized"].append(path)
            elif all(isinstance(pair, slice) for pair, _ in pairs):
                x.copy_(old[path])
                found["carried"].append(path)
            else:
                copy_places(x, old[path], pairs)
                kept = tuple(n if isinstance(at, slice) else len(at) for (at, _), n in zip(pairs, x.shape, strict=True))
                found["grown"].append(Grown(path, kept, tuple(x.shape)))
    lost = tuple(path for path in old if path not in mine)
    return Carried(str(run.folder), **{key: tuple(paths) for key, paths in found.items()}, lost=lost)


Pair = tuple["slice | Tensor", "slice | Tensor"]  # of one axis, where to, and from where
Places = list[Pair]  # of each axis
ALL: Pair = (slice(None), slice(None))


def copy_places(x: Tensor, old: Tensor, pairs: Places) -> None:
    """Copies the numbers of `old` at some places of each axis to their places in `x`."""
    for axis, (_, of) in enumerate(pairs):
        if not isinstance(of, slice):
            old = old.index_select(axis, of)
    at = [torch.arange(n) if isinstance(to, slice) else to for (to, _), n in zip(pairs, x.shape, strict=True)]
    x[torch.meshgrid(*at, indexing="ij")] = old.to(x.dtype)


class Alike:
    """Which numbers of two specs' parameters stand for the same."""

    def __init__(self, new: Checked, old: Checked) -> None:
        (model, graph), (model_before, graph_before) = new.sound(), old.sound()
        self.axes, self.before = axes(graph), axes(graph_before)
        self.ids, self.ids_before = _ids(model), _ids(model_before)

    def places(self, path: str, x: Tensor, old: Tensor) -> Places | None:
        """The places of each axis that both have; none where an axis has nothing in common with what it was."""
        if x.dim() != old.dim() or path not in self.before:
            return None
        if self.ids.get(path) != self.ids_before.get(path):  # a row is of another id
            return None
        found: Places = []
        for mine, other in zip(self.axes[path], self.before[path], strict=True):
            pair = _rows(mine, other) if isinstance(mine, Rows) or isinstance(other, Rows) else _labels(mine, other)
            if pair is None:
                return None
            found.append(pair)
        return found


def _ids(model: Model) -> dict[str, str]:
    """How each table's raw ids become rows, by the path of its weight."""
    found = (feature.coding(model.tables) for feature in model.features.values())
    return {f"{table}.weight": ids for ids, table, _ in filter(None, found)}


def _rows(mine: Names, other: Names) -> Pair | None:
    """Known rows at their places, then those of unknown and missing ids; hashed ids scatter over all rows there are."""
    if mine == other:
        return ALL
    if not isinstance(mine, Rows) or not isinstance(other, Rows) or mine.hashed or other.hashed:
        return None
    known = torch.arange(min(mine.known, other.known))
    extra = torch.arange(EXTRA_ROWS)
    return torch.cat([known, mine.known + extra]), torch.cat([known, other.known + extra])


def _labels(mine: Sequence[Label], other: Sequence[Label]) -> Pair | None:
    """Labels that both have; those that came by another part too, where there is one such in each.

    Where no label is in both, and as many places, each is what it was: a rename changes no number.
    """
    if mine == other:
        return ALL
    places = {label: at for at, label in enumerate(other)}
    found = {at: places[label] for at, label in enumerate(mine) if label in places}
    taken = set(found.values())
    left = _once((replace(label, within=""), at) for at, label in enumerate(other) if at not in taken)
    asked = _once((replace(label, within=""), at) for at, label in enumerate(mine) if at not in found)
    found |= {at: left[label] for label, at in asked.items() if label in left}
    if not found:
        return ALL if len(mine) == len(other) else None
    if len(mine) == len(other) and found == {at: at for at in range(len(mine))}:
        return ALL
    order = sorted(found)
    return torch.tensor(order), torch.tensor([found[at] for at in order])


def _once(pairs: Iterable[tuple[Label, int]]) -> dict[Label, int]:
    """Those that occur once."""
    listed = list(pairs)
    counts = Counter(label for label, _ in listed)
    return {label: at for label, at in listed if counts[label] == 1}


def carried_vocabularies(
    run: Run, carried: Carried, fitted: Mapping[str, Sequence[Any]], rows: Mapping[str, int]
) -> tuple[dict[str, list[Any]], Carried]:
    """The vocabularies of this training, and what became of each table's ids.

    Where a table goes on, its ids keep their rows, and ids that are new to it follow, the most frequent first, as far
    as it has `rows`.

    Raises:
        SpecError: the old vocabulary is not there (T801).
    """
    old, made, became = run.read_vocabularies(), {}, []
    going_on = {*carried.carried, *(grown.path for grown in carried.grown)}
    for path, ids in fitted.items():
        if f"{path}.weight" not in going_on:
            made[path] = list(ids)
            continue
        if path not in old:
            raise run.unusable(f"its vocabularies.json doesn't say which ids the rows of `{path}` are of")
        known = old[path][: rows[path]]
        place = {usual(id_) for id_ in known}
        fresh = [id_ for id_ in ids if usual(id_) not in place]
        made[path] = [*known, *fresh][: rows[path]]
        new = len(made[path]) - len(known)
        became.append(Ids(path, len(known), new, len(fresh) - new))
    return made, replace(carried, tables=tuple(became))


def freeze(module: nn.Module, graph: Graph, parts: Sequence[str], carried: Carried | None) -> list[str]:
    """Holds the named parts as they are: no gradient, and no new statistics. Returns the paths that are held.

    After `--init-from`, what of a frozen part was not carried over is trained all the same: it has learned nothing yet.

    Raises:
        SpecError: the model has no such part (T825).
    """
    report = Report()
    wanted: set[str] = set()
    for part in parts:
        paths = part_paths(graph, part)
        if not paths:
            report_unknown_part(graph, part, None, report)
        wanted.update(paths)
    report.check()
    if carried is not None:
        wanted &= set(carried.carried)
    for path, x in tensors(module).items():
        if path in wanted and isinstance(x, nn.Parameter):
            x.requires_grad_(False)
        elif path in wanted:
            x.frozen = True  # type: ignore[attr-defined]
    return sorted(wanted)


def statistics_to_fit(statistics: Mapping[str, Tensor], carried: Carried | None) -> dict[str, Tensor]:
    """The statistics that this log is fitted to: those that no earlier run has."""
    known = set(carried.carried) if carried else set()
    return {path: x for path, x in statistics.items() if path not in known}
