"""Every type of Arrow's in every place that a spec reads: the values of a plain column, or refused by T812."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from towerspec.check import Checked, check_text
from towerspec.diagnostics import SpecError
from towerspec.runtime.vocabulary import text_id
from towerspec.train import data
from towerspec.train.data import Columns, Log, open_log
from towerspec.train.sources import File, Piece
from towerspec.train.types import plain_type

SPEC = """model typed

request {
    number   : number
    direct   : category { rows: 9 }
    hashed   : category { rows: 9, ids: hash }
    fitted   : category { rows: 9, ids: fitted }
    valued   : category { values: ["1", "0"] }
    numbers  : number { width: 2 }
    directs  : bag { rows: 9, length: 2 }
    hasheds  : bag { rows: 9, ids: hash, length: 2 }
    fitteds  : sequence { rows: 9, ids: fitted, length: 2 }
}

trunk {
    z = mlp(concat(number, direct, hashed, fitted, valued, numbers, directs, hasheds, pooling(fitteds)), hidden: [2])
}

surface home {
    tower {
        head happens : binary
        head size    : regression
        head times   : count
        head which   : multiclass { classes: 2 }
        head named   : multiclass { values: ["0", "1"] }
    }
}

surface search {
    tower {
        head happens : binary
    }
}
"""
LISTS = ("numbers", "directs", "hasheds", "fitteds")
LABELS = ("happens", "size", "times", "which", "named")
# What each place takes, by what a type holds; of lists, what their items hold.
NUMBERS = {"whole", "truth", "null"}
IDS = {"whole", "null"}
TEXTS = {"whole", "text", "uuid", "null"}
TAKES = {
    "number": NUMBERS, "direct": IDS, "hashed": TEXTS, "fitted": TEXTS, "valued": TEXTS,
    "numbers": NUMBERS, "directs": IDS, "hasheds": TEXTS, "fitteds": TEXTS,
    "happens": NUMBERS, "size": NUMBERS, "times": NUMBERS, "which": NUMBERS, "named": NUMBERS | {"text", "uuid"},
    "surface": TEXTS | {"truth"}, "request": TEXTS | {"day", "hour"}, "time": TEXTS | {"day", "hour"},
}  # fmt: skip
VALUES: dict[str, tuple[Any, Any]] = {
    "whole": (1, 0),
    "truth": (True, False),
    "text": ("1", "0"),
    "uuid": (str(uuid.UUID(int=1)), str(uuid.UUID(int=0))),
    "day": (86_400, 0),
    "hour": (3_600, 0),
    "null": (None, None),
    "other": (1, 0),
}
LATER = {"whole": "1", "text": "1", "uuid": VALUES["uuid"][0], "day": "1970-01-02", "hour": "01:00:00", "null": "1"}
Make = Callable[[list[Any]], pa.Array]


class Case(NamedTuple):
    """A type: what it, or an item of it, holds, and the array of values that it makes."""

    name: str
    holds: str
    make: Make
    listed: bool = False


# ---- the types ---------------------------------------------------------------------------------


def singles() -> Iterator[Case]:
    def of(holds: str, kind: pa.DataType, make: Make | None = None) -> Case:
        return Case(str(kind), holds, make or (lambda values: pa.array(values, kind)))

    for bits in (8, 16, 32, 64):
        yield of("whole", getattr(pa, f"int{bits}")())
        yield of("whole", getattr(pa, f"uint{bits}")())
    for kind in (pa.float16(), pa.float32(), pa.float64()):
        yield of("whole", kind, lambda v, k=kind: pa.array(v, pa.float64()).cast(k))
    for kind in (pa.decimal32(5, 0), pa.decimal64(12, 2), pa.decimal128(20, 0), pa.decimal256(50, 3)):
        yield of("whole", kind, lambda v, k=kind: pa.array(v, pa.int8()).cast(pa.decimal128(38, 3)).cast(k))
    yield of("truth", pa.bool_())
    yield of("truth", pa.bool8(), lambda v: pa.ExtensionArray.from_storage(pa.bool8(), pa.array(v).cast(pa.int8())))
    for kind in (pa.string(), pa.large_string(), pa.string_view()):
        yield of("text", kind)
    yield of("text", pa.json_(), lambda v: pa.ExtensionArray.from_storage(pa.json_(), pa.array(v, pa.string())))
    for kind in (pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(1)):
        yield of("text", kind, lambda v, k=kind: pa.array([x if x is None else x.encode() for x in v], k))
    yield of("uuid", pa.uuid(), lambda v: pa.ExtensionArray.from_storage(
        pa.uuid(), pa.array([x if x is None else uuid.UUID(x).bytes for x in v], pa.binary(16))))  # fmt: skip
    for kind in moments("day"):
        yield of("day", kind, lambda v, k=kind: pa.array(v, pa.int64()).cast(pa.timestamp("s")).cast(k))
    for kind in moments("hour"):
        yield of("hour", kind, lambda v, k=kind: pa.array(v, pa.int32()).cast(pa.time32("s")).cast(k))
    for unit in UNITS:
        yield of("other", pa.duration(unit), lambda v, u=unit: pa.array(v, pa.int64()).cast(pa.duration(u)))
    interval = pa.month_day_nano_interval()
    yield of("other", interval, lambda v: pa.array([x if x is None else (x, 0, 0) for x in v], interval))
    yield of("null", pa.null())


UNITS = ("s", "ms", "us", "ns")


def moments(which: str) -> list[pa.DataType]:
    if which == "hour":
        return [pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")]
    zones = (None, "UTC", "Europe/London")  # where the first days of 1970 were an hour ahead
    return [pa.date32(), pa.date64(), *(pa.timestamp(unit, zone) for unit in UNITS for zone in zones)]


def coded(case: Case) -> Iterator[Case]:
    """A type as dictionaries' values and as runs'."""
    yield Case(f"dictionary of {case.name}", case.holds, lambda v: dictionary(case.make, v))
    if case.holds != "null":
        yield Case(f"runs of {case.name}", case.holds, lambda v: pa.RunEndEncodedArray.from_arrays(
            pa.array(range(1, len(v) + 1), pa.int32()), case.make(v)))  # fmt: skip


def dictionary(make: Make, values: list[Any]) -> pa.Array:
    words = list(dict.fromkeys(x for x in values if x is not None)) or [None]
    indices = pa.array([None if x is None else words.index(x) for x in values], pa.int16())
    return pa.DictionaryArray.from_arrays(indices, make(words))


def lists(case: Case) -> Iterator[Case]:
    """A type as the items of each type of list: a value twice, or none at all."""

    def make(values: list[Any], kind: str) -> pa.Array:
        items = case.make([x for x in values for _ in range(2)])
        gaps = pa.array([x is None for x in values])
        if kind == "fixed":
            return pa.FixedSizeListArray.from_arrays(items, 2, mask=gaps)
        whole, cls = (pa.int64(), "Large") if kind.startswith("large") else (pa.int32(), "")
        at = [2 * i for i in range(len(values) + 1)]
        if kind.endswith("view"):
            sizes = pa.array([2] * len(values), whole)
            return getattr(pa, f"{cls}ListViewArray").from_arrays(pa.array(at[:-1], whole), sizes, items, mask=gaps)
        return getattr(pa, f"{cls}ListArray").from_arrays(pa.array(at, whole), items, mask=gaps)

    for kind in ("list", "large list", "fixed", "view", "large view"):
        yield Case(f"{kind} of {case.name}", case.holds, lambda v, k=kind: make(v, k), listed=True)


def others() -> Iterator[Case]:
    whole = pa.array([1, 0, 1, 1], pa.int8())
    for name, array in {
        "map": pa.array([[("a", 1)], [], None, [("b", 2)]], pa.map_(pa.string(), pa.int64())),
        "struct": pa.array([{"a": 1}, {"a": 2}, None, {"a": 3}]),
        "dense union": pa.UnionArray.from_dense(pa.array([0] * 4, pa.int8()), pa.array(range(4), pa.int32()), [whole]),
        "sparse union": pa.UnionArray.from_sparse(pa.array([0] * 4, pa.int8()), [whole]),
        "list of lists": pa.array([[[1]], [], None, [[2]]]),
        "list of structs": pa.array([[{"a": 1}], [], None, []]),
        "opaque": pa.ExtensionArray.from_storage(pa.opaque(pa.int8(), "odd", "us"), whole),
        "tensor": pa.FixedShapeTensorArray.from_numpy_ndarray(np.ones((4, 2), np.float32)),
    }.items():
        yield Case(name, "other", lambda values, x=array: x)


PLAIN = list(singles())
ITEMS = [*PLAIN, *(c for single in PLAIN for c in coded(single) if single.name in ("string", "int64"))]
CASES = [*PLAIN, *(c for case in PLAIN for c in coded(case)), *(c for case in ITEMS for c in lists(case)), *others()]


# ---- what is read ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checked() -> Checked:
    return check_text(SPEC)


def neutral() -> dict[str, pa.Array]:
    one = dict.fromkeys(["number", "direct", "hashed", "fitted", *LABELS, "request", "time"], pa.array([1, 0, 1, 0]))
    many = dict.fromkeys(LISTS, pa.array([[1, 1], [0, 0], [1, 1], [0, 0]]))
    return one | many | {"valued": pa.array(["1"] * 4), "surface": pa.array(["1", "0", "1", "1"])}


def column(case: Case, place: str) -> pa.Array:
    """The type's values in a place; a surface column has no gap."""
    high, low = VALUES[case.holds]
    return case.make([high, low, high if place == "surface" else None, high])


def opened(checked: Checked, table: pa.Table, path: Path | None, patch: pytest.MonkeyPatch) -> Log:
    """The table as a log: of a Parquet file, or as Arrow has it."""
    names = {"true": "home", "false": "search", "1": "home", "0": "search"}
    names |= dict(zip(VALUES["uuid"], ("home", "search"), strict=True))
    columns = Columns(surfaces=names, time="time")
    if path is not None:
        pq.write_table(table, path)
        return open_log(checked, [path], columns)
    batch = table.to_batches()[0]
    memory = Piece("memory", lambda names: iter([batch.select(list(names))]), 0, len(table))
    patch.setattr(data, "open_files", lambda *_: [File(Path("memory"), (memory,), table.schema)])
    return open_log(checked, [], columns)


def kept(table: pa.Table, path: Path) -> bool:
    """Whether a Parquet file can be written of a table, and has its columns' values afterwards."""
    try:
        pq.write_table(table, path)
        return bool(plain_type(pq.read_schema(path).field(0).type) == plain_type(table.schema.field(0).type))
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return False


def wanted(case: Case, place: str) -> list[Any]:
    """What the values become."""
    high, low = VALUES[case.holds]
    if place.startswith("number") or place in LABELS:
        return [float(high), float(low), np.nan, float(high)] if high is not None else [np.nan] * 4
    if place == "valued":
        return [{"1": 0, "0": 1}.get(x, -1 if x is None else 2) for x in (high, low, None, high)]
    code = {high: 0, low: 1} if place.startswith("fitted") else {high: high, low: low}
    if place.startswith("hashed") and isinstance(high, str):
        code = {x: text_id(x) for x in (high, low)}
    return [-1 if x is None else code[x] for x in (high, low, None, high)]


@pytest.mark.parametrize("way", ["arrow", "parquet"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_type_in_every_place(
    checked: Checked, case: Case, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.parquet" if way == "parquet" else None
    refused = {p for p, takes in TAKES.items() if case.holds not in takes or case.listed != (p in LISTS)}
    if case.holds == "null" and not case.listed:  # a list of nothing is null as well
        refused -= {*LISTS}
    every = {place: column(case, place) for place in TAKES}
    if path is not None and not kept(pa.table({"hashed": every["hashed"]}), path):
        pytest.skip("no Parquet file holds it")
    if refused:
        with pytest.raises(SpecError) as found:
            opened(checked, pa.table(every), path, monkeypatch)
        assert {d.code for d in found.value.diagnostics} == {"T812"}
        assert {d.message.split("`")[1] for d in found.value.diagnostics} == refused
    no_value = {("surface", "null"), ("named", "uuid")}  # of the right type, and refused by their rows
    used = {k: x for k, x in every.items() if k not in refused and (k, case.holds) not in no_value}
    log = opened(checked, pa.table({**neutral(), **used}), path, monkeypatch)
    log = log.with_vocabularies(log.fit().vocabularies)
    (rows,) = log.encoded()
    assert rows.surface.tolist() == [0, 1, 0, 0]
    for place in {*used} - {"surface", "request", "time"} - ({"valued", "named"} if case.holds == "whole" else set()):
        got = rows.labels[place] if place in LABELS else rows.features[place]
        one = wanted(case, place)
        if place in LISTS:
            one = [[x, x] for x in one]
        on_home = [0, 2, 3] if place in LABELS and place != "happens" else [0, 1, 2, 3]
        np.testing.assert_array_equal(got[on_home], np.array(one)[on_home], err_msg=place)
    if "request" in used and case.holds != "null":
        assert rows.request is not None
        a, b, c, d = rows.request.tolist()
        assert a == d != b
        assert c not in (a, b)
    if "time" in used:
        assert log.where(after=LATER[case.holds]).rows() == (0 if case.holds == "null" else 2)


def test_the_types_are_all_there() -> None:
    """Each function of `pa` that makes a type of its own has a case."""
    ids = {c.make([*VALUES[c.holds], None, VALUES[c.holds][0]]).type.id for c in CASES}
    every = {v for k, v in vars(pa.lib).items() if k.startswith("Type_")}
    absent = {pa.lib.Type_INTERVAL_MONTHS, pa.lib.Type_INTERVAL_DAY_TIME}  # pyarrow has no arrays of these
    assert every - ids <= absent
