"""AOTInductor packages and exported programs: the same numbers as TorchScript, for any number of rows, in any loader.

One small surface is compiled for all tests here; `pytest -m slow tests/test_aoti.py` compiles every spec's surfaces.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import towerspec
from towerspec.check import check
from towerspec.commands_bench import in_turns
from towerspec.diagnostics import SpecError
from towerspec.emit import aoti
from towerspec.emit.build import Options, compile_spec
from towerspec.emit.verify import ROUNDING, difference

ROOT = Path(__file__).parent.parent
SPECS = sorted((ROOT / "specs").glob("*.tower"))
# Names that mean something in C++ or in torch.fx's code; an arm with a fusion, an arm of its own head, nested arms.
SPEC = """model small
request { device : category { values: [phone, desk], dim: 4 }   struct : category { values: [a, b, c], dim: 4 }
          recent : sequence { rows: 50, dim: 8, length: 4 } }
candidate { volatile : number { normalize: standard, transform: log1p }   pin : category { rows: 30, dim: 8 } }
trunk { seen = transformer(recent, heads: 2)   near = din(pin, recent, hidden: [4])
        x = mmoe(concat(device, struct, volatile, seen, near), experts: 2, hidden: [8]) }
surface home {
    tower {
        layers: [8]
        branch by device {
            phone { layers: [4]  fuse recent after 1 with attention  head click : binary  head hide : binary }
            else {
                branch by struct {
                    a { head click : binary }
                    else { layers: [6]  head click : binary  head stay : regression }
                }
            }
        }
        calibrate click with piecewise { bins: 4 } by device
    }
}
"""
CALLS = [(0,), (1,), (2,), (33,), (3, 0, 4), (1, 1, 1), (0, 0), (1, 0), (), (64,) * 8]  # candidates of each request


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small spec with its package; test processes that run at once compile it once."""
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if folder.name.startswith("popen-") else folder) / "aoti"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "build").exists():
            (folder / "small.tower").write_text(SPEC)
            compile_spec(check(folder / "small.tower"), folder / "build", Options(targets=("aoti",)))
    return folder / "build"


def calls(surface: Any) -> list[dict[str, Tensor]]:
    """Inputs of every shape; also one request without counts, and one candidate each without."""
    found = [{**surface.sample_inputs(0, len(counts), seed=3), **_rows(surface, counts)} for counts in CALLS]
    for inputs in [found[3], found[5]]:
        found.append({k: x for k, x in inputs.items() if k != "candidates_per_request"})
    return found


def _rows(surface: Any, counts: tuple[int, ...]) -> dict[str, Tensor]:
    """As many candidates as the counts add up to, given out to the requests as they say."""
    names = [e["name"] for e in surface.inputs if e["level"] == "candidate"]
    rows = surface.sample_inputs(sum(counts), 1, seed=4)
    return {**{name: rows[name] for name in names}, "candidates_per_request": torch.tensor(counts, dtype=torch.int64)}


def assert_close(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    assert list(found) == list(wanted)
    for head, x in wanted.items():
        assert difference(found[head], x) <= ROUNDING, head


def test_a_package_gives_what_torchscript_gives(build: Path) -> None:
    script = towerspec.load(build).surfaces["home"]
    package = towerspec.load(build, target="aoti").surfaces["home"]
    for inputs in calls(script):
        assert_close(package(inputs), script(inputs))


def test_one_request_counts_for_all_candidates(build: Path) -> None:
    package = towerspec.load(build, target="aoti").surfaces["home"]
    inputs = package.sample_inputs(7)
    alone = {name: x for name, x in inputs.items() if name != "candidates_per_request"}
    assert inputs["candidates_per_request"].tolist() == [7]
    assert_close(package(alone), package(inputs))


def test_an_exported_program_gives_what_torchscript_gives(build: Path) -> None:
    surface = towerspec.load(build).surfaces["home"]
    entry = surface.entry["targets"]["aoti"]["program"]
    program = torch.export.load(build / entry["file"])
    module = program.module()
    names = [e["name"] for e in surface.inputs]
    for inputs in calls(surface)[: len(CALLS)]:
        found = module(*(inputs[name] for name in names))
        assert_close(dict(zip(surface.outputs, found, strict=True)), surface(inputs))


def test_cpp_gives_the_packages_bits(cpp_program: Path, build: Path, tmp_path: Path) -> None:
    package = towerspec.load(build, target="aoti").surfaces["home"]
    file = tmp_path / "inputs.safetensors"
    for inputs in calls(package):
        save_file(inputs, file)
        done = subprocess.run([cpp_program, "--aoti", build, "home", file], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        theirs = json.loads(done.stdout)
        for head, ours in package(inputs).items():
            x = torch.tensor([float("nan") if v is None else v for v in theirs[head]]).reshape(ours.shape)
            assert torch.equal(x.nan_to_num(7.0).view(torch.int32), ours.nan_to_num(7.0).view(torch.int32)), head


def test_cpp_says_what_is_wrong_with_a_package(cpp_program: Path, build: Path, tmp_path: Path) -> None:
    inputs = tmp_path / "inputs.json"
    inputs.write_text("{}")

    def said(change: dict[str, Any] | None) -> str:
        document = json.loads((build / "manifest.json").read_text())
        entry = document["surfaces"]["home"]
        entry["targets"] = {"aoti": {**entry["targets"]["aoti"], **change}} if change is not None else {}
        (tmp_path / "manifest.json").write_text(json.dumps(document))
        done = subprocess.run([cpp_program, "--aoti", tmp_path, "home", inputs], capture_output=True, text=True)
        assert done.returncode == 1
        return done.stderr

    (tmp_path / "surfaces").mkdir()
    (tmp_path / "surfaces" / "home.pt2").write_bytes(b"PK broken")
    broken = {"sha256": sha256(b"PK broken").hexdigest()}
    assert "it has no target `aoti`" in said(None)
    assert "`surfaces/nowhere.pt2` can't be read" in said({"file": "surfaces/nowhere.pt2"})
    assert "`surfaces/home.pt2` is not the file that the manifest names" in said({})
    cpu = said({**broken, "cpu": "ALTIVEC"})
    assert "`surfaces/home.pt2` was compiled for ALTIVEC, and this machine's CPU has " in cpu
    assert "`surfaces/home.pt2` can't be loaded: " in said(broken)


def test_several_threads_share_a_package(build: Path) -> None:
    package = towerspec.load(build, target="aoti").surfaces["home"]
    inputs = [package.sample_inputs(1 + seed, 1 + seed % 3, seed) for seed in range(16)]
    alone = [package(x) for x in inputs]
    with ThreadPoolExecutor(8) as pool:
        for found, wanted in zip(pool.map(package, inputs), alone, strict=True):
            assert_close(found, wanted)


def test_a_package_serves_without_the_compiler(build: Path) -> None:
    code = (
        "import sys, towerspec\n"
        f"surface = towerspec.load({str(build)!r}, target='aoti').surfaces['home']\n"
        "print({k: tuple(x.shape) for k, x in surface(surface.sample_inputs(3)).items()})\n"
        "assert not {m for m in sys.modules if m.startswith(('towerspec.emit', 'towerspec.ir', 'torch._inductor'))}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "{'click': (3,), 'hide': (3,), 'stay': (3,)}", done.stderr


def test_a_damaged_package_is_refused(build: Path, tmp_path: Path) -> None:
    (tmp_path / "surfaces").mkdir()
    (tmp_path / "manifest.json").write_bytes((build / "manifest.json").read_bytes())
    (tmp_path / "surfaces" / "home.pt2").write_bytes((build / "surfaces" / "home.pt2").read_bytes()[:-1])
    with pytest.raises(SpecError) as error:
        towerspec.load(tmp_path, target="aoti").surfaces["home"]
    assert "not the file that the manifest names" in error.value.diagnostics[0].message


def spoilt(build: Path, folder: Path, package: bytes, **changes: Any) -> Path:
    """A build whose manifest names this package, and whose surface is changed otherwise."""
    document = json.loads((build / "manifest.json").read_text())
    entry = document["surfaces"]["home"]
    entry["targets"]["aoti"]["sha256"] = sha256(package).hexdigest()
    entry.update(changes)
    (folder / "surfaces").mkdir(parents=True, exist_ok=True)
    (folder / "surfaces" / "home.pt2").write_bytes(package)
    (folder / "manifest.json").write_text(json.dumps(document))
    return folder


def without_code(package: bytes) -> bytes:
    """The package with some text in place of its library."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(package)) as archive, zipfile.ZipFile(made, "w") as out:
        for name in archive.namelist():
            out.writestr(name, b"no code" if name.endswith(".so") else archive.read(name))
    return made.getvalue()


def test_loading_leaves_nothing_in_the_temporary_folder(
    cpp_program: Path, build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it succeeds or fails, before or after the package is unpacked; nor while the surface serves."""
    package, temporary = (build / "surfaces" / "home.pt2").read_bytes(), tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    before = set(os.listdir("/tmp"))
    inputs = tmp_path / "inputs.safetensors"
    served = towerspec.load(build, target="aoti").surfaces["home"]
    save_file(served.sample_inputs(3), inputs)
    assert list(temporary.iterdir()) == []
    for i, broken in enumerate((b"PK broken", without_code(package))):
        folder = spoilt(build, tmp_path / str(i), broken)
        with pytest.raises(SpecError, match=r"`surfaces/home\.pt2` can't be loaded: "):
            towerspec.load(folder, target="aoti").surfaces["home"]
        assert list(temporary.iterdir()) == []
        command = [cpp_program, "--aoti", folder, "home", inputs]
        environment = {**os.environ, "TMPDIR": str(temporary)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert "error[T701]" in done.stderr
        assert "`surfaces/home.pt2` can't be loaded: " in done.stderr
        assert list(temporary.iterdir()) == []
    left = {name for name in set(os.listdir("/tmp")) - before if any(Path("/tmp", name).rglob("data/aotinductor"))}
    assert not left


def test_a_package_of_another_surface_is_refused(cpp_program: Path, build: Path, tmp_path: Path) -> None:
    """Where its digest fits, what it takes and gives doesn't."""
    package = (build / "surfaces" / "home.pt2").read_bytes()
    entry = json.loads((build / "manifest.json").read_text())["surfaces"]["home"]
    for i, key in enumerate(("inputs", "outputs")):
        folder = spoilt(build, tmp_path / str(i), package, **{key: entry[key][1:]})
        with pytest.raises(SpecError) as error:
            towerspec.load(folder, target="aoti").surfaces["home"]
        (diagnostic,) = error.value.diagnostics
        assert "can't be loaded: it takes 6 inputs and gives 3 outputs, and the manifest names" in diagnostic.message
        (tmp_path / "inputs.json").write_text("{}")
        command = [cpp_program, "--aoti", folder, "home", tmp_path / "inputs.json"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.stderr.splitlines()[0] == f"error[T701]: {diagnostic.message}"


def test_predictions_of_a_package_are_dense_and_apart(build: Path) -> None:
    package = towerspec.load(build, target="aoti").surfaces["home"]
    for inputs in calls(package):
        outputs = list(package(inputs).values())
        assert all(x.is_contiguous() and x.stride() == torch.empty(x.shape).stride() for x in outputs)
        assert len({x.untyped_storage().data_ptr() for x in outputs if x.numel()}) == sum(
            x.numel() > 0 for x in outputs
        )


def test_an_unchanged_package_is_not_compiled_again(build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("compiled again")

    monkeypatch.setattr(aoti, "compile_ahead", refuse)
    before = {p: p.read_bytes() for p in build.rglob("*") if p.is_file()}
    compile_spec(check(build.parent / "small.tower"), build, Options(targets=("aoti",)))
    assert {p: p.read_bytes() for p in build.rglob("*") if p.is_file()} == before
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "another")
    with pytest.raises(AssertionError, match="compiled again"):
        compile_spec(check(build.parent / "small.tower"), build, Options(targets=("aoti",)))


def test_the_same_program_has_the_same_bytes(build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the exported program; a package's archive names the folder it was compiled in."""

    def reuse(surface: str, program: object, path: Path) -> None:
        path.write_bytes((build / "surfaces" / "home.pt2").read_bytes())

    monkeypatch.setattr(aoti, "_package", reuse)
    compile_spec(check(build.parent / "small.tower"), tmp_path / "again", Options(targets=("aoti",)))
    program = Path("surfaces") / "home.export.pt2"
    assert (tmp_path / "again" / program).read_bytes() == (build / program).read_bytes()


def test_bench_times_both_targets(build: Path) -> None:
    command = [sys.executable, "-m", "towerspec", "bench", str(build), "--seconds", "0", "-n", "2", "-n", "5"]
    text = subprocess.run(command, capture_output=True, text=True).stdout
    assert text.splitlines()[-1].startswith("on 1 thread of this machine: ")
    found = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True).stdout)
    assert [(r["surface"], r["requests"], r["candidates"]) for r in found["rows"]] == [("home", 1, 2), ("home", 1, 5)]
    for row in found["rows"]:
        medians = {target: row[target]["median"] for target in ("torchscript", "aoti")}
        assert row["faster"] == min(medians, key=medians.__getitem__)
        assert row["times_as_fast"] == pytest.approx(max(medians.values()) / min(medians.values()))
        assert all(0 < row[t]["median"] <= row[t]["p99"] and row[t]["calls"] == 20 for t in medians)
    first, second = (row["torchscript"]["median"] / row["aoti"]["median"] for row in found["rows"])
    overall = (first * second) ** 0.5
    assert found["faster"] == ("aoti" if overall >= 1 else "torchscript")
    assert found["times_as_fast"] == pytest.approx(max(overall, 1 / overall))


def test_calls_take_turns_and_are_warm() -> None:
    made: list[str] = []
    ticks = iter(range(10_000))
    times = in_turns({"a": lambda: made.append("a"), "b": lambda: made.append("b")}, 0.0, lambda: next(ticks) / 1000)
    assert made[:6] == ["a"] * 3 + ["b"] * 3
    assert all(set(made[i : i + 2]) == {"a", "b"} for i in range(6, len(made), 2))
    assert {name: len(x) for name, x in times.items()} == {"a": 20, "b": 20}
    assert all(x == pytest.approx([1.0] * 20) for x in times.values())


@pytest.mark.slow
@pytest.mark.parametrize("level", [0, 2, 3])
@pytest.mark.parametrize("spec", SPECS, ids=lambda p: p.stem)
def test_packages_of_every_spec(spec: Path, level: int, tmp_path: Path) -> None:
    """Some minutes each. The compile itself compares them with the reference."""
    surfaces = check(spec).sound()[1].surfaces[:4]
    compile_spec(check(spec), tmp_path / "build", Options(level, surfaces=surfaces, targets=("aoti",)))
    scripts, packages = (towerspec.load(tmp_path / "build", target=t).surfaces for t in ("torchscript", "aoti"))
    for name, script in scripts.items():
        inputs = script.sample_inputs(20, 3)
        bound = ROUNDING if level < 3 else 0.02
        for head, x in script(inputs).items():
            assert difference(packages[name](inputs)[head], x) <= bound, (name, head)
