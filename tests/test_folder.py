"""A build's folder: there is always one whole build in it, and what killed compiles leave is gone with the next one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

import towerspec
from towerspec.diagnostics import SpecError
from towerspec.emit import folder
from towerspec.emit.folder import write

# Its files are some megabytes, so that some kills meet a folder half written.
SPEC = """model small
candidate { pin : category { rows: 60_000, dim: 16 }  price : number }
trunk { x = mlp(candidate, hidden: [8]) }
surface home { tower { head click : binary } }
surface search { tower { head click : binary } }
"""
FILES = {"manifest.json": b"{}", "model.py": b"1", "surfaces/home.pt": b"2" * 100_000}
# Compiles again and again with other weights, each in a process of its own that has imported all beforehand.
COMPILES = """
import os, sys
from towerspec.cli import main
import towerspec.emit.build, torch
torch.set_num_threads(1)
spec, out = sys.argv[1:]
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        sys.stdout = sys.stderr = open(os.devnull, "w")
        main(["compile", spec, "-o", out, "--seed", line.strip()])
        os._exit(0)
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


def left(out: Path) -> list[Path]:
    return [p for p in out.parent.iterdir() if p.name.startswith(f".{out.name}.")]


def assert_whole(out: Path) -> None:
    """Every surface loads, whose digests are compared, and serves."""
    bundle = towerspec.load(out)
    for surface in bundle.surfaces.values():
        assert surface(surface.sample_inputs(3))
    assert bundle.unified() is not None


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    (tmp_path / "small.tower").write_text(SPEC)
    return tmp_path / "small.tower"


def compile_once(spec: Path, out: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "towerspec", "compile", str(spec), "-o", str(out), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_killed_compiles(spec: Path, tmp_path: Path) -> None:
    out, random, met = tmp_path / "build", Random(1), 0
    command = [sys.executable, "-c", COMPILES, str(spec), str(out)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as compiles:
        assert compiles.stdin is not None
        assert compiles.stdout is not None

        def start(seed: int) -> int:
            compiles.stdin.write(f"{seed}\n")
            compiles.stdin.flush()
            return int(compiles.stdout.readline())

        start(0)
        began = time.monotonic()
        assert int(compiles.stdout.readline()) == 0
        took = time.monotonic() - began
        for seed in range(1, 13):
            before, child = set(left(out)), start(seed)
            if seed % 3:  # as soon as it writes, or swaps, or removes the build before; otherwise at any moment
                until = time.monotonic() + 60
                while set(left(out)) <= before and time.monotonic() < until:
                    time.sleep(0.0005)
                time.sleep(random.uniform(0, 0.05))
            else:
                time.sleep(random.uniform(0, took))
            with contextlib.suppress(ProcessLookupError):  # it may be done by now
                os.kill(child, signal.SIGKILL)
            compiles.stdout.readline()
            met += bool(left(out))
            assert_whole(out)
        assert met > 0
        start(13)
        assert int(compiles.stdout.readline()) == 0
        compiles.stdin.close()
    assert left(out) == []
    assert towerspec.load(out).manifest["options"]["seed"] == 13


def test_two_compiles_at_once(spec: Path, tmp_path: Path) -> None:
    """Also where no build stands there yet: the later one replaces the earlier."""
    for out in (tmp_path / "build", tmp_path / "build", tmp_path / "other"):
        both = [compile_once(spec, out, "--seed", str(seed)) for seed in (1, 2)]
        assert [x.communicate()[0].splitlines()[-1][:5] for x in both] == ["wrote", "wrote"]
        assert_whole(out)
        assert left(out) == []


def test_what_a_living_compile_writes_stays(tmp_path: Path) -> None:
    out = tmp_path / "build"
    with folder._workplace(out) as fresh:
        write(out, FILES)
        assert left(out) == [fresh]
    assert left(out) == []


def test_only_our_leftovers_are_removed(tmp_path: Path) -> None:
    others = [".build.20240101", ".build.towerspec-x", ".other.towerspec-abcdefgh", ".build.towerspec-abcdefgh.new"]
    ours = [".build.towerspec-abcdefgh", ".build.towerspec-a_3defgh.old"]
    write(tmp_path / "build", FILES)
    for name in (*others, *ours):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("kept")
    (tmp_path / ".build.towerspec-linked__").symlink_to(tmp_path / others[0])
    (tmp_path / ".build.towerspec-isafile_").write_text("kept")
    write(tmp_path / "build", FILES)
    kept = {p.name for p in tmp_path.iterdir()} - {"build"}
    assert kept == {*others, ".build.towerspec-linked__", ".build.towerspec-isafile_"}
    assert (tmp_path / others[0] / "file").read_text() == "kept"


@pytest.fixture(params=["exchange", "rename"])
def swaps(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """With the system's exchange of two folders, and without."""
    if request.param == "rename":
        monkeypatch.setattr(folder, "_exchange", lambda a, b: False)
    return request.param


def test_a_build_replaces_another(tmp_path: Path, swaps: str) -> None:
    out = tmp_path / "build"
    for content in (b"old", b"new"):
        write(out, {**FILES, "model.py": content})
        assert (out / "model.py").read_bytes() == content
        assert left(out) == []


def test_a_build_moved_aside_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system can't exchange two folders, a compile may be killed between two renames."""
    out = tmp_path / "build"
    write(out, FILES)
    out.rename(tmp_path / ".build.towerspec-abcdefgh.old")
    folder._clear(out)
    assert (out / "model.py").read_bytes() == FILES["model.py"]
    assert left(out) == []


def test_a_full_disk(tmp_path: Path) -> None:
    """The system refuses to write on: the earlier build stays, and nothing beside it."""
    out = tmp_path / "build"
    write(out, FILES)
    code = (
        "import sys, resource, pathlib\nfrom towerspec.emit.folder import write\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "write(pathlib.Path(sys.argv[1]), {'manifest.json': b'new', 'surfaces/home.pt': b'3' * 100_000})"
    )
    done = subprocess.run([sys.executable, "-c", code, str(out)], capture_output=True, text=True)
    assert "SpecError: error[T608]: the build can't be written to" in done.stderr
    assert {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()} == FILES
    assert left(out) == []


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="it mounts a file system")
def test_a_full_file_system(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", small], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        write(small / "build", FILES)
        with pytest.raises(SpecError, match=r"T608.*No space left on device"):
            write(small / "build", {**FILES, "surfaces/home.pt": b"3" * 150_000})
        assert (small / "build" / "surfaces" / "home.pt").read_bytes() == FILES["surfaces/home.pt"]
        assert left(small / "build") == []
    finally:
        subprocess.run(["umount", small], check=True)


def test_what_came_into_the_target_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, settle = tmp_path / "build", folder._settle
    out.mkdir()

    def meanwhile(path: Path) -> None:
        (out / "notes.txt").write_text("keep me")
        settle(path)

    monkeypatch.setattr(folder, "_settle", meanwhile)
    with pytest.raises(SpecError, match="it holds other files and no build"):
        write(out, FILES)
    assert [p.name for p in out.iterdir()] == ["notes.txt"]
    assert left(out) == []


def test_files_are_on_the_disk_before_the_swap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    fsync, swap = os.fsync, folder._swap

    def watched(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def swapped(fresh: Path, out: Path) -> None:
        assert {p.stat().st_ino for p in (fresh, *fresh.rglob("*"))} <= set(synced)
        swap(fresh, out)

    monkeypatch.setattr(os, "fsync", watched)
    monkeypatch.setattr(folder, "_swap", swapped)
    write(tmp_path / "build", FILES)
    assert tmp_path.stat().st_ino == synced[-1]
