"""Every row of the table in docs/inputs.md, in training, a call from Python, and C++: the same bits, or refused."""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from towerspec.check import check
from towerspec.diagnostics import SpecError
from towerspec.runtime import read_inputs
from towerspec.train.data import open_log

from .conftest import DOC, USERS, Answers, Documented, said

NAMES = {"np": np, "pd": pd, "pa": pa, "torch": torch, "Decimal": Decimal, "nan": math.nan, "inf": math.inf}
NEUTRAL: dict[str, Any] = {
    "recent": [[1], [2]], "tags": [[1], [2]], "price": [1.0, 2.0], "vector": [[1.0, 2.0], [3.0, 4.0]],
    "pin": [1, 2], "color": [0, 1], "size": [10, 20], "month": ["01", "02"], "rooms": [[1], [2]], "item": [1, 2],
    "user": [7, 7],
}  # fmt: skip
IN_SAFETENSORS = {*(f"{s}int{b}" for s in ("", "u") for b in (8, 16, 32, 64)), "float16", "float32", "float64", "bool"}


class Row(NamedTuple):
    """A row of the table: expressions, or codes."""

    input: str
    value: str
    call: str
    training: str


ROWS = [Row(*cells) for cells in re.findall(r"^\| `(\w+)` \| `(.+)` \| (.+) \| (.+) \|$", DOC, re.MULTILINE)]


def value_of(expression: str) -> Any:
    return eval(expression.strip("`"), dict(NAMES))


def same(found: Any, wanted: Any) -> bool:
    """Equal bits, but for NaN's, which are alike."""
    x, y = np.ascontiguousarray(found), np.asarray(wanted, dtype=np.asarray(found).dtype)
    if x.dtype == np.float32:
        x, y = (np.where(np.isnan(a), 7, a.view(np.int32).astype(np.int64)) for a in (x, y))
    return x.shape == y.shape and bool((x == y).all())


def outcome(make: Any) -> Any:
    """An array, or the code and the words of the error."""
    try:
        return make()
    except SpecError as error:
        return error.diagnostics[0]


# ---- the four ways -----------------------------------------------------------------------------


def called(documented: Documented, name: str, inputs: dict[str, Any]) -> Any:
    surface = documented.bundle.surfaces["home"]
    surface(inputs)  # what passes the boundary can be computed
    names = [e["name"] for e in surface.inputs if e["name"] in inputs]
    return surface.boundary.prepare(inputs)[names.index(name)].numpy()


def trained(documented: Documented, name: str, value: Any, folder: Path) -> Any:
    columns = {k: pa.array(v) for k, v in NEUTRAL.items()} | {name: column(value), "click": pa.array([0, 1])}
    pq.write_table(pa.table(columns), folder / "log.parquet")
    log = open_log(check(documented.spec), [folder / "log.parquet"], vocabularies={"tables.users": USERS})
    (rows,) = log.encoded()
    return rows.features[name]


def column(value: Any) -> Any:
    """A value as a column of Arrow's."""
    if isinstance(value, torch.Tensor):
        value = value.detach().to(torch.float32 if value.is_floating_point() else torch.int64).numpy()
    if isinstance(value, pd.DataFrame):
        return pa.array(value.astype(object).where(value.notna(), None).to_numpy().tolist())
    if isinstance(value, np.ndarray) and value.ndim > 1:
        return pa.array(list(np.ascontiguousarray(value)))
    if isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray):
        return pa.array(np.ascontiguousarray(value.astype(value.dtype.newbyteorder("="))))
    if isinstance(value, list) and any(isinstance(x, np.ndarray) for x in value):
        return pa.array([np.asarray(x).tolist() for x in value])
    if isinstance(value, list) and any(isinstance(x, int) and x >= 2**63 for x in value):
        return pa.array(value, pa.uint64())
    return pa.array(value, from_pandas=False) if isinstance(value, list) else pa.array(value)


def written(value: Any) -> Any:
    """A value as JSON can hold it; raises `TypeError` where it can't."""
    if isinstance(value, list):
        return [written(item) for item in value]
    if isinstance(value, float):
        if math.isinf(value):
            raise TypeError
        return None if math.isnan(value) else value
    if value is None or isinstance(value, (bool, int, str)) or (isinstance(value, dict) and not value):
        return value
    raise TypeError


def in_files(name: str, value: Any, folder: Path) -> list[Path]:
    """Files that hold the value beside neutral ones."""
    files = []
    try:
        (folder / "inputs.json").write_text(json.dumps({**NEUTRAL, name: written(value)}))
        files.append(folder / "inputs.json")
    except (TypeError, ValueError):
        pass
    if isinstance(value, torch.Tensor) or (isinstance(value, np.ndarray) and value.dtype.name in IN_SAFETENSORS):
        if isinstance(value, np.ma.MaskedArray):
            return files
        x = (
            value
            if isinstance(value, torch.Tensor)
            else torch.from_numpy(np.array(value, value.dtype.newbyteorder("=")))
        )
        held = {k: torch.tensor(v) for k, v in NEUTRAL.items() if k not in ("recent", "tags", "rooms", "month")}
        held |= {"recent": torch.full([2, 3], -1), "tags": torch.full([2, 2], -1)}
        held |= {"rooms": torch.full([2, 2], -1), "month": torch.full([2], -1)}
        save_file({**held, name: x.detach().contiguous()}, folder / "inputs.safetensors")
        files.append(folder / "inputs.safetensors")
    return files


def tensors_of(answer: dict[str, Any]) -> list[np.ndarray]:
    found = []
    for shape, dtype, *numbers in answer["tensors"]:
        x = np.array(numbers, dtype=np.int64)
        found.append((x if dtype == "int64" else x.astype(np.int32).view(np.float32)).reshape(shape))
    return found


def agree(documented: Documented, answers: Answers, name: str, file: Path) -> Any:
    """What C++ makes of a file, which is what Python makes of it."""
    ours = outcome(lambda: called(documented, name, read_inputs(file)))
    answer = answers.ask("inputs", documented.build, "home", file)
    if "error" in answer:
        first, *rest = said(answer).split("\n")
        assert first == f"error[{ours.code}]: {ours.message}"
        assert [line for line in rest if "note" in line] == [f" = note: {note}" for note in ours.notes]
        return ours
    names = [e["name"] for e in documented.bundle.surfaces["home"].inputs]
    theirs = tensors_of(answer)[names.index(name)]
    assert same(theirs, ours)
    return ours


# ---- the table ---------------------------------------------------------------------------------


def test_the_table_is_read() -> None:
    assert len(ROWS) > 140
    assert {row.input for row in ROWS} == {*NEUTRAL, "candidates_per_request"}


def assert_is(found: Any, wanted: str, float_: bool) -> None:
    if re.fullmatch(r"T\d+", wanted):
        assert getattr(found, "code", None) == wanted, found
    else:
        assert not hasattr(found, "code"), found
        assert found.dtype == (np.float32 if float_ else np.int64)
        assert same(found, np.array(value_of(wanted), dtype=np.float64 if float_ else np.int64).astype(found.dtype)), (
            found
        )


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.input}={row.value}")
def test_every_row_of_the_table(documented: Documented, answers: Answers, row: Row, tmp_path: Path) -> None:
    value, float_ = value_of(row.value), row.input in ("price", "vector")
    inputs = {**NEUTRAL, row.input: value}
    assert_is(outcome(lambda: called(documented, row.input, inputs)), row.call, float_)
    for file in in_files(row.input, value, tmp_path):
        assert_is(agree(documented, answers, row.input, file), row.call, float_)
    if row.training != "—":
        wanted = row.call if row.training == "the same" else row.training
        assert_is(outcome(lambda: trained(documented, row.input, value, tmp_path)), wanted, float_)


# ---- beyond it ---------------------------------------------------------------------------------

TEXTS = ["red", "green", "anna", "", "é", "7", "10", "010", "-1", "-0", str(2**64 - 1), str(2**64)]
SINGLES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**65), 2**65), st.integers(-3, 12), st.floats(allow_infinity=False),
    st.sampled_from([*TEXTS, 2.0**53, 2.0**53 + 2, -0.0, 1.5]), st.just({}),
)  # fmt: skip
VALUES = st.recursive(st.lists(SINGLES, max_size=3), lambda inner: st.lists(inner | SINGLES, max_size=4), max_leaves=12)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted([*NEUTRAL, "candidates_per_request"])), value=VALUES)
def test_any_value_means_the_same_in_python_and_cpp(
    documented: Documented, answers: Answers, name: str, value: Any, tmp_path: Path
) -> None:
    file = tmp_path / "inputs.json"
    file.write_text(json.dumps({**NEUTRAL, name: written(value)}))
    agree(documented, answers, name, file)


def test_a_call_of_another_endianness_leaves_the_callers_array(documented: Documented) -> None:
    given_ = np.array([9, 3], ">i8")
    called(documented, "pin", {**NEUTRAL, "pin": given_})
    assert given_.dtype.str == ">i8"
    assert given_.tolist() == [9, 3]
