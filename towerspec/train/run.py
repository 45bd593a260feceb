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
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from towerspec.check import Checked, check
from towerspec.diagnostics import Diagnostic, SpecError

FORMAT = 1
AGAIN = "train again, into another folder"


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
    def plan(self) -> Path:
        return self.checkpoints / "plan.json"

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.checkpoints / "last.ckpt"

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
            raise self.unusable("its run.json is missing or not valid") from error
        if not isinstance(record, dict) or record.get("format") != FORMAT or "spec" not in record:
            raise self.unusable("its run.json has a format that this version of towerspec doesn't know")
        return record

    @property
    def nulls(self) -> list[str]:
        """The texts that stood for a missing value in its log."""
        return list((self.record.get("data") or {}).get("null", ()))

    @property
    def kinds(self) -> dict[str, list[str]]:
        """Whether the ids of its tables were texts or whole numbers, by table; nothing where it doesn't say."""
        return dict((self.record.get("data") or {}).get("ids") or {})

    def read_vocabularies(self) -> dict[str, list[int | str]]:
        """The raw ids of each fitted table, in row order; none where the file is missing.

        Raises:
            SpecError: the file holds something else (T801).
        """
        if not self.vocabularies.is_file():
            return {}
        try:
            found = json.loads(self.vocabularies.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise self.unusable("its vocabularies.json is not valid") from error
        lists = list(found.values()) if isinstance(found, dict) else [None]
        if not all(isinstance(ids, list) and all(type(id_) in (int, str) for id_ in ids) for ids in lists):
            raise self.unusable("its vocabularies.json doesn't hold lists of whole numbers and texts")
        return dict(found)

    def read_plan(self) -> dict[str, Any]:
        """What the training that is to go on was begun with.

        Raises:
            SpecError: nothing is left that it could go on from (T801).
        """
        try:
            plan = json.loads(self.plan.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise self.unusable("its checkpoints/plan.json is not valid", AGAIN) from error
        if not isinstance(plan, dict) or not isinstance(plan.get("threads"), int):
            raise self.unusable("its checkpoints/plan.json is not valid", AGAIN)
        if self.last.is_file() and not zipfile.is_zipfile(self.last):
            raise self.unusable("its checkpoints/last.ckpt is not whole", AGAIN)
        return plan

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

    def unusable(self, why: str, help: str = "make one with `towerspec train`") -> SpecError:
        """The error (T801) of a folder that lacks what a run has."""
        return SpecError(Diagnostic("T801", f"`{self.folder}` holds no usable run: {why}", help=help))
