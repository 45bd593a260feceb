"""A log's rows as a surface takes them, to measure on them what fewer bits cost."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from towerspec.check import Checked
from towerspec.diagnostics import Diagnostic, SpecError

ROWS = 16_384  # of a surface at most, evenly over the log


class Logged:
    """The rows of a log by surface, read as training reads them; labels are not needed."""

    def __init__(
        self, checked: Checked, path: Path, vocabularies: Mapping[str, Sequence[Any]], nulls: Sequence[str]
    ) -> None:
        """Reads Parquet or CSV files. Raises `SpecError` as `towerspec.train.data.open_log` does (T810 to T817)."""
        from towerspec.train.data import Log
        from towerspec.train.lookup import Vocabulary
        from towerspec.train.rows import Columns, Encoder
        from towerspec.train.schema import settled
        from towerspec.train.sources import open_files

        model, _ = checked.sound()
        self.path, self.surfaces = path, tuple(model.surfaces)
        encoder = Encoder(model, Columns(nulls=tuple(nulls)), {of: Vocabulary(raw) for of, raw in vocabularies.items()})
        encoder.labels = {}
        files = open_files([path], encoder.reads)
        log = Log(model, frozenset(), tuple(settled(files, encoder)), encoder)
        step = {name: -(-count // ROWS) for name, count in log.counts.items()}
        self._parts: dict[str, list[dict[str, Tensor]]] = {name: [] for name in self.surfaces}
        seen = dict.fromkeys(self.surfaces, 0)
        for rows in log.encoded():
            for index, name in enumerate(self.surfaces):
                mine = (rows.surface == index).nonzero()[0]
                some = mine[(-seen[name]) % max(1, step[name]) :: max(1, step[name])]
                seen[name] += len(mine)
                if len(some):
                    self._parts[name].append({k: torch.from_numpy(x[some]) for k, x in rows.features.items()})

    def of(self, surface: str) -> dict[str, Tensor]:
        """A surface's rows by feature. Raises `SpecError` (T621) where the log has none of it."""
        parts = self._parts[surface]
        if not parts:
            raise SpecError(
                Diagnostic(
                    "T621",
                    f"`{self.path}` has no row of surface `{surface}`, on which to measure what fewer bits cost",
                    help="give rows of each surface, leave the surface out with `--surface`, or leave out `--samples`",
                )
            )
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    @property
    def digest(self) -> str:
        """Of all rows: another log measures something else."""
        found = hashlib.sha256()
        for name, parts in self._parts.items():
            for part in parts:
                for feature, x in sorted(part.items()):
                    found.update(f"{name}.{feature}:{len(x)}".encode())
                    found.update(x.contiguous().numpy().tobytes())
        return found.hexdigest()
