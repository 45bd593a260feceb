"""The C++ program against the Python loader: the same bits, and the same words where an input is wrong."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import towerspec
from towerspec.check import check
from towerspec.diagnostics import SpecError
from towerspec.emit.build import compile_spec

ROOT = Path(__file__).parents[2]
SPECS = ["quickstart", "view_types", "esmm", "kuairand"]  # values and texts, nested branches, products, lists


@pytest.fixture(scope="module", params=SPECS)
def build(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cpp") / request.param
    compile_spec(check(ROOT / "specs" / f"{request.param}.tower"), out)
    return out


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cpp") / "small"
    spec = out.with_suffix(".tower")
    spec.write_text(
        """model small
        request { country : category { values: [de, fr, "côte d'Ivoire"], dim: 4 }
                  recent : sequence { rows: 50, dim: 4, length: 3 } }
        candidate { price : number   vector : number { width: 2 }   pin : category { rows: 10, dim: 4 } }
        trunk { seen = pooling(recent)   x = concat(country, candidate, seen) }
        surface home { tower { layers: [8] head click : binary  head kind : multiclass { values: [a, b, c] } } }"""
    )
    compile_spec(check(spec), out)
    return out


def run(program: Path, build: Path, surface: str, inputs: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *flags, build, surface, inputs], capture_output=True, text=True)


def scores(done: subprocess.CompletedProcess[str]) -> dict[str, np.ndarray]:
    assert done.returncode == 0, done.stderr
    return {head: np.array(x, dtype=np.float32) for head, x in json.loads(done.stdout).items()}


def assert_same_bits(ours: Mapping[str, Any], theirs: Mapping[str, np.ndarray]) -> None:
    assert list(ours) == list(theirs)
    for head, x in ours.items():
        x, y = np.asarray(x), theirs[head].reshape(x.shape)
        assert np.array_equal(np.isnan(x), np.isnan(y)), head
        assert np.array_equal(x[~np.isnan(x)].view(np.int32), y[~np.isnan(y)].view(np.int32)), head


@pytest.mark.parametrize(("requests", "candidates"), [(1, 0), (1, 1), (1, 64), (5, 3)])
def test_same_bits(cpp_program: Path, build: Path, requests: int, candidates: int, tmp_path: Path) -> None:
    for name, surface in towerspec.load(build).surfaces.items():
        inputs = surface.sample_inputs(candidates, requests, seed=candidates)
        ours = surface(inputs)
        save_file({k: x.numpy() for k, x in inputs.items()}, tmp_path / "inputs.safetensors")
        text = json.dumps({k: x.tolist() for k, x in inputs.items()})
        (tmp_path / "inputs.json").write_text(text.replace("NaN", "null"))
        for file in ("inputs.safetensors", "inputs.json"):
            assert_same_bits(ours, scores(run(cpp_program, build, name, tmp_path / file)))


GOOD: dict[str, Any] = {
    "country": ["fr"],
    "recent": [[1, 2, 3]],
    "price": [1.5, -2.25e-3],
    "vector": [[1, 2], [3.5, 4]],
    "pin": [4, 9],
}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"country": ["côte d'Ivoire"]},
        {"country": ["atlantis"]},
        {"country": [None], "recent": [[7, 8, 9, 10, 11]]},
        {"recent": [[]], "price": [None, 1e30]},
        {"recent": [None], "pin": [-5, 1000]},
        {"country": ["de", "fr"], "recent": [[1], [2]], "candidates_per_request": [2, 0]},
        {"country": ["de", "fr"], "recent": [[1], [2]]},
        {"price": [], "vector": [], "pin": []},
    ],
)
def test_texts_ragged_lists_and_missing_values(
    cpp_program: Path, small: Path, change: dict[str, Any], tmp_path: Path
) -> None:
    inputs = {**GOOD, **change}
    (tmp_path / "inputs.json").write_text(json.dumps(inputs))
    ours = towerspec.load(small).surfaces["home"](inputs)
    assert_same_bits(ours, scores(run(cpp_program, small, "home", tmp_path / "inputs.json")))


def test_escapes_of_json(cpp_program: Path, small: Path, tmp_path: Path) -> None:
    text = json.dumps({**GOOD, "country": ["côte d'Ivoire"]}, ensure_ascii=False)
    (tmp_path / "plain.json").write_text(text, encoding="utf-8")
    (tmp_path / "escaped.json").write_text(text.encode("ascii", "namereplace").decode().replace(
        "\\N{LATIN SMALL LETTER O WITH CIRCUMFLEX}", "\\u00f4"))  # fmt: skip
    (tmp_path / "other.json").write_text(json.dumps({**GOOD, "country": ["\U0001f600\n\t\\/"]}))
    found = {f: run(cpp_program, small, "home", tmp_path / f"{f}.json").stdout for f in ("plain", "escaped", "other")}
    assert found["plain"] == found["escaped"] != found["other"] != ""


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"price": ...}, "T702"),
        ({"size": [1.0]}, "T703"),
        ({"vector": [[1.0], [2.0]]}, "T705"),
        ({"country": [["fr"]]}, "T705"),
        ({"recent": [1, 2]}, "T705"),
        ({"pin": ["a", "b"]}, "T704"),
        ({"pin": [True, 1]}, "T704"),
        ({"price": {}}, "T704"),
        ({"pin": [1, 2, 3]}, "T706"),
        ({"country": [], "recent": []}, "T706"),
        ({"country": ["de", "fr", "fr"], "recent": [[1], [2], [3]]}, "T706"),
        ({"country": ["de", "fr"], "recent": [[1], [2]], "candidates_per_request": [2, 1]}, "T706"),
        ({"country": ["de", "fr"], "recent": [[1], [2]], "candidates_per_request": [-1, 3]}, "T706"),
        ({"candidates_per_request": [999]}, "T706"),
    ],
)
def test_wrong_inputs_have_the_same_words(
    cpp_program: Path, small: Path, change: dict[str, Any], code: str, tmp_path: Path
) -> None:
    inputs = {k: x for k, x in {**GOOD, **change}.items() if x is not ...}
    (tmp_path / "inputs.json").write_text(json.dumps(inputs))
    done = run(cpp_program, small, "home", tmp_path / "inputs.json")
    assert done.returncode == 1
    with pytest.raises(SpecError) as raised:
        towerspec.load(small).surfaces["home"](inputs)
    (ours,) = raised.value.diagnostics
    assert ours.code == code
    assert done.stderr.split("\n")[0] == f"error[{code}]: {ours.message}"
    assert [line.removeprefix(" = note: ") for line in done.stderr.split("\n") if "note" in line] == list(ours.notes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pin": np.array([-5, 1])}, "`pin` has an id out of range in row 0\n = note: ids go from 0 to 9"),
        ({"price": np.array([1, np.inf], dtype=np.float32)}, "`price` is not finite in row 1"),
        ({"pin": np.array([1.5, 2.0])}, "`pin` holds a fraction in row 0\n = note: it takes whole numbers"),
        ({"pin": np.array([True, False])}, "`pin` has the type bool"),
    ],
)
def test_strict_and_types_from_safetensors(
    cpp_program: Path, small: Path, change: dict[str, np.ndarray], words: str, tmp_path: Path
) -> None:
    whole = {"country": np.array([1]), "recent": np.array([[1, 2, -1]]), "price": np.array([1, 2], dtype=np.float32)}
    whole |= {"vector": np.ones((2, 2)), "pin": np.array([1, 2], dtype=np.int32)}
    file = tmp_path / "inputs.safetensors"
    save_file(whole, file)
    assert run(cpp_program, small, "home", file, "--strict").returncode == 0
    save_file({**whole, **change}, file)
    assert words in run(cpp_program, small, "home", file, "--strict").stderr


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", b'{"price": [1, ', "is not JSON: a value was expected at byte 14"),
        ("a.json", b"[" * 100_000, "brackets are nested too deeply"),
        ("a.json", b"[1]", "holds no object: inputs are lists of rows by name"),
        ("a.json", b'{"price": NaN}', "is not JSON: a value was expected at byte 10"),
        ("a.safetensors", b"nothing", "is no safetensors file"),
        ("a.safetensors", b"\xff" * 64, "is no safetensors file"),
        ("a.safetensors", (2).to_bytes(8, "little") + b"{]", "is no safetensors file"),
    ],
)
def test_malformed_files(cpp_program: Path, small: Path, name: str, content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    done = run(cpp_program, small, "home", tmp_path / name)
    assert done.returncode == 1
    assert done.stderr.startswith("error[T704]")
    assert words in done.stderr


def test_no_build_no_surface_no_file(cpp_program: Path, small: Path, tmp_path: Path) -> None:
    inputs = tmp_path / "inputs.json"
    inputs.write_text(json.dumps(GOOD))
    assert "error[T701]" in run(cpp_program, tmp_path, "home", inputs).stderr
    assert "there is no surface `hoem`" in run(cpp_program, small, "hoem", inputs).stderr
    assert "can't be read" in run(cpp_program, small, "home", tmp_path / "none.json").stderr
    usage = subprocess.run([cpp_program, small], capture_output=True, text=True)
    assert usage.returncode == 2
    assert usage.stderr.startswith("usage: towerspec_score")
    broken = tmp_path / "broken"
    (broken / "surfaces").mkdir(parents=True)
    (broken / "manifest.json").write_bytes((small / "manifest.json").read_bytes())
    (broken / "surfaces" / "home.pt").write_bytes(b"PK broken")
    assert "is not the file that the manifest names" in run(cpp_program, broken, "home", inputs).stderr


def test_another_project_adds_the_reader(cpp_program: Path, tmp_path: Path) -> None:
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.24)\nproject(server LANGUAGES CXX)\n"
        f"add_subdirectory({ROOT / 'cpp'} towerspec)\n"
        "add_executable(server server.cpp)\ntarget_link_libraries(server PRIVATE towerspec::towerspec)\n"
    )
    (tmp_path / "server.cpp").write_text(
        '#include "towerspec/error.hpp"\nint main() { throw towerspec::Error("", ""); }'
    )
    prefix = f"-DCMAKE_PREFIX_PATH={torch.utils.cmake_prefix_path}"
    for command in (["cmake", "-S", tmp_path, "-B", tmp_path / "b", prefix], ["cmake", "--build", tmp_path / "b"]):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
