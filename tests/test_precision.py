"""`-O3`: what is rounded and how, what the manifest and the file say of it, and where a compile refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import towerspec
from towerspec.check import check
from towerspec.cpu import KINDS, kind_of
from towerspec.diagnostics import SpecError
from towerspec.emit import helpers, reference
from towerspec.emit.build import Options, compile_spec
from towerspec.explain import explain_passes
from towerspec.ir.graph import Op
from towerspec.ir.primitives import Cast, Codes, LinearInt8, RowScale
from towerspec.ir.types import Level, Type
from towerspec.passes import optimise

# Widths and tables on both sides of every threshold; `by user` calibrates with a table as large as an embedding's.
SPEC = """model large
request {
    user  : category { rows: 80_000, dim: 32 }
    about : number { width: 500 }
}
candidate {
    item  : category { rows: 5000, dim: 8 }
    brand : category { rows: 50, dim: 8 }
    look  : number { width: 300 }
}
trunk {
    mixed   = concat(request, candidate)
    crossed = cross(mixed, layers: 2)
    shared  = mmoe(crossed, experts: 2, hidden: [256, 64])
}
surface home {
    tower { layers: [128]  head click : binary  head watch : regression }
    calibrate click with isotonic { bins: 20 } by user
}
surface search { tower { head click : binary } }
"""
BOUND = 0.2
LINEARS = {
    "amx": {"bfloat16": 5, "float32": 5},
    "avx512_bf16": {"bfloat16": 5, "float32": 5},
    "avx512_vnni": {"float32": 5, "int8": 5},
    "any": {"float32": 10},
}
PACKED = {
    "amx": 5,
    "avx512_bf16": 5,
    "avx512_vnni": 0,
    "any": 4,
}  # weights that a CPU may lay out; of float32, those of many rows
SMALLER = {"amx": 0.6, "avx512_bf16": 0.6, "avx512_vnni": 0.5, "any": 0.75}
ALONE = """
import sys, torch
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "towerspec":
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
torch.save(list(torch.jit.load(sys.argv[1])(*torch.load(sys.argv[2]))), sys.argv[3])
"""


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("precision") / "large.tower"
    path.write_text(SPEC)
    return path


@pytest.fixture(scope="module")
def plain(spec: Path) -> Path:
    compile_spec(check(spec), spec.parent / "plain")
    return spec.parent / "plain"


@pytest.fixture(scope="module", params=list(KINDS))
def build(request: pytest.FixtureRequest, spec: Path) -> Path:
    out = spec.parent / request.param
    compile_spec(check(spec), out, Options(level=3, cpu=request.param, max_error=BOUND))
    return out


def entry(build: Path, surface: str = "home") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((build / "manifest.json").read_text())["surfaces"][surface]
    return found


# ---- a build --------------------------------------------------------------------------------------


def test_the_manifest_says_what_is_rounded_and_how_far_that_goes(build: Path, plain: Path) -> None:
    said = entry(build)
    assert said["precision"] == {
        "cpu": build.name,
        "linears": LINEARS[build.name],
        "tables": {"float16": 1, "float32": 1, "int8": 1},  # the items', the brands', the users'
        "largest_difference": said["verified"]["largest_difference"],
        "max_error": BOUND,
        "errors": said["precision"]["errors"],
    }
    assert 0 < said["precision"]["largest_difference"] < BOUND
    options = json.loads((build / "manifest.json").read_text())["options"]
    assert (options["precision"], options["cpu"], options["max_error"]) == ("mixed", build.name, BOUND)
    assert "precision" not in entry(plain)
    assert json.loads((plain / "manifest.json").read_text())["options"]["precision"] == "float32"


def test_a_file_holds_the_rounded_weights_alone(build: Path, plain: Path) -> None:
    said, before = entry(build), entry(plain)
    assert said["bytes"] < before["bytes"]
    assert said["parameters"] == before["parameters"]
    assert said["file_bytes"] < said["bytes"] + 200_000  # code, and each tensor's place; equal tensors are held once
    assert said["file_bytes"] < SMALLER[build.name] * before["file_bytes"]


def test_scores_are_those_of_o2_within_the_bound(build: Path, plain: Path) -> None:
    found, wanted = towerspec.load(build).surfaces, towerspec.load(plain).surfaces
    for name in found:
        inputs = found[name].sample_inputs(candidates=50, seed=5)
        for head, x in found[name](inputs).items():
            y = wanted[name](inputs)[head]
            gap = float(((x - y).abs() / y.abs().clamp(min=1.0)).max())
            assert 0 < gap < BOUND


def test_a_score_depends_on_no_other_candidate(build: Path) -> None:
    surface = towerspec.load(build).surfaces["home"]
    inputs = surface.sample_inputs(candidates=9, seed=2)
    whole = surface(inputs)
    names = {i["name"] for i in surface.inputs if i["level"] == "candidate"}
    for row in range(9):
        alone = surface({k: x[row : row + 1] if k in names else x for k, x in inputs.items() if "per_request" not in k})
        for head, x in alone.items():
            torch.testing.assert_close(x, whole[head][row : row + 1], atol=5e-3, rtol=5e-3)


def test_torch_alone_loads_it_and_saves_it_again(build: Path, tmp_path: Path) -> None:
    surface = towerspec.load(build).surfaces["home"]
    inputs = surface.sample_inputs(candidates=5)
    torch.save(list(inputs.values()), tmp_path / "inputs.pt")
    file = build / "surfaces" / "home.pt"
    command = [sys.executable, "-c", ALONE, str(file), str(tmp_path / "inputs.pt"), str(tmp_path / "outputs.pt")]
    threads = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}  # sums depend on how many add them up
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=threads).stderr == ""
    for x, y in zip(torch.load(tmp_path / "outputs.pt"), surface(inputs).values(), strict=True):
        assert torch.equal(x, y)
    torch.jit.save(torch.jit.load(file), tmp_path / "again.pt")
    for x, y in zip(torch.jit.load(tmp_path / "again.pt")(*inputs.values()), surface(inputs).values(), strict=True):
        assert torch.equal(x, y)


def test_surfaces_of_a_process_hold_the_trunk_once(build: Path) -> None:
    home, search = (dict(s.module.named_buffers()) for s in towerspec.load(build).surfaces.values())
    assert len(home) == len(search) == PACKED[build.name]
    assert all(any(x is y for y in search.values()) for x in home.values())


@pytest.mark.slow
def test_two_processes_give_the_same_bytes(spec: Path, tmp_path: Path) -> None:
    found = []
    for name, words in (("one", []), ("two", []), ("alone", ["--surface", "search"])):
        code = "import sys; from towerspec.cli import main; main(sys.argv[1:])"
        out = ["-o", str(tmp_path / name), "-O3", "--cpu", "amx", "--max-error", str(BOUND)]
        command = ["compile", str(spec), *out, *words]
        subprocess.run([sys.executable, "-c", code, *command], check=True, capture_output=True)
        found.append(entry(tmp_path / name, "search")["sha256"])
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("surface", ["home", "search"])
def test_beyond_the_bound_nothing_is_written(spec: Path, tmp_path: Path, surface: str) -> None:
    with pytest.raises(SpecError, match="T613"):
        compile_spec(check(spec), tmp_path / "build", Options(level=3, cpu="amx", max_error=1e-6, surfaces=(surface,)))
    assert not any(tmp_path.iterdir())


def test_without_the_pass_o3_is_o2(spec: Path, plain: Path, tmp_path: Path) -> None:
    compile_spec(check(spec), tmp_path / "build", Options(level=3, without=("precision",)))
    said = entry(tmp_path / "build")
    assert said["source_sha256"] == entry(plain)["source_sha256"]
    assert said["precision"]["linears"] == {"float32": 10}
    assert said["precision"]["tables"] == {"float32": 3}


@pytest.mark.parametrize("cpu", list(KINDS))
def test_the_passes_say_what_it_saves(spec: Path, cpu: str) -> None:
    steps = explain_passes(check(spec), "home", 3, cpu=cpu)
    place = [step["pass"] for step in steps].index("precision")
    before, after = steps[place - 1 : place + 1]
    assert after["flops"] == before["flops"]
    assert after["weights"] < before["weights"]


def test_a_calibration_is_not_rounded(spec: Path) -> None:
    _, graph = check(spec).sound()
    made = optimise(graph, "home", 3, cpu="amx")
    knots = {op.id for op, p in made.params if p.path.startswith("surfaces.home.tower.click.calibrate.")}
    assert any(made.by_id[id_].type.bytes > 1_000_000 for id_ in knots)
    assert not [op.id for op in made.ops if isinstance(op.prim, (Cast, Codes, RowScale)) and {*op.inputs} & knots]


# ---- rounding ---------------------------------------------------------------------------------------


def evaluate(prim: Any, *args: torch.Tensor) -> torch.Tensor:
    op = Op("x", prim, (), Type(Level.CANDIDATE, ()), "")
    return reference.evaluate(prim, reference.Rows(0, torch.zeros(0, dtype=torch.int64)), op, args)


@given(st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=20))
def test_bfloat16_is_a_float32_without_its_lower_half(numbers: list[float]) -> None:
    bits = np.array(numbers, dtype=np.float32).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000  # to the nearest, of two the even one
    expected = rounded.astype(np.uint32).view(np.float32).astype(np.float64)
    np.testing.assert_array_equal(evaluate(Cast("bf16"), torch.tensor(numbers, dtype=torch.float64)), expected)


@given(st.lists(st.floats(-(2.0**20), 2.0**20, width=32), min_size=2, max_size=20))
def test_codes_are_the_nearest_multiples_of_the_scale(numbers: list[float]) -> None:
    x = torch.tensor([numbers])
    scale = helpers.row_scale(x)
    codes = helpers.codes(x, scale)
    assert codes.dtype == torch.int8
    assert int(codes.int().abs().max()) <= 127
    assert bool(((codes.double() * scale.double() - x.double()).abs() <= 0.5001 * scale.double()).all())
    wide = evaluate(Codes(), x.double(), evaluate(RowScale(), x.double()))
    assert float((wide - codes.double()).abs().max()) <= 1.0


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("rows", [0, 1, 7])
def test_an_8_bit_linear_sums_whole_numbers(rows: int, biased: bool) -> None:
    rng = np.random.default_rng(rows)
    x, w = rng.integers(-127, 128, (rows, 900)), rng.integers(-127, 128, (33, 900))
    scale, scales = rng.uniform(0.01, 1, (rows, 1)), rng.uniform(0.01, 1, 33)
    bias = rng.normal(size=33) * biased
    expected = (x @ w.T) * scale * scales + bias
    numbers = [torch.from_numpy(a) for a in (scale, scales, bias)]
    args = [torch.from_numpy(x), numbers[0], torch.from_numpy(w), numbers[1], *([numbers[2]] if biased else [])]
    np.testing.assert_allclose(evaluate(LinearInt8(), *(a.double() for a in args)), expected, rtol=1e-12, atol=1e-9)
    small = [a.to(torch.int8 if i in (0, 2) else torch.float32) for i, a in enumerate(args)]
    np.testing.assert_allclose(helpers.linear_int8(*small), expected, rtol=1e-5, atol=1e-2)


# ---- the CPU ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        ("amx_tile amx_bf16 amx_int8 avx512_vnni avx512bw avx512vl avx512dq avx512_bf16", "amx"),
        ("amx_tile amx_bf16 avx2", "any"),
        ("avx512_bf16 avx512_vnni avx512bw avx512vl avx512dq", "avx512_vnni"),
        ("sse4a avx512_bf16 avx512_vnni avx512bw avx512vl avx512dq", "avx512_bf16"),
        ("avx2 avx_vnni fma", "any"),
        ("", "any"),
    ],
)
def test_the_kind_of_a_cpu(flags: str, kind: str) -> None:
    assert kind_of(f"processor\t: 0\nflags\t\t: fpu {flags}\nbugs\t\t: none\n") == kind
    assert kind_of("processor : 0\nFeatures : fp asimd bf16\n") == "any"
