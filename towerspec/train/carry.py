"""What a training takes over from an earlier run, and what of it stays as it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from towerspec.check.parts import part_paths, report_unknown_part
from towerspec.diagnostics import Report
from towerspec.emit.torchscript import tensors
from towerspec.ir.graph import Graph
from towerspec.train.run import Run
from towerspec.weights import read_safetensors


@dataclass(frozen=True)
class Carried:
    """What of an earlier run fits: paths whose name and shape are the same, and those that are not carried over."""

    run: str
    carried: tuple[str, ...]
    resized: tuple[str, ...]  # there in both, of other shapes
    new: tuple[str, ...]
    lost: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def lines(self) -> list[str]:
        """The same for people, parameters of one place together."""
        shown = [f"carried {len(self.carried)} parameters from {self.run}: {_grouped(self.carried)}"]
        rest = (("resized, so begun anew", self.resized), ("new", self.new), ("left behind", self.lost))
        return shown + [f"{word}: {_grouped(paths)}" for word, paths in rest if paths]


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


def carry(module: nn.Module, run: Run) -> Carried:
    """Gives a module the run's weights and statistics whose names and shapes fit, and says which those are.

    Raises:
        SpecError: the folder holds no run (T801), or its weights can't be read (T604).
    """
    _ = run.record  # a folder without one is no run
    old = read_safetensors(run.weights)
    mine = tensors(module)
    fits = [path for path in mine if path in old and old[path].shape == mine[path].shape]
    with torch.no_grad():
        for path in fits:
            mine[path].copy_(old[path])
    return Carried(
        str(run.folder),
        tuple(fits),
        tuple(path for path in mine if path in old and path not in set(fits)),
        tuple(path for path in mine if path not in old),
        tuple(path for path in old if path not in mine),
    )


def carried_vocabularies(run: Run, carried: Carried, fitted: Mapping[str, Sequence[Any]]) -> dict[str, Sequence[Any]]:
    """The vocabularies of this training: an old one where its table was carried over, whose rows it names.

    Raises:
        SpecError: the old one is not there (T801).
    """
    old = run.read_vocabularies()
    kept = [path for path in fitted if f"{path}.weight" in carried.carried]
    for path in kept:
        if path not in old:
            raise run.unusable(f"its vocabularies.json doesn't say which ids the rows of `{path}` are of")
    return {**fitted, **{path: old[path] for path in kept}}


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
