"""No text of an author's becomes code, whatever a string, a comment or the name of a file holds."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import towerspec
from towerspec.check import check
from towerspec.emit.build import compile_spec

EVIL = [
    "x\nEVIL = 1\n#",
    'x"""\nEVIL = 1\n"""',
    "x\\",
    "x\r\nEVIL = 1",
    "x\u2028EVIL = 1",
    "{{ EVIL }}{% EVIL %}",
    "x' + EVIL + '",
]
SPEC = """model m  # {text}
include "{file}"
const label = "{text}"
request {{ place : category {{ values: ["{text}", label_b, "{{% raw %}}"], dim: 3 }} }}
candidate {{ a : number }}
trunk {{ z = mlp(concat(place, a, b), hidden: [4]) }}  # {text}
surface s {{
  tower {{
    head stars : multiclass {{ values: ["{text}", "other"] }}
    branch by place {{ "{text}" {{ head click : binary }}  else {{ head click : binary }} }}
  }}
}}
"""


def quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


@pytest.mark.parametrize("text", EVIL)
def test_texts_stay_texts(text: str, tmp_path: Path) -> None:
    folder = tmp_path / text.replace("/", "_")  # the spec's own path may hold anything
    folder.mkdir()
    (folder / "part.tower").write_text("candidate { b : number }\n")
    spec = folder / f"{text.replace('/', '_')}.tower"
    spec.write_text(SPEC.format(text=quoted(text), file="part.tower"))
    compile_spec(check(spec), tmp_path / "build")
    sources = list((tmp_path / "build").rglob("*.py"))
    assert len(sources) == 2
    for source in sources:
        found = {node.id for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, ast.Name)}
        assert "EVIL" not in found
    surface = towerspec.load(tmp_path / "build").surfaces["s"]
    known = surface({"place": [text], "a": [0.5], "b": [0.5]})
    number = surface({"place": [0], "a": [0.5], "b": [0.5]})
    assert known["click"] == number["click"]
