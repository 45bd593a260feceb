"""How a check and a compile grow with features and with surfaces: CPU seconds, and the exponent of a power law."""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.generated import spec_text, wide_text
from benchmarks.process import apart
from benchmarks.results import Result, Row, Table

FEATURES, SURFACES = (100, 200, 500, 1000, 2000), (8, 16, 32, 64, 128, 256)
QUICK = (2, 4)
TEXTS = {"features": wide_text, "surfaces": spec_text}


def run(quick: bool = False) -> Result:
    """Each size in a process of its own, after a compile of the smallest."""
    found: dict[str, dict[int, dict[str, float]]] = {}
    for what, counts in (("features", FEATURES), ("surfaces", SURFACES)):
        found[what] = {n: apart("growth", what, n) for n in (QUICK if quick else counts)}
    return Result("growth", [table(what, of) for what, of in found.items()], found)


def table(what: str, found: dict[int, dict[str, float]]) -> Table:
    """CPU seconds by size; the last row has each column's exponent."""
    rows: list[Row] = [{what: f"{count:,}", **seconds} for count, seconds in found.items()]
    stages = list(next(iter(found.values())))
    exponents = {stage: f"**{exponent({n: s[stage] for n, s in found.items()}):.2f}**" for stage in stages}
    return Table(
        f"By the number of {what}",
        [*rows, {what: "exponent", **exponents}],
        "CPU seconds of the process. The exponent `e` of `n^e` is the slope of a line through the logarithms.",
    )


def exponent(seconds: dict[int, float]) -> float:
    """The slope of the least-squares line through the logarithms.

    >>> round(exponent({1: 3.0, 2: 12.0, 4: 48.0}), 6)
    2.0
    """
    x, y = [math.log(n) for n in seconds], [math.log(max(s, 1e-9)) for s in seconds.values()]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    spread = sum((a - mean_x) ** 2 for a in x)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread


# ---- in one process ------------------------------------------------------------------------------


def measured(what: str, count: int) -> dict[str, Any]:
    """CPU seconds of one check and one compile."""
    from towerspec.check import check_text
    from towerspec.emit.build import compile_spec

    with tempfile.TemporaryDirectory() as name:
        compile_spec(check_text(TEXTS[what](2)), Path(name) / "warm")
        start = time.process_time()
        checked = check_text(TEXTS[what](count))
        checked.sound()
        between = time.process_time()
        compile_spec(checked, Path(name) / "build")
        return {"check": between - start, "compile": time.process_time() - between}


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1], int(sys.argv[2]))))
