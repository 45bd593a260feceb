"""A manifest's entries and vocabularies that can't be right are refused, in the same words in Python and C++."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from towerspec.diagnostics import SpecError
from towerspec.runtime import load
from towerspec.runtime.entries import Input, read_entries
from towerspec.runtime.inputs import Boundary
from towerspec.runtime.samples import sample
from towerspec.runtime.vocabulary import Vocabulary

from .conftest import Answers, Documented, said

AGE: dict[str, Any] = {"name": "age", "dtype": "float32", "shape": ["R"], "level": "request", "kind": "number"}
LOOK = {"name": "look", "dtype": "float32", "shape": ["N", 3], "level": "candidate", "kind": "number"}
PIN = {"name": "pin", "dtype": "int64", "shape": ["N"], "level": "candidate", "kind": "category", "range": [0, 9]}
SEEN = {"name": "seen", "dtype": "int64", "shape": ["R", 4], "level": "request", "kind": "sequence", "range": [0, 9]}
ITEM = {**PIN, "name": "item", "ids": "hash", "range": None}
USER = {**PIN, "name": "user", "ids": "fitted", "vocabulary": "tables.users"}
COLOR = {**PIN, "name": "color", "values": ["red", "green"]}
SIZE = {**PIN, "name": "size", "values": [10, "20", "large"], "numbers": "values"}
COUNTS = {
    "name": "candidates_per_request",
    "dtype": "int64",
    "shape": ["R"],
    "level": "request",
    "kind": "counts",
    "optional": True,
}
ALL = [AGE, LOOK, PIN, SEEN, ITEM, USER, COLOR, SIZE, COUNTS]
WRONG: dict[str, list[Any]] = {  # what is said, and the lists that it is said of
    "they are no list": [None, {}, 3, "inputs"],
    "entry 0 is no object": [[3], [None], [["age"]]],
    "entry 1 has no name": [[AGE, {}], [AGE, {**PIN, "name": ""}], [AGE, {**PIN, "name": 3}]],
    "`pin` has no kind": [[{**PIN, "kind": None}], [{**PIN, "kind": 3}]],
    "`pin` has a level that is not `request` or `candidate`": [
        [{**PIN, "level": x}] for x in ("item", None, ["request"])
    ],
    "`pin` has a dtype that is not `int64` or `float32`": [[{**PIN, "dtype": x}] for x in ("int32", None, 3, {})],
    "`pin` has a shape that is not `N` and sizes from 1 up": [
        [{**PIN, "shape": x}] for x in ([], ["R"], ["N", 0], ["N", -1], ["N", 1.5], ["N", True], ["N", "N"], "N", [3])
    ],
    "`look` has a shape that is not `N` and sizes from 1 up": [
        [{**LOOK, "shape": x}]
        for x in (["N", 2**62], ["N", 2**70], ["N", 2**31], ["N", 2**16, 2**16], ["N"] + [9**9] * 9)
    ],
    "`seen` has the kind `sequence`, and int64 of 1 axis": [[{**SEEN, "shape": ["R"]}]],
    "`seen` has the kind `sequence`, and int64 of 3 axes": [[{**SEEN, "shape": ["R", 4, 2]}]],
    "`seen` has the kind `bag`, and float32 of 2 axes": [[{**SEEN, "kind": "bag", "dtype": "float32"}]],
    "`pin` has the kind `category`, and int64 of 2 axes": [[{**PIN, "shape": ["N", 3]}]],
    "`pin` has the kind `category`, and float32 of 1 axis": [[{**PIN, "dtype": "float32"}]],
    "`pin` has the kind `image`, and int64 of 3 axes": [[{**PIN, "kind": "image", "shape": ["N", 3, 2]}]],
    "`age` has an `optional` that is not true or false": [[{**AGE, "optional": x}] for x in (None, 1, "yes")],
    "`age` is optional": [[{**AGE, "optional": True}]],
    "`age` has a range, values or a vocabulary, and takes no ids": [
        [{**AGE, **x}]
        for x in ({"range": [0, 1]}, {"values": ["a"]}, {"ids": "hash"}, {"vocabulary": "t"}, {"numbers": "values"})
    ],
    "`pin` has a range that is not two whole numbers, the lower one first": [
        [{**PIN, "range": x}]
        for x in ([0], [], [0, 1, 2], [1, 0], [0, 1.5], [0, True], ["0", "1"], [0, 2**63], "01", 3)
    ],
    "`pin` has no range": [[{**PIN, "range": None}]],
    "`item` has `ids` that are not `direct`, `hash` or `fitted`": [[{**ITEM, "ids": x}] for x in ("hashed", "", 3, [])],
    "`color` has values that are not different texts": [[{**COLOR, "values": x}] for x in (["a", "a"], [1], "ab", {})],
    "`size` has values that are not different texts and whole numbers": [
        [{**SIZE, "values": x}] for x in ([1, 1], ["a", "a"], [1.5], [True], [None], [2**63], {}, "ab")
    ],
    "`size` has values that are not different texts": [[{**SIZE, "numbers": None}]],
    "`size` has `numbers` that are not `values`": [[{**SIZE, "numbers": x}] for x in ("positions", "", 3, [])],
    "`size` has `numbers` that are values, and no values": [[{**SIZE, "values": None}]],
    "`user` has a vocabulary that is no table's name": [[{**USER, "vocabulary": x}] for x in (3, "", ["t"])],
    "`user` has both hashed ids and a vocabulary": [[{**USER, "ids": "hash"}]],
    "`age` is there twice": [[AGE, AGE], [AGE, PIN, {**PIN, "name": "age"}]],
    "`age` has counts and is not named `candidates_per_request`": [[{**COUNTS, "name": "age"}]],
    "`candidates_per_request` is not optional": [[AGE, PIN, {**COUNTS, "optional": False}]],
    "`candidates_per_request` is not the last one of inputs of both levels": [
        [AGE, COUNTS, PIN],
        [COUNTS],
        [AGE, COUNTS],
        [AGE, PIN, {**COUNTS, "level": "candidate", "shape": ["N"]}],
    ],
}


def outcomes(answers: Answers, entries: Any, folder: Path) -> tuple[tuple[Input, ...] | None, str]:
    """The inputs in Python, or its error, which is that of C++."""
    file = folder / "entries.json"
    file.write_text(json.dumps(entries))
    theirs = answers.ask("entries", file)
    try:
        inputs = read_entries("home", entries)
    except SpecError as error:
        ours = str(error).strip()
    else:
        assert theirs is True
        return inputs, ""
    assert said(theirs) == ours.replace("  = ", " = ")
    return None, ours


def test_entries_that_are_right(answers: Answers, tmp_path: Path) -> None:
    inputs, _ = outcomes(answers, ALL, tmp_path)
    assert inputs is not None
    assert [input.name for input in inputs] == [entry["name"] for entry in ALL]
    for some in ([], [AGE], [PIN], [AGE, PIN, COUNTS], [{**PIN, "kind": "image"}], [{**LOOK, "kind": "image"}]):
        assert outcomes(answers, some, tmp_path)[0] is not None
    assert Boundary("home", []).prepare({}) == []


@pytest.mark.parametrize("why", WRONG)
def test_entries_that_are_wrong(answers: Answers, why: str, tmp_path: Path) -> None:
    assert WRONG[why]
    for entries in WRONG[why]:
        text = outcomes(answers, entries, tmp_path)[1]
        assert text.startswith(f"error[T701]: surface `home`: the manifest describes its inputs wrongly: {why}\n"), (
            entries
        )


KEYS = ["name", "dtype", "shape", "level", "kind", "range", "ids", "values", "numbers", "vocabulary", "optional"]
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 12),
    st.sampled_from([2**62, 2**63, 1.5, "R", "values", "int64", "float32", "bag"]),
    st.lists(st.sampled_from(["R", "N", 0, 1, 4, 2**62, "a", None]), max_size=3),
    st.just({}),
)


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.integers(0, len(ALL) - 1), st.sampled_from(KEYS), JUNK), max_size=3),
    seed=st.integers(0, 99),
)
def test_spoilt_entries_end_alike_and_never_break_a_call(
    answers: Answers, changes: list[tuple[int, str, Any]], seed: int, tmp_path: Path
) -> None:
    entries: list[dict[str, Any]] = [dict(entry) for entry in ALL]
    for at, key, junk in changes:
        entries[at][key] = junk
    if seed % 3 == 0:
        random.Random(seed).shuffle(entries)
    if outcomes(answers, entries, tmp_path)[0] is not None:
        tensors = Boundary("home", entries).prepare(sample(entries, [2, 1], seed))
        assert [str(x.dtype).removeprefix("torch.") for x in tensors] == [entry["dtype"] for entry in entries]


@pytest.mark.parametrize(
    ("ids", "why"),
    [
        ([1, "a", -5], ""),
        ([], ""),
        ({}, "is no list of at most 5 ids"),
        ("abc", "is no list of at most 5 ids"),
        ([1, 2, 3, 4, 5, 6], "is no list of at most 5 ids"),
        *[([x], "holds what is neither a text nor a whole number of 64 bits") for x in (None, 1.5, True, [1], 2**63)],
    ],
)
def test_vocabularies(answers: Answers, ids: Any, why: str, tmp_path: Path) -> None:
    file = tmp_path / "ids.json"
    file.write_text(json.dumps(ids))
    theirs = answers.ask("vocabulary", file)
    if not why:
        assert theirs is True
        Vocabulary(ids, 5)
        return
    with pytest.raises(SpecError) as raised:
        Vocabulary(ids, 5)
    assert (
        said(theirs).split("\n")[0]
        == str(raised.value).split("\n")[0]
        == f"error[T701]: a vocabulary of the build {why}"
    )


def test_a_build_with_wrong_entries_is_not_loaded(documented: Documented, answers: Answers, tmp_path: Path) -> None:
    """What made C++ write beyond its memory: a list whose shape has no length, and one of another type."""
    for number, change in enumerate(({"shape": ["R"]}, {"dtype": "float32"}, {"range": [0]})):
        build = tmp_path / str(number)
        shutil.copytree(documented.build, build)
        document = json.loads((documented.build / "manifest.json").read_text())
        document["surfaces"]["home"]["inputs"][0] |= change
        assert document["surfaces"]["home"]["inputs"][0]["name"] == "recent"
        (build / "manifest.json").write_text(json.dumps(document))
        with pytest.raises(SpecError, match="T701") as raised:
            load(build).surfaces["home"]
        (tmp_path / "inputs.json").write_text("{}")
        answer = said(answers.ask("inputs", build, "home", tmp_path / "inputs.json"))
        assert answer.split("\n")[0] == str(raised.value).split("\n")[0]
