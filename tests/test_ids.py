"""Raw ids: hashed in the graph, or looked up in a fitted vocabulary; the same rows in Python, C++ and NumPy."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

import towerspec
from towerspec.check import check, check_text
from towerspec.diagnostics import SpecError
from towerspec.emit.build import Options, compile_spec
from towerspec.emit.helpers import hash_ids
from towerspec.runtime.vocabulary import Vocabulary, text_id
from towerspec.train.module import build_module

SPEC = """model raw
table pins { rows: 1_000, dim: 8, ids: hash }
table users { rows: 5, dim: 4, ids: fitted }
request {
  country : category { rows: 50, dim: 4, ids: hash, missing: 3 }
  user    : category { table: users }
  recent  : sequence { of: pins, length: 6 }
  friends : bag { table: users, length: 3 }
  watched : sequence { of: pins, length: 4, on: [home] }
}
candidate {
  pin   : category { table: pins }
  words : bag { rows: 77, dim: 4, length: 4, ids: hash, on: [search] }
}
trunk {
  interest = din(pin, recent, hidden: [8])
  seen     = transformer(watched, layers: 1)
  shared   = mlp(concat(request, candidate, interest, seen), hidden: [16])
}
surface home   { tower { layers: [8] head click : binary } calibrate click with platt by country }
surface search { tower { layers: [8] head click : binary } }
"""
USERS = [2**62, "anna", -5, "Ω"]  # of five rows; the last one is never fitted
IDS = st.integers(-(2**63), 2**63 - 1)


def splitmix(ids: np.ndarray, rows: int) -> np.ndarray:
    """The row of each id, in NumPy's unsigned arithmetic: the finaliser as its authors' C program has it."""
    z = ids.astype(np.int64).view(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return np.where(ids == -1, -1, ((z >> np.uint64(1)) % np.uint64(rows)).astype(np.int64))


@given(st.lists(IDS, max_size=40), st.integers(1, 2**40))
def test_a_hash_is_the_published_one(ids: list[int], rows: int) -> None:
    raw = np.array(ids, dtype=np.int64)
    assert np.array_equal(hash_ids(torch.from_numpy(raw), rows).numpy(), splitmix(raw, rows))


def test_splitmix_gives_the_published_sequence() -> None:
    """SplitMix64 from the seed 1234567 begins with these, as Rosetta Code and the authors' program have it."""
    wanted = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    golden = 0x9E3779B97F4A7C15
    seeds = np.array([(1234567 + i * golden) % 2**64 for i in range(5)], dtype=np.uint64).view(np.int64)
    rows = 2**40
    assert hash_ids(torch.from_numpy(seeds), rows).tolist() == [(x >> 1) % rows for x in wanted]


def test_hashed_ids_spread_evenly() -> None:
    rows = hash_ids(torch.arange(100_000), 100)
    counts = torch.bincount(rows, minlength=100)
    chi = float(((counts - 1000.0) ** 2 / 1000).sum())
    assert 60 < chi < 150  # 99 degrees of freedom


def test_texts_hash_as_published() -> None:
    """From the test vectors of draft-eastlake-fnv, appendix C."""
    for text, wanted in {"": 0xCBF29CE484222325, "a": 0xAF63DC4C8601EC8C, "foobar": 0x85944171F73967E8}.items():
        assert text_id(text) % 2**64 == wanted


@given(st.lists(IDS.filter(lambda x: x != -1), unique=True, max_size=20), st.lists(IDS, max_size=20))
def test_a_vocabulary_looks_up(known: list[int], asked: list[int]) -> None:
    rows = Vocabulary(known, 99).look_up(torch.tensor([*known, *asked, -1], dtype=torch.int64)).tolist()
    assert rows[: len(known)] == list(range(len(known)))
    assert rows[-1] == -1
    assert rows[len(known) : -1] == [-1 if x == -1 else known.index(x) if x in known else 99 for x in asked]


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ids") / "raw.tower"
    path.write_text(SPEC)
    return path


@pytest.fixture(scope="module")
def weights(spec: Path) -> Path:
    """Weights with the vocabularies beside them."""
    folder = spec.parent / "weights"
    folder.mkdir()
    save_file(
        {k: v.detach().clone() for k, v in build_module(check(spec)).state_dict().items()}, folder / "w.safetensors"
    )
    (folder / "vocabularies.json").write_text(json.dumps({"tables.users": USERS}))
    return folder / "w.safetensors"


@pytest.fixture(scope="module", params=[0, 2], ids=["O0", "O2"])
def build(request: pytest.FixtureRequest, spec: Path, weights: Path) -> Path:
    out = spec.parent / f"build{request.param}"
    compile_spec(check(spec), out, Options(level=request.param, weights=weights))
    return out


def inputs() -> dict[str, Any]:
    """One request, three candidates, as a server has them."""
    return {
        "country": ["côte d'Ivoire"],
        "user": ["anna"],
        "recent": [[7, "seven", -3, 2**64 - 9, None]],
        "friends": [["Ω", 2**62, "nobody"]],
        "watched": [[]],
        "pin": ["x", 2**63, -1],
    }


def rows_of(raw: dict[str, Any]) -> dict[str, Any]:
    """The same inputs as rows of tables that know no raw ids."""

    def hashed(item: Any, rows: int) -> int:
        id_ = text_id(item) if isinstance(item, str) else -1 if item is None else item
        return int(splitmix(np.array([id_ - 2**64 if id_ >= 2**63 else id_]), rows)[0])

    def fitted(item: Any) -> int:
        return USERS.index(item) if item in USERS else 5

    return {
        "country": [hashed(x, 50) for x in raw["country"]],
        "user": [fitted(x) for x in raw["user"]],
        "recent": [[hashed(x, 1000) for x in row] for row in raw["recent"]],
        "friends": [[fitted(x) for x in row] for row in raw["friends"]],
        "watched": raw["watched"],
        "pin": [hashed(x, 1000) for x in raw["pin"]],
    }


def test_raw_ids_reach_their_rows(spec: Path, weights: Path, build: Path) -> None:
    """A build of the same spec with direct ids, asked by rows, gives the same bits."""
    plain = spec.with_name("plain.tower")
    plain.write_text(SPEC.replace(", ids: hash", "").replace(", ids: fitted", ""))
    out = spec.parent / f"direct_{build.name}"
    compile_spec(check(plain), out, Options(level=0 if build.name == "build0" else 2, weights=weights))
    ours = towerspec.load(build).surfaces["home"](inputs())
    theirs = towerspec.load(out).surfaces["home"](rows_of(inputs()))
    assert np.array_equal(ours["click"], theirs["click"])


def test_python_and_cpp_give_the_same_bits(cpp_program: Path, build: Path, tmp_path: Path) -> None:
    bundle = towerspec.load(build)
    (tmp_path / "inputs.json").write_text(json.dumps(inputs(), ensure_ascii=False))
    for name, file in (("home", "inputs.json"), ("home", "some.safetensors"), ("search", "some.safetensors")):
        surface = bundle.surfaces[name]
        given: dict[str, Any] = inputs()
        if file == "some.safetensors":
            given = surface.sample_inputs(50, 3, seed=1)
            save_file(given, tmp_path / file)
        done = subprocess.run([cpp_program, build, name, tmp_path / file], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        theirs = np.array(json.loads(done.stdout)["click"], dtype=np.float32)
        assert np.array_equal(np.asarray(surface(given)["click"]).view(np.int32), theirs.view(np.int32))


def test_samples_are_raw_ids(build: Path) -> None:
    made = towerspec.load(build).surfaces["home"].sample_inputs(10, 400)
    known = {text_id(x) if isinstance(x, str) else x for x in USERS}
    found = set(made["user"].tolist())
    assert known < found
    assert -1 in found
    assert len(found - known - {-1}) == 1
    assert (made["pin"] < -1).any()


def test_the_manifest_says_what_ids_are(build: Path) -> None:
    manifest = json.loads((build / "manifest.json").read_text())
    entries = {e["name"]: e for e in manifest["surfaces"]["search"]["inputs"]}
    assert entries["words"]["ids"] == "hash"
    assert "range" not in entries["words"]
    assert (entries["user"]["ids"], entries["user"]["vocabulary"]) == ("fitted", "tables.users")
    assert json.loads((build / "vocabularies.json").read_text()) == {"tables.users": USERS}
    assert "vocabularies.json" in manifest["files"]


def test_strict_knows_the_vocabulary(build: Path) -> None:
    surface = towerspec.load(build).surfaces["home"]
    surface({**inputs(), "friends": [["Ω"]], "pin": ["x"]}, strict=True)
    with pytest.raises(SpecError, match="T707"):
        surface({**inputs(), "user": ["nobody"]}, strict=True)


def test_without_weights_there_is_no_vocabulary(spec: Path, tmp_path: Path) -> None:
    manifest = compile_spec(check(spec), tmp_path / "b")
    (entry,) = (e for e in manifest["surfaces"]["home"]["inputs"] if e["name"] == "user")
    assert "vocabulary" not in entry
    assert not (tmp_path / "b" / "vocabularies.json").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "is not there"),
        ("[1", "can't be read"),
        ("[1]", "is no list of ids for each table"),
        ("{}", "has no vocabulary of `tables.users`"),
        ('{"tables.users": [1, 1]}', "no list of different whole numbers and texts"),
        ('{"tables.users": [true]}', "no list of different whole numbers and texts"),
        ('{"tables.users": [1.5]}', "no list of different whole numbers and texts"),
        ('{"tables.users": [1, 2, 3, 4, 5, 6]}', "has 6 ids, and the table 5 rows"),
    ],
)
def test_vocabularies_that_dont_fit(content: str | None, says: str, spec: Path, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(weights.read_bytes())
    if content is not None:
        (tmp_path / "vocabularies.json").write_text(content)
    with pytest.raises(SpecError, match="T610") as error:
        compile_spec(check(spec), tmp_path / "b", Options(weights=tmp_path / "w.safetensors"))
    assert says in str(error.value)
    assert not (tmp_path / "b").exists()


def test_gradients_reach_the_hashed_row_alone() -> None:
    module = build_module(check_text(SPEC))
    features = {
        "country": torch.tensor([2**60]), "user": torch.tensor([1]), "recent": torch.full([1, 6], -1),
        "friends": torch.full([1, 3], -1), "watched": torch.full([1, 4], -1), "pin": torch.tensor([-77]),
        "words": torch.full([1, 4], -1),
    }  # fmt: skip
    module(features, torch.tensor([0]))["click.logit"].sum().backward()
    table = dict(module.named_parameters())["tables.pins.weight"].grad
    assert table is not None
    assert table.abs().sum(1).nonzero().flatten().tolist() == splitmix(np.array([-77]), 1000).tolist()


@pytest.mark.parametrize(
    ("feature", "says"),
    [
        ("category { rows: 9, ids: hash, unknown: 1 }", "a hashed id is never unknown"),
        ("category { values: [a], ids: hash }", "`values` are the vocabulary already"),
        ("category { table: users, ids: hash }", "a shared table says itself what its `ids` are"),
        ("category { rows: 9, ids: hashed }", "must be `direct`, `hash` or `fitted`"),
    ],
)
def test_options_that_dont_fit(feature: str, says: str) -> None:
    (found,) = check_text(SPEC.replace("category { table: users }", feature)).report
    assert found.code in ("T301", "T307")
    assert says in f"{found.message} {found.label}"


def test_a_branch_key_is_direct() -> None:
    text = SPEC.replace("head click : binary } calibrate click with platt by country", "branch by country { 1 { head click : binary } else { head click : binary } }}").replace("layers: [8] branch", "layers: [8]  branch")  # fmt: skip  # noqa: E501
    (found,) = check_text(text).report
    assert found.code == "T408"
    assert found.message == "a branch key's ids must be direct, and those of `country` are not"
