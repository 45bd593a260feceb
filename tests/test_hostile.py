"""Bad input of any kind: a diagnostic, soon, in bounded memory; never a traceback, never code of its author's."""

from __future__ import annotations

import ast
import os
import resource
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.mutants import probe
from tests.fuzz.mutate import ROOT, corpus, mutate
from towerspec.check import check_text
from towerspec.emit.python import render_model, render_surface
from towerspec.passes import optimise, slice_surface

CORPUS = corpus()
SPECS = sorted((ROOT / "specs").glob("*.tower"))
SECONDS, BYTES = 60, 3 << 30  # guards against hanging and swallowing the machine, not measurements
BASE = "model m\ncandidate {{ x : number }}\ntrunk {{ h = {} }}\nsurface s {{ tower {{ head y : binary }} }}\n"


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32))
def test_spoilt_specs(seed: int) -> None:
    probe(mutate(Random(seed), CORPUS))


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=300))
def test_any_text(text: str) -> None:
    probe(text)


@pytest.mark.parametrize("spec", SPECS, ids=lambda p: p.stem)
def test_truncated_specs(spec: Path) -> None:
    text = spec.read_text()
    step = max(37, len(text) // 60)
    for end in range(0, len(text), step):
        probe(text[:end])


def run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, within bounds of time and memory."""
    return subprocess.run(
        [sys.executable, "-m", "towerspec", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES)),
    )


MEGABYTES = 5 << 20
BIG = {
    "zeros": b"\0" * MEGABYTES,
    "noise": Random(0).randbytes(MEGABYTES),
    "one_line": b"x" * MEGABYTES,
    "comment": b"# " + b"c" * MEGABYTES,
    "text": b'model m\nconst a = "' + b"t" * MEGABYTES + b'"',
    "brackets": b"(" * 10_000,
    "square": b"model m\ntrunk { h = mlp(x, hidden: " + b"[" * 10_000 + b"1" + b"]" * 10_000 + b") }",
    "curly": b"model m\n" + b"surface s { tower { branch by a { b {" * 3_000,
    "calls": b"model m\ntrunk { h = " + b"sum(" * 10_000 + b"x" + b")" * 10_000 + b" }",
    "unbalanced": b")]}" * 10_000,
    "errors": b"model m\n" + b"trunk { h = nothing(x) }\n" * 20_000,
    "names": b"model " + b"n" * 500_000,
    "surfaces": b"model m\n" + b"".join(b"surface s%d { tower { head y : binary } }\n" % i for i in range(15_000)),
    "numbers": b"model m\nconst a = " + b"9" * 500_000,
    "huge_layer": b"model m candidate { x : number } trunk { h = mlp(x, hidden: [65536, 65536, 65536]) }"
    b" surface s { tower { head y : binary } }",
    "many_layers": b"model m candidate { x : number } trunk { h = cross(x, layers: 1_000_000_000) }"
    b" surface s { tower { head y : binary } }",
    "huge_table": b"model m table t { rows: 1_099_511_627_776, dim: 65_536 } candidate { x : category { table: t } }"
    b" trunk { h = linear(x, width: 1) } surface s { tower { head y : binary } }",
}


@pytest.mark.parametrize("name", BIG)
def test_large_and_deep_files(name: str, tmp_path: Path) -> None:
    (tmp_path / "big.tower").write_bytes(BIG[name])
    for command in (["check", "big.tower"], ["fmt", "--check", "big.tower"]):
        done = run(command, tmp_path)
        assert done.returncode == 1 or name == "huge_layer", (done.returncode, done.stderr[-2000:])
        assert "Traceback" not in done.stderr
        assert "internal error" not in done.stderr
        assert len(done.stdout) + len(done.stderr) < 400_000


@pytest.mark.parametrize("kind", ["self", "cycle", "up", "absolute", "link", "folder", "device"])
def test_includes_stay_in_their_folder(kind: str, tmp_path: Path) -> None:
    outside, inside = tmp_path / "secret.tower", tmp_path / "spec"
    inside.mkdir()
    outside.write_text("candidate { secret : number }\n")
    targets = {
        "self": "main.tower", "cycle": "other.tower", "up": "../secret.tower", "absolute": str(outside),
        "link": "link.tower", "folder": ".", "device": "/dev/zero",
    }  # fmt: skip
    (inside / "other.tower").write_text('include "main.tower"\n')
    os.symlink(outside, inside / "link.tower")
    (inside / "main.tower").write_text(f'model m\ninclude "{targets[kind]}"\n' + BASE.format("concat(x)")[8:])
    done = run(["check", "main.tower"], inside)
    assert done.returncode == 1, done.stdout
    assert "secret :" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr


HOSTILE = [
    '"); import os; os.system("x"); ("',
    "'''",
    '"""',
    "\\",
    "\n    import os",
    "{{ cycler.__init__.__globals__ }}",
    "{% for x in y %}",
    "${x}",
    "#",
    "\u2028import os",
    "\x00",
]


def escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


@pytest.mark.parametrize("value", HOSTILE)
def test_texts_never_become_code(value: str) -> None:
    text = with_text(escaped(value), " ".join(value.split()))
    if not check_text(text).report.diagnostics:  # a text may be refused
        assert shape(text) == shape(with_text("plain", ""))


def with_text(value: str, comment: str) -> str:
    return f"""model m
request {{ kind : category {{ values: [other, "{value}"] }} }}
candidate {{ x : number }}
trunk {{ h = concat(x, kind) }}  # {comment}
surface s {{ tower {{ branch by kind {{ other {{ head y : binary }} else {{ head y : binary }} }} }} }}
"""


def shape(text: str) -> list[str]:
    """What the generated sources do: their syntax trees, which comments and texts are no part of."""
    model, graph = check_text(text).sound()
    sources = [render_model(graph, {s: slice_surface(graph, s) for s in graph.surfaces}, model.path)]
    sources += [render_surface(optimise(graph, s), model.path).source for s in graph.surfaces]
    return [ast.dump(ast.parse(source)) for source in sources]


NAMES = [
    "class", "self", "None", "__init__", "_x", "forward", "torch", "print", "exec", "F", "f", "nn", "Tensor", "tensor",
    "Part", "part", "n", "request_", "expand", "type", "id", "import", "λ", "x" * 65, "rows", "features", "out", "key",
    "len", "super", "surface_", "seed",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_are_refused_or_harmless(name: str) -> None:
    for text in (
        BASE.format("linear(x, width: 2)").replace("h =", f"{name} ="),
        BASE.format("linear(x, width: 2)").replace("x", name),
        BASE.format("linear(x, width: 2)").replace(" y :", f" {name} :"),
        BASE.format("linear(x, width: 2)").replace("surface s", f"surface {name}"),
        BASE.format("linear(x, width: 2)").replace("model m", f"model {name}"),
    ):
        checked = check_text(text)
        if checked.report.diagnostics:
            continue
        model, graph = checked.sound()
        source = render_model(graph, {s: slice_surface(graph, s) for s in graph.surfaces}, model.path)
        namespace: dict[str, object] = {"__name__": "generated"}
        exec(compile(source, "model.py", "exec"), namespace)
        made = [c for c in namespace.values() if isinstance(c, type) and hasattr(c, "SURFACES")]
        assert len(made) == 1
        made[0](seed=0)
