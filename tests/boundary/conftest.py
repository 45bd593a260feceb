"""The C++ reader as a process that is asked line by line, and a build of the spec in docs/inputs.md."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from tests.conftest import ROOT, built
from towerspec.check import check
from towerspec.emit.build import Options, compile_spec
from towerspec.runtime import Bundle, load
from towerspec.train.module import build_module

DOC = (ROOT / "docs" / "inputs.md").read_text(encoding="utf-8")
SPEC = next(block for block in re.findall(r"^```\n(.*?)^```", DOC, re.MULTILINE | re.DOTALL) if "model" in block)
USERS = [7, "anna", 2**63 + 1 - 2**64, "100"]


class Answers:
    """`answers.cpp`, for as long as tests ask."""

    def __init__(self, program: Path) -> None:
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, *words: object) -> Any:
        """What it makes of an order; texts come as their bytes, one character each."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the program ended with {self.process.wait()} at {words}"
        return json.loads(line)


def said(answer: dict[str, str]) -> str:
    """The text of an answer that is an error."""
    (text,) = answer.values()
    return text.encode("latin-1").decode()


@pytest.fixture(scope="session")
def answers() -> Iterator[Answers]:
    made = Answers(built(Path(__file__).parent, "answers") / "answers")
    yield made
    made.process.stdin.close()  # type: ignore[union-attr]
    assert made.process.wait() == 0


@dataclass(frozen=True)
class Documented:
    """The spec of docs/inputs.md, and its build."""

    spec: Path
    build: Path
    bundle: Bundle


@pytest.fixture(scope="session")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Documented:
    folder = tmp_path_factory.mktemp("inputs")
    spec = folder / "inputs.tower"
    spec.write_text(SPEC, encoding="utf-8")
    weights = {k: v.detach().clone() for k, v in build_module(check(spec)).state_dict().items()}
    save_file(weights, folder / "w.safetensors")
    (folder / "vocabularies.json").write_text(json.dumps({"tables.users": USERS}))
    compile_spec(check(spec), folder / "build", Options(weights=folder / "w.safetensors"))
    return Documented(spec, folder / "build", load(folder / "build"))
