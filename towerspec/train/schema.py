"""Whether a log has the columns that a spec needs, with types that can hold them; known before any row is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from towerspec.diagnostics import Diagnostic, SpecError, did_you_mean, listing
from towerspec.train.columns import FeatureColumn, LabelColumn
from towerspec.train.encode import is_bytes, is_id, is_list, is_number, is_text
from towerspec.train.rows import BY_NAME, Encoder
from towerspec.train.sources import File

_WORDS = {"int": "whole numbers", "float": "numbers", "text": "texts", "bool": "true and false"}


def check_schema(files: Sequence[File], encoder: Encoder) -> None:
    """Raises `SpecError` with all that is wrong with the files' columns: missing (T811), of the wrong type (T812)."""
    problems = list(_mapping(encoder))
    seen: set[tuple[str, str]] = set()
    for file in files:
        for column, problem in _file(file, encoder):
            if (problem.code, column) not in seen:  # once for a folder of files that look the same
                seen.add((problem.code, column))
                problems.append(problem)
    if problems:
        raise SpecError(*problems)


def check_requests(files: Sequence[File], encoder: Encoder) -> None:
    """Raises `SpecError` (T811) where a file doesn't say which rows were shown together."""
    column = encoder.columns.request
    for file in files:
        if column is None or column not in file.schema.names:
            name = column or "request"
            raise SpecError(_missing(file, name, "which says which rows are a request's", file.schema.names))


def _mapping(encoder: Encoder) -> Iterator[Diagnostic]:
    for raw, name in encoder.columns.surfaces.items():
        if name not in encoder.surfaces:
            yield Diagnostic(
                "T814",
                f"`{raw}` is mapped to the surface `{name}`, which the spec doesn't have",
                notes=(f"its surfaces are {listing(encoder.surfaces)}",),
                help=did_you_mean(name, encoder.surfaces),
            )


def _file(file: File, encoder: Encoder) -> Iterator[tuple[str, Diagnostic]]:
    names = file.schema.names
    yield from _places(file, encoder)
    for name, features in encoder.features.items():
        if name not in names:
            yield name, _missing(file, name, f"which the feature `{name}` reads", names)
        elif (wanted := _feature_wants(file, features[0])) is not None:
            yield name, _wrong(file, name, f"the {features[0].kind.kind} `{name}`", wanted)
    for name, label in encoder.labels.items():
        if name not in names:
            if not label.optional:
                yield name, _missing(file, name, f"which holds the labels of `{name}`", names)
        elif (wanted := _label_wants(file, label)) is not None:
            yield name, _wrong(file, name, f"the {label.kind.kind} head `{name}`", wanted)


def _places(file: File, encoder: Encoder) -> Iterator[tuple[str, Diagnostic]]:
    """What is wrong with the columns that say where, when and together with what a row was shown."""
    columns, names = encoder.columns, file.schema.names
    uses = [(columns.surface, "surface", len(encoder.surfaces) > 1), (columns.time, "time", True)]
    uses += [
        (columns.request, "request", columns.request != BY_NAME.request)
    ]  # used under its usual name if it's there
    for name, use, needed in uses:
        if name is not None and name in names:
            if pa.types.is_nested(file.schema.field(name).type):
                yield name, _wrong(file, name, f"each row's {use}", "a single value a row")
        elif name is not None and needed:
            yield name, _missing(file, name, f"which says each row's {use}", names)


def _missing(file: File, name: str, use: str, names: Sequence[str]) -> Diagnostic:
    return Diagnostic(
        "T811",
        f"`{file.path}` has no column `{name}`, {use}",
        notes=(f"its columns are {listing(names)}",),
        help=did_you_mean(name, names),
    )


def _wrong(file: File, name: str, reader: str, wanted: str) -> Diagnostic:
    held = _WORDS[file.items[name]] if name in file.items else f"the type {file.schema.field(name).type}"
    if name in file.odd:
        row, cell = file.odd[name]
        held = f"texts, such as `{cell[:60]}` in row {row + 1:,}"
    return Diagnostic(
        "T812",
        f"the column `{name}` of `{file.path}` has the wrong type for {reader}",
        notes=(f"it holds {held}, and takes {wanted}",),
        help="write missing values as empty cells" if name in file.odd else None,
    )


def held(file: File, name: str, listed: bool) -> tuple[pa.DataType, bool]:
    """The type of a column's cells, or of its lists' items, and whether it is one of lists."""
    kind = file.schema.field(name).type
    if name in file.items:
        return {"int": pa.int64(), "float": pa.float64(), "text": pa.string(), "bool": pa.bool_()}[
            file.items[name]
        ], listed
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if is_list(kind):
        item = kind.value_type
        return (item.value_type if pa.types.is_dictionary(item) else item), True
    return kind, listed and pa.types.is_null(kind)


def _feature_wants(file: File, feature: FeatureColumn) -> str | None:
    """What the column should hold, in words, where it doesn't."""
    listed = feature.width > 0
    kind, is_listed = held(file, feature.name, listed)
    text = is_text(kind) or is_bytes(kind)
    if feature.coding is None:
        fits, items = is_number(kind), "numbers"
    elif not feature.texts:
        fits, items = is_id(kind), "whole numbers; texts take `values`, `ids: hash` or `ids: fitted`"
    else:
        fits, items = is_id(kind) or text, "whole numbers or texts"
    if fits and is_listed == listed:
        return None
    return f"lists of {items}" if listed else items


def _label_wants(file: File, label: LabelColumn) -> str | None:
    kind, listed = held(file, label.name, False)
    if listed or not (is_number(kind) or (is_text(kind) and getattr(label.kind, "values", None))):
        return "numbers, or the classes' names" if getattr(label.kind, "values", None) else "numbers"
    return None
