"""The vocabularies of a run, for the build that is made from its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Union

from towerspec.check.model import Model
from towerspec.diagnostics import Diagnostic, SpecError

Vocabularies = dict[str, list[Union[int, str]]]
FILE = "vocabularies.json"
_WHY = "the rows of a table with `ids: fitted` mean nothing without them"


def locate(weights: Path) -> tuple[Path, Path]:
    """The weights' file and the vocabularies' one, of a run's folder or beside a file of weights.

    Raises:
        SpecError: the folder holds no run (T801).
    """
    if not weights.is_dir():
        return weights, weights.parent / FILE
    from towerspec.train.run import Run

    run = Run(weights)
    assert run.record  # a folder without one is no run
    return run.weights, run.vocabularies


def null_words(path: Path) -> list[str]:
    """The texts that stood for a missing value in the log of the run that has the vocabularies; none without a run."""
    from towerspec.train.run import Run

    run = Run(path.parent)
    return run.nulls if run.finished else []


def fitted_tables(model: Model) -> dict[str, int]:
    """How many rows each table with `ids: fitted` has, by its path."""
    found = [feature.coding(model.tables) for feature in model.features.values()]
    return {path: rows for ids, path, rows in filter(None, found) if ids == "fitted"}


def read_vocabularies(model: Model, path: Path) -> Vocabularies:
    """The raw ids of each table with `ids: fitted`, in row order.

    Raises:
        SpecError: one is missing, has more ids than its table rows, or isn't a list of whole numbers and texts (T610).
    """
    tables = fitted_tables(model)
    if not tables:
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = "is not there" if not path.is_file() else "can't be read"
        raise _misfit(f"the weights' vocabularies are needed, and `{path}` {why}", _WHY) from error
    if not isinstance(content, Mapping):
        raise _misfit(f"`{path}` is no list of ids for each table")
    for table, rows in tables.items():
        ids = content.get(table)
        if ids is None:
            raise _misfit(f"`{path}` has no vocabulary of `{table}`")
        if not isinstance(ids, list) or not all(_is_id(id_) for id_ in ids) or len(set(ids)) < len(ids):
            raise _misfit(f"the vocabulary of `{table}` in `{path}` is no list of different whole numbers and texts")
        if len(ids) > rows:
            raise _misfit(f"the vocabulary of `{table}` in `{path}` has {len(ids):,} ids, and the table {rows:,} rows")
    return {table: content[table] for table in tables}


def _is_id(id_: object) -> bool:
    return isinstance(id_, str) or (type(id_) is int and -(2**63) <= id_ < 2**63)


def _misfit(message: str, *notes: str) -> SpecError:
    return SpecError(
        Diagnostic("T610", message, notes=notes, help="give `--weights` the folder that `towerspec train` made")
    )
