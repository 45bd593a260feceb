"""Whether a table's ids are texts or whole numbers, and where a log mixes them, or has others than a run learned from.

It is known from the files' columns, before any row is read. A vocabulary takes 100 and "100" for one id; a hash can't.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from towerspec.diagnostics import Diagnostic
from towerspec.train.columns import FeatureColumn
from towerspec.train.data import Log
from towerspec.train.rows import NUMBERS, TEXTS
from towerspec.train.schema import held
from towerspec.train.sources import File
from towerspec.train.types import is_id, is_text

Kinds = dict[str, dict[str, str]]  # by table and kind: the first column that has it, and its file
_HELP = "give the ids as texts everywhere, or as whole numbers everywhere"
_HASHED = 'a whole number hashes as itself and a text by FNV-1a, so that 100 and "100" are two ids'
_FITTED = '100 and "100" are one id of a vocabulary, and "007" and 7 are two'


def kinds(log: Log) -> Kinds:
    """The kinds of ids that the columns of each table with `ids: hash` or `ids: fitted` hold."""
    found: Kinds = {}
    for feature in _raw(log):
        assert feature.coding is not None
        for file in log.files:
            kind = _kind(file, feature)
            if kind is not None:
                found.setdefault(feature.coding.table, {}).setdefault(kind, f"`{feature.name}` of `{file.path}`")
    return found


def recorded(log: Log) -> dict[str, list[str]]:
    """The kinds of each table's ids, for a run's record."""
    return {table: sorted(places) for table, places in kinds(log).items()}


def mixed(log: Log) -> Iterator[Diagnostic]:
    """A warning (T840) for each table whose ids are texts in one place and whole numbers in another."""
    modes = {feature.coding.table: feature.coding.mode for feature in _raw(log) if feature.coding}
    for table, places in kinds(log).items():
        if len(places) > 1:
            texts, numbers = places[TEXTS], places[NUMBERS]
            message = f"the ids of `{table}` are texts in {texts}, and whole numbers in {numbers}"
            yield _problem(message, _HASHED if modes[table] == "hash" else _FITTED)


def strange(log: Log, known: Mapping[str, Sequence[str]], severity: str = "warning") -> Iterator[Diagnostic]:
    """A problem (T840) for each table whose ids in a log can't be those that a run learned, for their kind.

    `known` are the kinds of its ids in training, as `recorded`; fitted ones are compared with the log's vocabularies.
    """
    hashed = {feature.coding.table for feature in _raw(log) if feature.coding and feature.coding.mode == "hash"}
    for table, places in kinds(log).items():
        vocabulary, learned = log.encoder.vocabularies.get(table), known.get(table, ())
        if vocabulary is not None and vocabulary.unreachable is not None and NUMBERS in places:
            message = f"the ids of `{table}` are texts, and {places[NUMBERS]} holds whole numbers"
            yield _problem(message, f"no number stands for an id such as `{vocabulary.unreachable}`", severity)
        others = [kind for kind in places if len(learned) == 1 and kind not in learned]
        for kind in others if table in hashed else ():
            message = f"the ids of `{table}` were {learned[0]} in training, and {places[kind]} holds {kind}"
            yield _problem(message, _HASHED, severity)


def _problem(message: str, note: str, severity: str = "warning") -> Diagnostic:
    return Diagnostic("T840", message, notes=(note,), help=_HELP, severity=severity)


def _raw(log: Log) -> list[FeatureColumn]:
    features = [feature for of in log.encoder.features.values() for feature in of]
    return [feature for feature in features if feature.coding is not None and feature.coding.mode != "direct"]


def _kind(file: File, feature: FeatureColumn) -> str | None:
    """What a file's column holds; none where it says nothing."""
    if feature.name not in file.schema.names or feature.name in file.empty:
        return None
    type_, _ = held(file, feature.name, feature.width > 0)
    if is_text(type_):
        return TEXTS
    return NUMBERS if is_id(type_) and not pa.types.is_null(type_) else None
