"""How long a compile takes: the front end alone, the whole by the number of surfaces, and each stage."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.generated import spec_text
from benchmarks.process import ROOT, apart
from benchmarks.results import Result, Row, Table

SPECS = ROOT / "specs"
COUNTS = (1, 2, 4, 8, 16, 32)


def run(quick: bool = False) -> Result:
    """The front end of every spec in processes of their own, then whole compiles in one process."""
    specs = sorted(SPECS.glob("*.tower"))[: 1 if quick else None]
    apart_front(specs[0])
    front = [front_row(spec, 1 if quick else 9) for spec in specs]
    whole = apart("compile", "whole", *((1, 2) if quick else COUNTS))
    note = (
        "CPU time of one process after the interpreter's start, with bytecode and without torch. "
        "`warm` is a second check in the same process, as in an editor."
    )
    return Result(
        "compile",
        [Table("Front end: text to op graph, ms", front, note), linear(whole), stages(whole)],
        {"whole": whole},
    )


def front_row(spec: Path, times: int) -> Row:
    runs = [apart_front(spec) for _ in range(times)]
    medians = {key: statistics.median(r[key] for r in runs) for key in runs[0]}
    return {"spec": spec.name, "lines": len(spec.read_text().splitlines()), **medians}


def apart_front(spec: Path) -> dict[str, float]:
    """One check in a fresh interpreter: importing, the check, and a second check."""
    # As a package is installed, with bytecode; the first process of all writes it, and is none of those that count.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    code = (
        "import time, sys, json; t = [time.process_time()]\n"
        "from towerspec.check import check; t.append(time.process_time())\n"
        "check(sys.argv[1]).sound(); t.append(time.process_time())\n"
        "check(sys.argv[1]).sound(); t.append(time.process_time())\n"
        "assert 'torch' not in sys.modules\n"
        "ms = [1000 * (b - a) for a, b in zip(t, t[1:])]\n"
        "print(json.dumps({'import': ms[0], 'check': ms[1], 'both': ms[0] + ms[1], 'warm': ms[2]}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(spec)], cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def linear(whole: dict[str, Any]) -> Table:
    """Seconds by number of surfaces, and what each further one adds."""
    rows: list[Row] = []
    for count, found in whole.items():
        row: Row = {"surfaces": int(count), "CPU seconds": found["seconds"]}
        row |= {"unchanged, again": found["again"], "with a further surface": found["one more"]}
        if rows:
            added = int(count) - rows[-1]["surfaces"]
            row["ms for each further surface"] = 1000 * (found["seconds"] - rows[-1]["CPU seconds"]) / added
        else:
            row["ms for each further surface"] = "-"
        rows.append(row)
    return Table(
        "Whole compile",
        rows,
        "Linear if the last column stays level; again into the same build. CPU time of the process.",
    )


def stages(whole: dict[str, Any]) -> Table:
    """Where the largest compile's time goes."""
    count, found = list(whole.items())[-1]
    parts = sorted(found["stages"].items(), key=lambda item: -item[1])
    rest = found["seconds"] - sum(found["stages"].values())
    rows = [{"stage": name, "CPU ms": 1000 * t, "share": t / found["seconds"]} for name, t in [*parts, ("rest", rest)]]
    return Table(f"Stages of the compile with {count} surfaces", rows)


# ---- in one process ------------------------------------------------------------------------------


def whole(counts: list[int]) -> dict[int, Any]:
    """CPU seconds of compiling specs of so many surfaces, of each stage, and of compiling them again with one more."""
    from towerspec.check import check_text
    from towerspec.emit.build import compile_spec
    from towerspec.watch import Watch

    def compiled(count: int, out: Path) -> dict[str, Any]:
        watch, start = Watch(time.process_time), time.process_time()
        with watch.stage("front end"):
            checked = check_text(spec_text(count))
        compile_spec(checked, out, watch=watch)
        return {"seconds": time.process_time() - start, "stages": watch.seconds}

    found = {}
    with tempfile.TemporaryDirectory() as name:
        compiled(1, Path(name) / "warm")
        for count in counts:
            build = Path(name) / str(count)
            found[count] = compiled(count, build)
            found[count]["again"] = compiled(count, build)["seconds"]
            found[count]["one more"] = compiled(count + 1, build)["seconds"]
    return found


if __name__ == "__main__":
    print(json.dumps(whole([int(count) for count in sys.argv[2:]])))
