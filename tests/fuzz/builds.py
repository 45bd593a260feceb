"""Builds that something has spoilt: their manifests, their files, and where these lead."""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import towerspec
from tests.fuzz.requests import SPEC
from tests.fuzz.workers import Result
from towerspec.check import check_text
from towerspec.diagnostics import SpecError
from towerspec.emit.build import Options, compile_spec

ODD: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 2**62, 2**64, -(2**63), "", "x", "../x.pt", "/etc/passwd", "int64", "R", "N", [], [0], [[]],
    {}, {"a": 1}, ["R"], ["N", 2**62], ["N", -1], "range", 10**400,
)  # fmt: skip


@functools.cache
def sound() -> Path:
    """A build to spoil copies of, made once a process."""
    folder = Path(tempfile.mkdtemp(prefix="towerspec-builds-"))
    compile_spec(check_text(SPEC), folder / "build", Options(seed=3))
    return folder / "build"


def spoil(random: Random, build: Path) -> str:
    """Spoils a build in one way or a few, and says how."""
    return ", ".join(_spoil(random, build) for _ in range(random.choice([1, 1, 2])))


def _spoil(random: Random, build: Path) -> str:
    name, change = random.choice(WAYS)
    change(random, build)
    return name


def _change_manifest(random: Random, build: Path) -> None:
    """Something in it is gone, or something else, or there twice."""
    path = build / "manifest.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    holders = [x for x in _parts(document) if x]
    if holders:
        holder = random.choice(holders)
        key = random.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        kind = random.randrange(4)
        if kind == 0:
            del holder[key]
        elif kind == 1:
            holder[key] = random.choice(ODD)
        elif kind == 2 and isinstance(holder, dict):
            holder[random.choice(["x", "inputs", "values", "vocabulary", "ids", "range"])] = random.choice(ODD)
        else:
            other = random.choice(holders)
            holder[key] = other if other is not holder and not _within(other, holder) else None
    path.write_text(json.dumps(document), encoding="utf-8")


def _parts(document: Any) -> list[Any]:
    """All objects and lists of a document."""
    if not isinstance(document, (dict, list)):
        return []
    children = document.values() if isinstance(document, dict) else document
    return [document, *(part for child in children for part in _parts(child))]


def _within(outer: Any, inner: Any) -> bool:
    return any(part is inner for part in _parts(outer))


def _file(random: Random, build: Path) -> Path:
    return random.choice(sorted(p for p in build.rglob("*") if p.is_file() and not p.is_symlink()))


def _flip_bytes(random: Random, build: Path) -> None:
    path = _file(random, build)
    content = bytearray(path.read_bytes())
    for _ in range(random.choice([1, 1, 20]) if content else 0):
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    path.write_bytes(content)


def _cut(random: Random, build: Path) -> None:
    path = _file(random, build)
    content = path.read_bytes()
    path.write_bytes(content[: random.randrange(len(content) + 1)])


def _swap(random: Random, build: Path) -> None:
    """One file under another's name."""
    one, other = _file(random, build), _file(random, build)
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def _remove(random: Random, build: Path) -> None:
    if len([p for p in build.rglob("*") if p.is_file()]) > 1:
        _file(random, build).unlink()


def _link(random: Random, build: Path) -> None:
    """A file that is a link to somewhere else."""
    path = _file(random, build)
    path.unlink()
    path.symlink_to(random.choice([Path("/dev/null"), build, build / "nowhere", sound() / path.relative_to(build)]))


WAYS: tuple[tuple[str, Callable[[Random, Path], None]], ...] = (
    ("manifest", _change_manifest), ("manifest", _change_manifest), ("manifest", _change_manifest),
    ("bytes flipped", _flip_bytes), ("cut off", _cut), ("files swapped", _swap), ("a file gone", _remove),
    ("a link", _link),
)  # fmt: skip


def copy(folder: Path) -> Path:
    """A copy of the sound build, in a folder."""
    return Path(shutil.copytree(sound(), folder / "build"))


def loaded(seed: int) -> Result:
    """Loads a spoilt build in Python and asks its surfaces: an error of the language's, or an answer."""
    random = Random(seed)
    with tempfile.TemporaryDirectory(prefix="towerspec-spoilt-") as folder:
        build = copy(Path(folder))
        how = spoil(random, build)
        try:
            bundle = towerspec.load(build)
            for surface in list(bundle.surfaces.values()):
                surface(surface.sample_inputs(candidates=3))
        except SpecError as error:
            return Result(seed, "ok", note=f"refused {error.diagnostics[0].code}: {how}")
        except Exception as error:
            shown = (build / "manifest.json").read_text(errors="replace") if "manifest" in how else ""
            return Result(seed, f"build: {type(error).__name__}", f"{how}\n{error!r}\n{shown}")
    return Result(seed, "ok", note=f"answered: {how}")
