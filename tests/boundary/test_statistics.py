"""What a surface says of the ids that it was called with: the same in Python and C++."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from towerspec.runtime import load, read_inputs

from .conftest import Answers, Documented
from .test_values import NEUTRAL

CALL = {
    **NEUTRAL,
    "recent": [[1, 12], []],
    "pin": [3, 12],
    "color": ["red", None],
    "size": [1, 2],
    "rooms": [[3], [7]],
    "item": ["a", None],
    "user": ["anna", "bert"],
}
COUNTED = {  # known, unknown, missing
    "recent": (1, 1, 1),
    "tags": (2, 0, 0),
    "rooms": (1, 1, 0),
    "pin": (1, 1, 0),
    "color": (1, 0, 1),
    "size": (0, 2, 0),
    "month": (2, 0, 0),
    "item": (1, 0, 1),
    "user": (1, 1, 0),
}


@pytest.mark.parametrize(("calls", "counted"), [(1, 1), (100, 100), (116, 101), (200, 106)])
def test_ids_are_counted(documented: Documented, answers: Answers, calls: int, counted: int, tmp_path: Path) -> None:
    """All of the first 100 calls, and then one in 16: the 113th, the 129th, and so on."""
    file = tmp_path / "inputs.json"
    file.write_text(json.dumps(CALL))
    surface = load(documented.build).surfaces["home"]
    inputs = read_inputs(file)
    for _ in range(calls):
        surface(inputs)
    found = {name: (seen.known, seen.unknown, seen.missing) for name, seen in surface.statistics().items()}
    assert found == {name: tuple(counted * x for x in of) for name, of in COUNTED.items()}
    theirs = answers.ask("statistics", documented.build, "home", file, calls)
    assert {name: tuple(of) for name, of in theirs.items()} == found
    assert [name for name, seen in surface.statistics().items() if seen.mostly_unknown] == ["size"]


def test_threads_count_together(documented: Documented) -> None:
    surface = load(documented.build).surfaces["home"]
    threads = [threading.Thread(target=lambda: [surface(CALL) for _ in range(12)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert surface.statistics()["user"].unknown == 96


def test_nothing_is_counted_before_a_call(documented: Documented) -> None:
    seen = load(documented.build).surfaces["home"].statistics()
    assert list(seen) == list(COUNTED)
    assert not any(of.known or of.unknown or of.missing or of.mostly_unknown for of in seen.values())
