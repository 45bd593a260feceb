"""Compiles killed at random, half of them while files are written: the build stays whole, and nothing is left over."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import torch

import towerspec
from tests.fuzz.trial import Failure
from tests.fuzz.workers import Result
from towerspec.check import check_text
from towerspec.emit.build import Options, compile_spec

SPEC = """model killed
request { k : category { rows: 3, dim: 4 } }
candidate { p : number }
trunk { z = mlp(concat(request, candidate), hidden: [4]) }
surface home { tower { head click : binary } }
surface search { tower { layers: [3] head click : binary } }
"""
FILE_EVENTS = ("open", "os.", "shutil.", "tempfile.")


def killed(seed: int) -> Result:
    """Kills a compile that replaces a build, at a moment that the seed decides."""
    with tempfile.TemporaryDirectory(prefix="towerspec-kill-") as name:
        folder = Path(name)
        try:
            note = _try(Random(seed), folder)
        except Failure as failure:
            return Result(seed, failure.kind, f"{failure.detail}\n{_listing(folder)}")
    return Result(seed, "ok", note=note)


def _try(random: Random, folder: Path) -> str:
    out, old, new = folder / "build", random.randrange(100), random.randrange(100, 200)
    begin = time.monotonic()
    for _ in range(2):  # twice, since a first build has none to replace
        _whole(_compile(out, old), "the first compiles")
    took, clean, before = (time.monotonic() - begin) / 2, len(_listing(folder)), _content(out)
    if random.random() < 0.5:
        events = _count_events(folder, new)
        at = random.randrange(events)
        status, note = _compile(out, new, lambda: _kill_at(folder, at)), "killed between two file operations"
    else:
        pid = _fork(out, new, lambda: None)
        time.sleep(took * random.random())
        os.kill(pid, signal.SIGKILL)
        status, note = os.waitpid(pid, 0)[1], "killed at a random time"
    after = _content(out)
    if after != before and _seed_of(out) != new:
        raise Failure("killed: neither build", "the build is neither the one before nor the new one")
    _usable(out)
    _whole(_compile(out, new), "the compile after it")
    _usable(out)
    if _seed_of(out) != new:
        raise Failure("killed: old build", "the compile after the kill left the old build in place")
    if len(_listing(folder)) != clean:
        raise Failure("killed: leftovers", "the next compile left files of the killed one")
    return note if os.WIFSIGNALED(status) else "done before it was killed"


def _compile(out: Path, seed: int, before: Callable[[], None] = lambda: None) -> int:
    return os.waitpid(_fork(out, seed, before), 0)[1]


def _fork(out: Path, seed: int, before: Callable[[], None]) -> int:
    """A process that compiles with initial weights of a seed."""
    pid = os.fork()
    if pid:
        return pid
    try:
        torch.set_num_threads(1)  # the parent's other threads aren't here
        before()
        compile_spec(check_text(SPEC), out, Options(seed=seed))
    except BaseException as error:
        print(f"the compile failed: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def _whole(status: int, what: str) -> None:
    if status:
        raise Failure("killed: compile fails", f"{what} ended with status {status}")


def _on_file_event(folder: Path, then: Callable[[], None]) -> None:
    """Calls `then` before each operation on a file below a folder that is not a mere reading."""
    prefix = str(folder.resolve())

    def hook(event: str, args: tuple[object, ...]) -> None:
        if event.startswith(FILE_EVENTS) and args and prefix in os.fsdecode(args[0] if _is_path(args[0]) else ""):
            then()

    sys.addaudithook(hook)


def _is_path(value: object) -> bool:
    return isinstance(value, (str, bytes, os.PathLike))


def _kill_at(folder: Path, at: int) -> None:
    left = iter(range(at, -1, -1))

    def count() -> None:
        if next(left, 1) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    _on_file_event(folder, count)


def _count_events(folder: Path, seed: int) -> int:
    """How many file operations such a compile makes, by one that replaces a build elsewhere."""
    with tempfile.TemporaryDirectory(prefix="towerspec-kill-") as name:
        out = Path(name) / "build"
        _whole(_compile(out, seed - 1), "a compile")
        counted = folder.parent / f"{folder.name}.events"

        def watch() -> None:
            file = os.open(counted, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
            _on_file_event(Path(name), lambda: os.write(file, b"."))  # type: ignore[arg-type,return-value]

        _whole(_compile(out, seed, watch), "a compile")
        events = counted.stat().st_size
        counted.unlink()
    return events


def _usable(out: Path) -> None:
    """The build loads, answers, and holds what its manifest says."""
    bundle = towerspec.load(out)
    for name, surface in bundle.surfaces.items():
        found = surface(surface.sample_inputs(candidates=3))
        if len(found["click"]) != 3:
            raise Failure("killed: build", f"surface {name} gives {found}")
        content = (out / surface.entry["source"]).read_bytes()
        if hashlib.sha256(content).hexdigest() != surface.entry["source_sha256"]:
            raise Failure("killed: build", f"the source of {name} is not the one that the manifest names")


def _seed_of(out: Path) -> int:
    return int(json.loads((out / "manifest.json").read_text())["weights"]["source"].removeprefix("seed:"))


def _content(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def _listing(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))
