"""Whether a log has the columns that a spec needs, with types that can hold them; known before it is encoded.

A file needs the columns that the surfaces of its rows read, and no others.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from towerspec.diagnostics import Diagnostic, SpecError, did_you_mean, listing
from towerspec.train.columns import FeatureColumn, LabelColumn
from towerspec.train.reader import MISSING, Window, stream
from towerspec.train.rows import BY_NAME, Encoder, Problems
from towerspec.train.sources import File
from towerspec.train.types import is_id, is_list, is_moment, is_number, is_text, plain_type

_WORDS = {"int": "whole numbers", "float": "numbers", "text": "texts", "bool": "true and false"}
_ITEMS = {"int": pa.int64(), "float": pa.float64(), "text": pa.string(), "bool": pa.bool_()}


def settled(files: Sequence[File], encoder: Encoder) -> list[File]:
    """The files, in which a column that none of their rows reads is null where it is missing or of another type.

    Raises:
        SpecError: all that is wrong with the files' columns: missing, or there twice (T811), or of the wrong type
            (T812), or a mapping or a row names an unknown surface (T814).
    """
    problems, seen, found = list(_mapping(encoder)), set(), []
    for file in files:
        checked = _Checked(file, encoder)
        unread = []
        for column, problem in checked.problems():
            if problem is None:
                unread.append(column)
            elif (problem.code, column) not in seen:  # once for a folder of files that look the same
                seen.add((problem.code, column))
                problems.append(problem)
        found.append(file.with_constants(dict.fromkeys(unread, pa.scalar(None))))
    if problems:
        raise SpecError(*problems)
    return _alike(found, encoder)


def check_requests(files: Sequence[File], encoder: Encoder) -> None:
    """Raises `SpecError` (T811) where a file doesn't say which rows were shown together."""
    column = encoder.columns.request
    for file in files:
        if column is None or column not in file.schema.names:
            raise SpecError(_missing(file, column or "request", "which says which rows are a request's"))


def _alike(files: list[File], encoder: Encoder) -> list[File]:
    """The files, in which what may be left out is null where another file has it."""
    optional = [name for name, label in encoder.labels.items() if label.optional]
    optional += [encoder.columns.request] if encoder.columns.request else []
    some = [name for name in optional if any(name in file.schema.names for file in files)]
    nulls = [{name: pa.scalar(None) for name in some if name not in file.schema.names} for file in files]
    return [file.with_constants(absent) for file, absent in zip(files, nulls, strict=True)]


def _mapping(encoder: Encoder) -> Iterator[Diagnostic]:
    for raw, name in encoder.columns.surfaces.items():
        if name not in encoder.surfaces:
            yield Diagnostic(
                "T814",
                f"`{raw}` is mapped to the surface `{name}`, which the spec doesn't have",
                notes=(f"its surfaces are {listing(encoder.surfaces)}",),
                help=did_you_mean(name, encoder.surfaces),
            )


# ---- one file ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Use:
    """How a spec reads a column: what for, who, what the column should hold where it doesn't, and on which surfaces."""

    column: str
    purpose: str
    reader: str
    wants: Callable[[File], str | None]
    surfaces: tuple[int, ...]
    optional: bool = False

    def problem(self, file: File, where: str = "") -> Diagnostic | None:
        """What is wrong with the column of a file."""
        if self.column in file.twice:
            return _twice(file, self.column, self.purpose + where)
        if self.column not in file.schema.names:
            return None if self.optional else _missing(file, self.column, self.purpose + where)
        wanted = self.wants(file)
        return None if wanted is None else _wrong(file, self.column, self.reader + where, wanted)


@dataclass
class _Checked:
    """One file's columns against a spec."""

    file: File
    encoder: Encoder

    def problems(self) -> Iterator[tuple[str, Diagnostic | None]]:
        """Each column that is wrong, with the diagnostic; with none where no row of the file reads it."""
        everywhere = tuple(range(len(self.encoder.surfaces)))
        placed = [(use.column, use.problem(self.file)) for use in _places(self.encoder, everywhere)]
        yield from ((column, problem) for column, problem in placed if problem is not None)
        known = all(column != self.encoder.columns.surface for column, problem in placed if problem is not None)
        for use in _values(self.encoder):
            problem = use.problem(self.file)
            if problem is None:
                continue
            if known and {*use.surfaces} != {*everywhere}:
                here = [self.encoder.surfaces[i] for i in use.surfaces if i in self.present]
                problem = use.problem(self.file, f" on the surface `{here[0]}`") if here else None
            yield use.column, problem

    @functools.cached_property
    def present(self) -> set[int]:
        """The surfaces of the file's rows.

        Raises:
            SpecError: a row's surface is unknown (T814).
        """
        found: set[int] = set()
        columns = self.encoder.columns
        for raw in stream([self.file], self.file.pieces, [columns.surface], Window(), columns.nulls):
            problems = Problems()
            found.update(self.encoder.surface(raw, problems).tolist())
            problems.check()
        return found


def _places(encoder: Encoder, surfaces: tuple[int, ...]) -> Iterator[_Use]:
    """The columns that say where, when and together with what a row was shown."""
    columns = encoder.columns
    one = len(encoder.surfaces) == 1  # then no column needs to say which
    for name, what, optional, fits, words in (
        (columns.surface, "surface", one, lambda kind: is_number(kind) or is_text(kind), "texts or whole numbers"),
        (columns.time, "time", False, _is_key, "numbers, dates, times or texts"),
        (columns.request, "request", columns.request == BY_NAME.request, _is_key, "texts, whole numbers or times"),
    ):
        if name is not None:
            wants = functools.partial(_place_wants, name=name, fits=fits, words=words)
            yield _Use(name, f"which says each row's {what}", f"each row's {what}", wants, surfaces, optional)


def _values(encoder: Encoder) -> Iterator[_Use]:
    """The columns of features and labels."""
    for name, features in encoder.features.items():
        surfaces = tuple(dict.fromkeys(i for feature in features for i in feature.surfaces))
        wants = functools.partial(_feature_wants, feature=features[0])
        yield _Use(name, f"which the feature `{name}` reads", f"the {features[0].kind.kind} `{name}`", wants, surfaces)
    for name, label in encoder.labels.items():
        reader, wants = f"the {label.kind.kind} head `{name}`", functools.partial(_label_wants, label=label)
        yield _Use(name, f"which holds the labels of `{name}`", reader, wants, label.surfaces, label.optional)


# ---- what is wrong -----------------------------------------------------------------------------


def _missing(file: File, name: str, purpose: str) -> Diagnostic:
    names = file.schema.names
    return Diagnostic(
        "T811",
        f"`{file.path}` has no column `{name}`, {purpose}",
        notes=(f"its columns are {listing(names)}",),
        help=did_you_mean(name, names),
    )


def _twice(file: File, name: str, purpose: str) -> Diagnostic:
    message = f"`{file.path}` has more than one column `{name}`, {purpose}"
    return Diagnostic("T811", message, help="leave one of them in the file, or give the others another name")


def _wrong(file: File, name: str, reader: str, wanted: str) -> Diagnostic:
    held = _WORDS[file.items[name]] if name in file.items else f"the type {file.schema.field(name).type}"
    if name in file.odd:
        row, cell = file.odd[name]
        held = f"texts, such as `{cell[:60]}` in row {row + 1:,}"
    return Diagnostic(
        "T812",
        f"the column `{name}` of `{file.path}` has the wrong type for {reader}",
        notes=(f"it holds {held}, and takes {wanted}",),
        help=MISSING if name in file.odd else None,
    )


def held(file: File, name: str, listed: bool = False) -> tuple[pa.DataType, bool]:
    """The plain type of a column's cells, or of its lists' items, and whether it is one of lists."""
    if name in file.items:
        return _ITEMS[file.items[name]], listed
    kind = plain_type(file.schema.field(name).type)
    return (kind.value_type, True) if is_list(kind) else (kind, listed and pa.types.is_null(kind))


def _feature_wants(file: File, feature: FeatureColumn) -> str | None:
    """What the column should hold, in words, where it doesn't."""
    listed = feature.width > 0
    kind, is_listed = held(file, feature.name, listed)
    if feature.coding is None:
        fits, items = is_number(kind), "numbers"
    elif not feature.texts:
        fits, items = is_id(kind), "whole numbers; texts take `values`, `ids: hash` or `ids: fitted`"
    else:
        fits, items = is_id(kind) or is_text(kind), "whole numbers or texts"
    if fits and is_listed == listed:
        return None
    return f"lists of {items}" if listed else items


def _label_wants(file: File, label: LabelColumn) -> str | None:
    kind, listed = held(file, label.name)
    if listed or not (is_number(kind) or (is_text(kind) and getattr(label.kind, "values", None))):
        return "numbers, or the classes' names" if getattr(label.kind, "values", None) else "numbers"
    return None


def _place_wants(file: File, name: str, fits: Callable[[pa.DataType], bool], words: str) -> str | None:
    kind, listed = held(file, name)
    return None if fits(kind) and not listed else f"{words}, one a row"


def _is_key(kind: pa.DataType) -> bool:
    return is_id(kind) or is_text(kind) or is_moment(kind)
