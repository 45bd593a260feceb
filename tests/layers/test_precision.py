"""Every layer in fewer bits: the file computes what the reference says that its graph does, rounding included."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from towerspec.passes import precision

from .cases import CASES, IDS, Case
from .harness import lower, serve

FEWER = ["amx", "avx512_vnni"]


@pytest.fixture(autouse=True, scope="module")
def small() -> Iterator[None]:
    """No linear is too small to gain."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "WORTH", {"bf16": 1, "int8": 1})
        yield


@pytest.mark.parametrize("rows", [0, 1, 6])
@pytest.mark.parametrize("cpu", FEWER)
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_generated_code_gives_what_its_rounded_graph_does(case: Case, cpu: str, rows: int) -> None:
    served, expected = serve(case.layer, *case.arrays(rows), level=3, cpu=cpu)
    # A number that lies between two others in one type may be rounded to either: a step of bfloat16, now and then.
    np.testing.assert_allclose(served, expected, rtol=0.02, atol=0.02 * np.abs(expected).max(initial=1.0))


@pytest.mark.parametrize("cpu", FEWER)
def test_most_layers_have_something_in_fewer_bits(cpu: str) -> None:
    changed = [
        case.kind
        for case in CASES
        if (graph := lower(case.layer, case.arrays(1)).graph) != precision.narrow(graph.constants_first(), cpu)
    ]
    assert len(set(changed)) >= 12
