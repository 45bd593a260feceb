"""The C++ reader of builds: one build, whole; its digests; and no exception but its own, whatever a manifest holds."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.conftest import built
from tests.fuzz.documents import spoil
from tests.test_loading import UNREAD, Replacing, builds, contents, with_vocabulary  # noqa: F401
from towerspec.emit.folder import write

HERE = Path(__file__).parent


class Reader:
    """The test's C++ program, which answers each line with one."""

    def __init__(self, program: Path) -> None:
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, line: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, f"the program ended with {self.process.wait()}"
        return answer.strip()


@pytest.fixture(scope="module")
def program() -> Path:
    return built(HERE / "loading", "loading") / "loading"


@pytest.fixture
def read(program: Path) -> Iterator[Reader]:
    reader = Reader(program)
    yield reader
    reader.process.stdin.close()  # type: ignore[union-attr]
    assert reader.process.wait() == 0


@pytest.fixture
def build(builds: tuple[Path, Path], tmp_path: Path) -> Path:  # noqa: F811
    return Path(shutil.copytree(builds[0], tmp_path / "build"))


@pytest.mark.parametrize("portable", [False, True])
def test_sha256(portable: bool, tmp_path: Path) -> None:
    """Of every length about the ends of blocks, in pieces too, with the CPU's instructions for it and without."""
    (tmp_path / "digest.cpp").write_text(
        '#include <iostream>\n#include <sstream>\n#include "towerspec/sha256.hpp"\n'
        "int main() {\n  std::stringstream in;\n  in << std::cin.rdbuf();\n  const std::string all = in.str();\n"
        "  for (std::size_t n = 0; n <= all.size(); n = n < 300 ? n + 1 : n * 2) {\n"
        "    towerspec::Sha256 pieces;\n"
        "    for (std::size_t at = 0, size = 1; at < n; at += size, size = size * 3 % 101) {\n"
        "      pieces.update(std::string_view(all).substr(0, n).substr(at, size));\n    }\n"
        '    std::cout << towerspec::sha256(all.substr(0, n)) << " " << pieces.hex() << "\\n";\n  }\n}\n'
    )
    flags = ["-std=c++20", "-O2", "-Wall", "-Werror", *(["-DTOWERSPEC_PORTABLE_SHA256"] if portable else [])]
    include = f"-I{HERE.parents[1] / 'cpp' / 'include'}"
    subprocess.run(["c++", *flags, include, "-o", tmp_path / "digest", tmp_path / "digest.cpp"], check=True)
    content = Random(0).randbytes(100_000)
    found = subprocess.run([tmp_path / "digest"], input=content, capture_output=True, check=True).stdout.split()
    lengths, n = [], 0
    while n <= len(content):
        lengths.append(n)
        n = n + 1 if n < 300 else n * 2
    assert [x.decode() for x in found] == [sha256(content[:n]).hexdigest() for n in lengths for _ in range(2)]


def test_sha256_of_the_standard(read: Reader, tmp_path: Path) -> None:
    """Examples of FIPS 180-2, appendix B, and of a file in parts that differ."""
    examples = {
        b"abc": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq":
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
        b"a" * 1_000_000: "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
    }  # fmt: skip
    for content, digest in examples.items():
        (tmp_path / "file").write_bytes(content)
        assert read(f"sha256 {tmp_path / 'file'}") == digest


def test_every_flipped_byte_is_found(read: Reader, build: Path) -> None:
    path, random = build / "surfaces" / "home.pt", Random(0)
    content = path.read_bytes()
    for _ in range(30):
        spoilt = bytearray(content)
        spoilt[random.randrange(len(content))] ^= 1 << random.randrange(8)
        path.write_bytes(spoilt)
        assert "`surfaces/home.pt` is not the file that the manifest names" in read(f"load {build}")


def test_a_vocabulary_is_the_builds_own(read: Reader, tmp_path: Path) -> None:
    build = with_vocabulary(tmp_path)
    path, document = build / "vocabularies.json", json.loads((build / "manifest.json").read_text())
    assert "error" not in read(f"load {build}")
    path.write_bytes(path.read_bytes().replace(b"anna", b"bela"))
    assert "`vocabularies.json` is not the file that the manifest names" in read(f"load {build}")
    for content in (b"{", b"{}", b"[]", b"[" * 100_000):
        path.write_bytes(content)
        document["files"]["vocabularies.json"] = sha256(content).hexdigest()
        (build / "manifest.json").write_text(json.dumps(document))
        assert read(f"load {build}").startswith("error[T701]")


@pytest.mark.parametrize("end", ["replaced", "deleted", "cut short"])
def test_a_bundle_keeps_its_build(read: Reader, builds: tuple[Path, Path], build: Path, end: str) -> None:  # noqa: F811
    first, second = (read(f"load {b}") for b in builds)
    assert "error" not in first != second
    assert read(f"open {build}") == "opened"
    if end == "cut short":
        os.truncate(build / "surfaces" / "home.pt", 100)
        assert "T701" in read("call")
        return
    if end == "replaced":
        write(build, contents(builds[1]))
    else:
        shutil.rmtree(build)
    assert read("call") == first


def test_a_build_is_replaced_in_a_loop(read: Reader, builds: tuple[Path, Path], build: Path) -> None:  # noqa: F811
    known = [read(f"load {b}") for b in builds]
    with Replacing(build, [contents(b) for b in builds]):
        found = Counter(known.index(read(f"load {build}")) for _ in range(256))
    assert set(found) == {0, 1}


def test_predictions_are_dense_and_in_memory_of_their_own(read: Reader, build: Path) -> None:
    text = read(f"load {build}")
    assert len(text.split()) == 9, text  # of three heads and three candidates, and nothing of strides


@pytest.mark.parametrize("name", ["../1/surfaces/home.pt", "{other}", "surfaces/../../1/surfaces/home.pt", "", "/"])
def test_a_name_leads_nowhere_else(read: Reader, builds: tuple[Path, Path], build: Path, name: str) -> None:  # noqa: F811
    shutil.copytree(builds[1], build.parent / "1")
    other = builds[1] / "surfaces" / "home.pt"
    document = json.loads((build / "manifest.json").read_text())
    digest = sha256(other.read_bytes()).hexdigest()
    document["surfaces"]["home"] |= {"file": name.format(other=other), "sha256": digest}
    (build / "manifest.json").write_text(json.dumps(document))
    assert "is no path within the build" in read(f"load {build}")


@pytest.mark.parametrize("linked", ["surfaces/home.pt", "surfaces", "manifest.json"])
def test_links_in_a_build_are_not_followed(read: Reader, build: Path, linked: str) -> None:
    (build.parent / "current").symlink_to(build)
    assert "error" not in read(f"load {build.parent / 'current'}")
    (build / linked).rename(build.parent / "elsewhere")
    (build / linked).symlink_to(build.parent / "elsewhere")
    assert "is or lies behind a link" in read(f"load {build}")


def graph(build: Path, content: bytes) -> None:
    """Another file for `home`, whose digest the manifest has."""
    document = json.loads((build / "manifest.json").read_text())
    document["surfaces"]["home"]["sha256"] = sha256(content).hexdigest()
    (build / "manifest.json").write_text(json.dumps(document))
    (build / "surfaces" / "home.pt").write_bytes(content)


def test_graphs_that_fit_no_manifest(read: Reader, build: Path) -> None:
    search = (build / "surfaces" / "search.pt").read_bytes()
    for content, words in (
        (b"PK broken", "can't be loaded: PytorchStreamReader failed"),
        (b"", "can't be loaded: "),
        (search, "can't be loaded: it takes 5 inputs and gives 1 outputs, and the manifest names 5 and 2"),
    ):
        graph(build, content)
        assert words in read(f"load {build}")


def test_a_spoilt_manifest_is_an_error_of_ours(read: Reader, build: Path) -> None:
    path, random, found = build / "manifest.json", Random(6), Counter[str]()
    document = json.loads(path.read_text())
    for content in ("", "{", "[]", "3", "[" * 100_000, '{"format": 1}', '{"format": true}'):
        path.write_text(content)
        assert read(f"load {build}").startswith("error[T701]")
    for _ in range(300):
        path.write_text(json.dumps(spoil(random, copy.deepcopy(document), UNREAD)))
        answer = read(f"load {build}")
        found[answer[6:10] if answer.startswith("error[") else "served"] += 1
    assert set(found) <= {"served", "T701", "T702", "T703", "T704", "T705", "T706", "T708"}
    assert found["T701"] > 100
    assert found["served"] > 15


def test_python_and_cpp_say_the_same(read: Reader, build: Path) -> None:
    import towerspec
    from towerspec.diagnostics import SpecError

    changes: list[dict[str, Any]] = [
        {"file": "../x"}, {"file": "surfaces"}, {"file": "no"}, {"sha256": ""}, {"sha256": 3}, {"outputs": []},
        {"outputs": [{"name": 1}]}, {"outputs": [{"name": "click"}, {"name": "click"}]}, {"targets": {"aoti": {}}},
        {"targets": 3},
    ]  # fmt: skip
    document = json.loads((build / "manifest.json").read_text())
    for change in changes:
        spoilt = copy.deepcopy(document)
        spoilt["surfaces"]["home"] |= change
        (build / "manifest.json").write_text(json.dumps(spoilt))
        with pytest.raises(SpecError) as error:
            list(towerspec.load(build).surfaces.values())
        assert read(f"load {build}") == f"error[T701]: {error.value.diagnostics[0].message}"
