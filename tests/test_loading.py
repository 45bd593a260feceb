"""Loading a build: it is one build, whole, for as long as it lives, and what is no build is an error of ours."""

from __future__ import annotations

import copy
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import towerspec
from tests.fuzz.documents import spoil
from towerspec.check import check
from towerspec.diagnostics import SpecError
from towerspec.emit.build import Options, compile_spec
from towerspec.emit.folder import write
from towerspec.train.module import build_module

SPEC = """model small
request { country : category { values: [de, fr], dim: 4 }   recent : sequence { rows: 20, dim: 4, length: 3 } }
candidate { price : number   pin : category { rows: 10, dim: 4 } }
trunk { x = mlp(concat(country, candidate, pooling(recent)), hidden: [8]) }
surface home { tower { head click : binary  head save : binary } }
surface search { tower { layers: [4]  head click : binary } }
"""
UNREAD = ("weights", "spec", "versions", "options", "verified", "flops", "unified")  # no loader asks for them
INPUTS: dict[str, Any] = {
    "country": torch.tensor([1]),
    "recent": torch.tensor([[1, 2, -1]]),
    "price": torch.tensor([0.5, 2.0]),
    "pin": torch.tensor([3, 4]),
}


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two builds of one spec with other weights."""
    folder = tmp_path_factory.mktemp("builds")
    (folder / "small.tower").write_text(SPEC)
    for seed in (0, 1):
        compile_spec(check(folder / "small.tower"), folder / str(seed), Options(seed=seed))
    return folder / "0", folder / "1"


@pytest.fixture
def build(builds: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy of the first, to be spoilt."""
    return Path(shutil.copytree(builds[0], tmp_path / "build"))


def contents(build: Path) -> dict[str, bytes]:
    return {str(p.relative_to(build)): p.read_bytes() for p in build.rglob("*") if p.is_file()}


def scores(bundle: towerspec.Bundle) -> list[float]:
    """What its surfaces predict, in one list."""
    return [float(x) for surface in bundle.surfaces.values() for head in surface(INPUTS).values() for x in head]


def refused(build: Path, surface: str = "home") -> str:
    """What a user reads of a build that isn't loaded."""
    with pytest.raises(SpecError) as error:
        towerspec.load(build).surfaces[surface]
    (diagnostic,) = error.value.diagnostics
    assert diagnostic.code == "T701"
    return diagnostic.message


# ---- one build, whole --------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["replaced", "deleted"])
def test_a_bundle_keeps_its_build(builds: tuple[Path, Path], build: Path, end: str) -> None:
    first, second = builds
    bundle = towerspec.load(build)
    if end == "replaced":
        write(build, contents(second))
    else:
        shutil.rmtree(build)
    assert scores(bundle) == scores(towerspec.load(first)) != scores(towerspec.load(second))
    assert bundle.unified().home is not None


def test_a_build_is_replaced_in_a_loop(builds: tuple[Path, Path], build: Path) -> None:
    known = [scores(towerspec.load(b)) for b in builds]
    files, found = [contents(b) for b in builds], set()
    with Replacing(build, files):
        for _ in range(150):
            bundle = towerspec.load(build)
            found.add(known.index(scores(bundle)))
            assert bundle.manifest["options"]["seed"] == known.index(scores(bundle))
    assert found == {0, 1}


class Replacing:
    """Puts one build after another in the same place, in a thread, as compiles do."""

    def __init__(self, build: Path, files: list[dict[str, bytes]]) -> None:
        self.build, self.files, self.over, self.swaps = build, files, threading.Event(), 0
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        while not self.over.is_set():
            write(self.build, self.files[(self.swaps + 1) % 2])
            self.swaps += 1

    def __enter__(self) -> Replacing:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()
        assert self.swaps > 10


def test_a_file_cut_short_is_an_error_and_not_the_end(build: Path) -> None:
    """A read of what lies behind a mapped file's end stops a process."""
    bundle = towerspec.load(build)
    for name in ("home", "search"):
        os.truncate(build / "surfaces" / f"{name}.pt", 100 if name == "home" else 0)
        with pytest.raises(SpecError, match=r"can't be read|not the file"):
            bundle.surfaces[name]


def test_more_files_than_a_process_may_open(build: Path) -> None:
    document = json.loads((build / "manifest.json").read_text())
    entry = document["surfaces"]["home"]
    for i in range(1100):
        name = f"surfaces/home{i}.pt"
        shutil.copy(build / entry["file"], build / name)
        document["surfaces"][f"home{i}"] = {**entry, "file": name}
    (build / "manifest.json").write_text(json.dumps(document))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        before = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
        bundle = towerspec.load(build)
        if sys.platform == "linux":
            assert len(os.listdir("/proc/self/fd")) == before
        for i in (0, 1099):
            assert bundle.surfaces[f"home{i}"](INPUTS)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# ---- the files that the manifest names ---------------------------------------------------------


def test_every_flipped_byte_is_found(build: Path) -> None:
    path, random = build / "surfaces" / "home.pt", Random(0)
    content = path.read_bytes()
    for at in [0, len(content) - 1, *(random.randrange(len(content)) for _ in range(30))]:
        spoilt = bytearray(content)
        spoilt[at] ^= 1 << random.randrange(8)
        path.write_bytes(spoilt)
        assert "`surfaces/home.pt` is not the file that the manifest names" in refused(build)


def test_files_of_another_surface_or_build(builds: tuple[Path, Path], build: Path) -> None:
    for other in (builds[1] / "surfaces" / "home.pt", build / "surfaces" / "search.pt"):
        shutil.copy(other, build / "surfaces" / "home.pt")
        assert "not the file that the manifest names" in refused(build)


def change(build: Path, **changes: Any) -> None:
    """Changes what the manifest says of `home`."""
    document = json.loads((build / "manifest.json").read_text())
    document["surfaces"]["home"] |= changes
    (build / "manifest.json").write_text(json.dumps(document))


@pytest.mark.parametrize(
    "name",
    ["../1/surfaces/home.pt", "{absolute}", "surfaces/../../1/surfaces/home.pt", "surfaces/../surfaces/home.pt", "",
     ".", "/", "surfaces//home.pt", "surfaces/./home.pt", "surfaces/home.pt/"],
)  # fmt: skip
def test_a_name_leads_nowhere_else(builds: tuple[Path, Path], build: Path, name: str) -> None:
    other = builds[1] / "surfaces" / "home.pt"
    shutil.copytree(builds[1], build.parent / "1")
    change(build, file=name.format(absolute=other), sha256=sha256(other.read_bytes()).hexdigest())
    assert "is no path within the build" in refused(build)


@pytest.mark.parametrize("name", ["surfaces", "surfaces/pipe", "no\0where", "\ud800", "x" * 300, "model.py/x"])
def test_what_is_no_file_is_refused(build: Path, name: str) -> None:
    os.mkfifo(build / "surfaces" / "pipe")
    change(build, file=name)
    assert "is no regular file" in refused(build) or "can't be read" in refused(build)


@pytest.mark.parametrize("linked", ["surfaces/home.pt", "surfaces", "manifest.json"])
def test_links_in_a_build_are_not_followed(build: Path, linked: str) -> None:
    (build / linked).rename(build.parent / "elsewhere")
    (build / linked).symlink_to(build.parent / "elsewhere")
    assert "is or lies behind a link" in refused(build)


def test_a_build_may_be_a_link_itself(build: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(build)
    assert scores(towerspec.load(tmp_path / "current")) == scores(towerspec.load(build))


def test_a_file_that_is_no_torchscript(build: Path) -> None:
    (build / "surfaces" / "home.pt").write_bytes(b"PK broken")
    change(build, sha256=sha256(b"PK broken").hexdigest())
    assert "`surfaces/home.pt` can't be loaded: PytorchStreamReader failed" in refused(build)


def with_vocabulary(folder: Path) -> Path:
    """A build with a table's ids beside it."""
    (folder / "ids.tower").write_text(
        "model m\ntable users { rows: 4, dim: 4, ids: fitted }\ncandidate { user : category { table: users } }\n"
        "trunk { x = mlp(user, hidden: [4]) }\nsurface home { tower { head click : binary } }"
    )
    checked = check(folder / "ids.tower")
    save_file({k: v.clone() for k, v in build_module(checked).state_dict().items()}, folder / "w.safetensors")
    (folder / "vocabularies.json").write_text('{"tables.users": ["anna", "bela", 7]}')
    compile_spec(checked, folder / "build", Options(weights=folder / "w.safetensors"))
    return folder / "build"


def test_a_vocabulary_is_the_builds_own(tmp_path: Path) -> None:
    build = with_vocabulary(tmp_path)
    path, bundle = build / "vocabularies.json", towerspec.load(build)
    path.write_bytes(path.read_bytes().replace(b"anna", b"bela"))
    assert "`vocabularies.json` is not the file that the manifest names" in refused(build)
    path.unlink()
    assert "`vocabularies.json` can't be read" in refused(build)
    with pytest.raises(SpecError, match="is not the file"):  # written over in place, which no compile does
        bundle.surfaces["home"]
    document = json.loads((build / "manifest.json").read_text())
    for content in (b"{", b"{}", b"[]", b'{"tables.users": 3}', b"[" * 100_000):
        path.write_bytes(content)
        document["files"]["vocabularies.json"] = sha256(content).hexdigest()
        (build / "manifest.json").write_text(json.dumps(document))
        refused(build)


def test_what_is_no_manifest(build: Path) -> None:
    for content in (b"", b"{", b"\xff\xfe{", b"[" * 100_000, b"[]", b"3", b'{"format": true}', b'{"format": "1"}'):
        (build / "manifest.json").write_bytes(content)
        assert "is not valid" in refused(build) or "has a format that" in refused(build)


def outcome(build: Path) -> str:
    """`served`, or the code of what is wrong."""
    try:
        bundle = towerspec.load(build)
        for surface in bundle.surfaces.values():
            surface(INPUTS)
    except SpecError as error:
        return ", ".join(d.code for d in error.diagnostics)
    return "served"


def test_a_spoilt_manifest_is_an_error_of_ours(build: Path) -> None:
    """Whatever stands in a manifest, loading and calling end with predictions or with a diagnostic."""
    path, random = build / "manifest.json", Random(5)
    document, found = json.loads(path.read_text()), Counter[str]()
    for _ in range(600):
        path.write_text(json.dumps(spoil(random, copy.deepcopy(document), UNREAD)))
        found[outcome(build)] += 1
    assert set(found) <= {"served", "T701", "T702", "T703", "T704", "T705", "T706", "T708"}
    assert found["T701"] > 200
    assert found["served"] > 30


# ---- predictions -------------------------------------------------------------------------------

OUTPUTS = """model outputs
const one = 1
request { user : category { rows: 20, dim: 4 }   kind : category { values: [a, b], dim: 2 } }
candidate { price : number   pin : category { rows: 10, dim: 4 } }
trunk { x = concat(user, kind, candidate) }
surface joined { tower { head a : binary  head b : binary  head c : regression } }
surface classes { tower { layers: [4]  head kind_of : multiclass { values: [x, y, z] }  head b : binary } }
surface products { tower { head click : binary  head buy : binary  head both : product(click, buy) } }
surface branched {
    tower { branch by kind { a { head click : binary } b { head click : binary  head hide : binary } } }
}
surface calibrated {
    tower { head a : binary  head b : binary }
    calibrate a with platt   calibrate b with isotonic { bins: 4 }
}
"""


@pytest.fixture(scope="module", params=[(0, False), (2, False), (2, True)], ids=["O0", "O2", "logits"])
def heads(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    level, logits = request.param
    folder = tmp_path_factory.mktemp("outputs")
    (folder / "outputs.tower").write_text(OUTPUTS)
    compile_spec(check(folder / "outputs.tower"), folder / "build", Options(level=level, logits=logits))
    return folder / "build"


def graphs(build: Path) -> Iterator[tuple[str, Callable[..., tuple[torch.Tensor, ...]], list[torch.Tensor]]]:
    """Every way to call a surface without our loader, with inputs of one request or several, and of none."""
    bundle = towerspec.load(build)
    unified = torch.jit.load(build / "unified.pt")
    for name, surface in bundle.surfaces.items():
        alone = torch.jit.load(build / surface.entry["file"])
        for candidates, requests in ((1, 1), (5, 1), (2, 3), (1, 3), (0, 1)):
            inputs = list(surface.sample_inputs(candidates, requests).values())
            for way, graph in (("file", alone), ("unified", getattr(unified, name)), ("loader", surface.module)):
                yield f"{name}, {way}, {requests} x {candidates}", graph, inputs


def test_predictions_are_dense_and_in_memory_of_their_own(heads: Path) -> None:
    for what, graph, inputs in graphs(heads):
        outputs = graph(*inputs)
        for x in outputs:
            assert x.is_contiguous(), what
            assert x.stride() == torch.empty(x.shape).stride(), what
        places = [x.untyped_storage().data_ptr() for x in (*inputs, *outputs) if x.numel()]
        assert len(set(places)) == len(places), what
        before = [x.clone() for x in outputs]
        for x in outputs:
            x.fill_(7.0)  # into no weight and no other prediction
        for x, y in zip(before, graph(*inputs), strict=True):
            assert torch.equal(x.nan_to_num(9.0), y.nan_to_num(9.0)), what


def test_the_runtime_needs_no_compiler(build: Path) -> None:
    code = (
        f"import sys, towerspec\ntowerspec.load({str(build)!r}).surfaces['home']\n"
        "print(sorted(m for m in sys.modules if m.startswith(('towerspec.emit', 'towerspec.ir', 'pydantic', 'lark'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
