"""What glibc's malloc costs a call: the CPU that goes into giving memory back to the system and fetching it again.

As a process comes, and with the settings of `towerspec::keep_memory`, made by it or by GLIBC_TUNABLES; in C++ and in
Python. CPU time and not the clock's: a call's page faults are its own, whatever else the machine does.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

import towerspec
from benchmarks.process import ROOT, apart, cpp_program
from benchmarks.results import Result, Row, Table
from towerspec.check import check
from towerspec.emit.build import Options, compile_spec

CANDIDATES = 256
SURFACES = {"quickstart": ("home", 500), "ads_engagement": ("search", 30)}  # and how many calls a process makes
PAIRS = 5
TUNABLES = "glibc.malloc.trim_threshold=1073741824:glibc.malloc.mmap_threshold=33554432"
WAYS = {  # whether in C++, what the program does about it, what its environment says
    "towerspec::Bundle": (True, "system", ""),
    "towerspec::Bundle, keep_memory()": (True, "kept", ""),
    "towerspec::Bundle, GLIBC_TUNABLES": (True, "system", TUNABLES),
    "towerspec.load": (False, "", ""),
    "towerspec.load, GLIBC_TUNABLES": (False, "", TUNABLES),
}
Used = tuple[float, float, float]  # microseconds in user mode, in system mode, and page faults, of a call


def run(quick: bool = False) -> Result:
    """Compiles, then calls in each way in turn, each time in a fresh process."""
    program = None if quick else cpp_program("allocator")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        for spec, (surface, calls) in list(SURFACES.items())[: 1 if quick else None]:
            folder = Path(name) / spec
            compile_spec(check(ROOT / "specs" / f"{spec}.tower"), folder, Options(surfaces=(surface,)))
            ways = {way: kind for way, kind in WAYS.items() if program or not kind[0]}
            found: dict[str, list[Used]] = {way: [] for way in ways}
            for _ in range(1 if quick else PAIRS):
                for way, (cpp, *kind) in ways.items():
                    found[way].append(used(program if cpp else None, folder, surface, 5 if quick else calls, *kind))
            rows += [row(spec, way, uses) for way, uses in found.items()]
    note = f"One thread, {CANDIDATES} candidates; medians of fresh processes, which take turns. Microseconds a call."
    return Result("allocator", [Table("CPU of a call", rows, note)])


def used(program: Path | None, build: Path, surface: str, calls: int, memory: str, tunables: str) -> Used:
    """What a call takes in one process."""
    environment = {**os.environ, "GLIBC_TUNABLES": tunables}
    if program is None:
        user, system, faults = apart("allocator", build, surface, calls, environment=environment)
        return user, system, faults
    inputs = build.with_suffix(".safetensors")
    save_file(towerspec.load(build).surfaces[surface].sample_inputs(CANDIDATES), inputs)
    command = list(map(str, [program, build, surface, inputs, calls, memory]))
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    user, system, faults = map(float, done.stdout.split())
    return user, system, faults


def row(spec: str, way: str, uses: list[Used]) -> Row:
    user, system, faults = (statistics.median(x) for x in zip(*uses, strict=True))
    return {"spec": spec, "way": way, "user": user, "system": system, "both": user + system, "page faults": faults}


def measure(build: Path, surface: str, calls: int) -> Used:
    """What a call takes in this process."""
    torch.set_num_threads(1)
    served = towerspec.load(build).surfaces[surface]
    inputs = served.sample_inputs(CANDIDATES)
    for _ in range(calls // 10):
        served(inputs)
    before = resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(calls):
        served(inputs)
    after = resource.getrusage(resource.RUSAGE_SELF)
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    return 1e6 * user / calls, 1e6 * system / calls, (after.ru_minflt - before.ru_minflt) / calls


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))))
