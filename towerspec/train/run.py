"""A run folder: what training leaves behind, and what calibration, evaluation and the compiler read.

RUN/spec/               the spec and all that it includes, as they were; `run.json` names the file
RUN/weights.safetensors parameters and fitted statistics by their paths in the spec; calibrators too, once fitted
RUN/vocabularies.json   for each table with `ids: fitted`, its raw ids in row order
RUN/run.json            what went in and what came out: data, options, seed, versions, metrics by epoch
RUN/checkpoints/        to resume from
RUN/logs/               metrics by step, CSV or TensorBoard
RUN/evaluation.json     written by evaluate, with `report.html` beside it
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from towerspec.check import Checked, check
from towerspec.diagnostics import Diagnostic, SpecError

FORMAT = 1


@dataclass(frozen=True)
class Run:
    """A run folder by its path."""

    folder: Path

    @property
    def weights(self) -> Path:
        return self.folder / "weights.safetensors"

    @property
    def vocabularies(self) -> Path:
        return self.folder / "vocabularies.json"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def record(self) -> dict[str, Any]:
        """What `run.json` says.

        Raises:
            SpecError: the folder holds no run, or one that this version can't read (T801).
        """
        path = self.folder / "run.json"
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise self._no_run("its run.json is missing or not valid") from error
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise self._no_run("its run.json has a format that this version of towerspec doesn't know")
        return record

    def checked(self) -> Checked:
        """The spec that was trained."""
        return check(self.folder / "spec" / str(self.record["spec"]))

    @property
    def finished(self) -> bool:
        """Whether a training left its record here, which it writes last of all."""
        return (self.folder / "run.json").is_file()

    def unwritable(self, error: OSError) -> SpecError:
        """The error (T821) of a folder that the system doesn't let us write to."""
        return SpecError(
            Diagnostic(
                "T821",
                f"`{self.folder}` can't be written: {error.strerror or error}",
                help="give a folder that can be written, on a disk with room",
            )
        )

    def _no_run(self, why: str) -> SpecError:
        return SpecError(
            Diagnostic("T801", f"`{self.folder}` holds no usable run: {why}", help="make one with `towerspec train`")
        )
