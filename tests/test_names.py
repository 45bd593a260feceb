"""What a spec names and what the generator names never meet: any name, at any kind of place, compiles and answers."""

from __future__ import annotations

import ast
import builtins
import keyword
from pathlib import Path

import pytest
import torch
from torch import nn

import towerspec
from towerspec.check import Checked, check, check_text
from towerspec.emit import helpers, names
from towerspec.emit.build import compile_spec
from towerspec.emit.names import path_of
from towerspec.ir.builder import NamesakeError, Paths

ROOT = Path(__file__).parents[1]

# Every kind of name that a spec gives: `{0}`, `{1}`, and so on. Each gets a name of its own.
SPEC = """model {0}
const {1} = [4]
template {2}({3}, {4}: 3) {{ {5} = linear({3}, width: {4})  {6} = mlp({5}, hidden: {1}) }}
table {7} {{ rows: 9, dim: 4 }}
request {{ {8} : category {{ values: [{9}, {10}, "other one"], dim: 3 }}  {11} : sequence {{ of: {7}, length: 3 }} }}
candidate {{ {12} : category {{ table: {7} }}  {13} : number }}
trunk {{ {14} = din({12}, {11}, hidden: [4])
  {15} = mmoe({2}(concat({8}, {12}, {13}, {14})), experts: 2, hidden: [4]) }}
surface {16} {{
  request {{ {18} : bag {{ rows: 5, dim: 3 }} }}
  candidate {{ {19} : number }}
  {20} = mlp(concat({18}, {19}), hidden: [3])
  tower {{
    layers: [4]
    fuse {20} after 1 with gate
    fuse {20} after 1 with sum
    head {21} : binary
    branch by {8} {{
      {9} {{ layers: [3] head {22} : binary  head {23} : product({21}, {22}) }}
      {10} {{ head {22} : binary {{ weight: 0.5 }} }}
      else {{ head {22} : binary }}
    }}
  }}
  calibrate {21} with platt by {8}
}}
surface {17} {{ tower {{ head {21} : binary  head {22} : binary }} }}
"""
COUNT = 24
PLAIN = [f"plain{i}" for i in range(COUNT)]
GENERATED = {
    *("_part_0", "part_0", "part_1", "click_logit", "layer_0", "concat", "linear", "folded", "home_tower", "Packed"),
    *("tables", "trunk", "surfaces", "features", "heads", "SURFACES", "REQUEST", "Part", "layers", "fuse_x"),
    *("calibrate", "weight", "bias", "tower", "children", "type", "half", "class", "annotate", "List", "Dict", "aten"),
}
TAKEN = sorted(
    {
        *dir(torch.jit.ScriptModule),
        *dir(nn.Module()),
        *dir(nn.ModuleList()),
        *dir(builtins),
        *keyword.kwlist,
        *keyword.softkwlist,
        *vars(helpers),
        *names.RESERVED,
        *GENERATED,
    }
)


def refusal(word: str) -> str:
    """The code of the error that a name gets, if it gets one."""
    found = [d for d in check_text(SPEC.format(word, *PLAIN[1:])).report if d.severity == "error"]
    return found[0].code if found else ""


WORDS = [word for word in TAKEN if not refusal(word)]


def spec(words: list[str]) -> str:
    """The spec with each of its places named by another of the words; plain names where there are too few."""
    return SPEC.format(*words, *PLAIN[len(words) :])


def checked(words: list[str]) -> Checked:
    found = check_text(spec(words))
    assert not [d for d in found.report if d.severity == "error"], [d.message for d in found.report]
    return found


def test_only_underscores_and_words_of_the_language_are_refused() -> None:
    for word in set(TAKEN) - set(WORDS):
        marked = word.startswith("_") or word.endswith("__") or word == "candidates_per_request"
        assert refusal(word) == ("T212" if marked else "T107"), word
    assert {"children", "type", "half", "class", "training", "forward", "graph", "n", "out", "part_1"} <= set(WORDS)


def rolled(shift: int) -> list[list[str]]:
    """The words in groups that fill all places, each word at another place for each shift."""
    groups = [WORDS[i : i + COUNT] for i in range(0, len(WORDS), COUNT)]
    return [[*group[shift % len(group) :], *group[: shift % len(group)]] for group in groups]


@pytest.mark.parametrize("group", rolled(0), ids=lambda group: group[0])
def test_any_name_compiles_and_answers(group: list[str], tmp_path: Path) -> None:
    answers(checked(group), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("shift", range(1, COUNT))
def test_any_name_compiles_and_answers_at_every_place(shift: int, tmp_path: Path) -> None:
    for i, group in enumerate(rolled(shift)):
        answers(checked(group), tmp_path / str(i))


@pytest.mark.parametrize(
    "length", [pytest.param(n, marks=pytest.mark.slow if n not in (58, 64) else ()) for n in range(3, 65)]
)
def test_a_name_of_any_length_compiles_and_answers(length: int, tmp_path: Path) -> None:
    """Generated lines are wrapped where names make them long."""
    answers(checked([f"{'x' * (length - 2)}{i:02}" for i in range(COUNT)]), tmp_path)


def answers(found: Checked, folder: Path) -> None:
    """Compiles a spec, and calls each surface alone and by its method of the unified model."""
    compile_spec(found, folder / "named")
    bundle = towerspec.load(folder / "named")
    unified = bundle.unified()
    assert found.model is not None
    assert list(bundle.surfaces) == list(found.model.surfaces)
    for name, surface in bundle.surfaces.items():
        inputs = surface.sample_inputs(5)
        scores = surface(inputs)
        assert tuple(scores) == found.model.surfaces[name].heads
        with torch.no_grad():
            whole = getattr(unified, bundle.manifest["unified"]["methods"][name])(*inputs.values())
        for mine, theirs in zip(scores.values(), whole, strict=True):
            assert torch.allclose(mine, theirs, atol=1e-5, equal_nan=True)
    paths = {path_of(path) for path in unified.state_dict()}
    assert paths == set(bundle.manifest["weights"]["parameters"])


@pytest.mark.parametrize("spec", ["quickstart", "view_types", "kuairand"])
def test_the_generator_names_nothing_that_a_spec_could(
    spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: set[str] = set()
    fresh = names.Names.fresh

    def record(self: names.Names, base: str) -> str:
        given.add(name := fresh(self, base))
        return name

    monkeypatch.setattr(names.Names, "fresh", record)
    compile_spec(check(ROOT / "specs" / f"{spec}.tower"), tmp_path / "build")
    sources = [path.read_text() for path in sorted((tmp_path / "build").rglob("*.py"))]
    assert len(sources) > 1
    assert not given & names.RESERVED
    assert not [name for name in given if name.startswith("_")]
    for source in sources:
        generated = [c for c in ast.parse(source).body if isinstance(c, ast.ClassDef) and c.name not in names.HELPERS]
        found = [node for c in generated for node in ast.walk(c) if isinstance(node, ast.Name)]
        ours = {node.id for node in found if isinstance(node.ctx, ast.Store)} - given
        assert {name for name in ours if not name.startswith("_")} <= names.RESERVED | {"SURFACES", "REQUEST"}


FUSED = """model m
candidate {{ a : number {{ width: 4 }} }}
trunk {{ z = concat(a) }}
surface s {{
  x = linear(a, width: 3)
  x_1 = linear(a, width: 3)
  tower {{ layers: [4, 4] fuse x after 0 with concat fuse x_1 after 0 with concat {fusions} head click : binary }}
}}
"""
LINES = [f"fuse {x} after {depth} with {kind}" for x in ("x", "x_1") for depth in (1, 2) for kind in ("sum", "gate")]


def parameters(*fusions: str) -> dict[str, tuple[int, ...]]:
    _, graph = check_text(FUSED.format(fusions=" ".join(fusions))).sound()
    return {param.path: param.shape for _, param in graph.params}


def test_a_fusion_keeps_its_parameters_names_whatever_else_is_fused() -> None:
    alone = {line: parameters(line) for line in LINES}
    for line, mine in alone.items():
        for other in LINES:
            for both in (parameters(line, other), parameters(other, line)):
                assert set(mine) <= set(both), (line, other)
                assert len(both) == len(mine) + len(alone[other]) - len(parameters())
    assert set(parameters(*LINES)) == set().union(*alone.values())


def test_two_statements_never_share_a_parameter() -> None:
    paths = Paths()
    paths.declare("trunk.z.gate.home.weight", "trunk.z")
    paths.declare("trunk.z.gate.home.weight", "trunk.z")
    for path in ("trunk.z.gate.home.weight", "trunk.z.gate", "trunk.z.gate.home.weight.more"):
        with pytest.raises(NamesakeError, match="would be parameters at one place"):
            paths.declare(path, "trunk.z.gate")


def test_what_a_surface_computes_decides_its_digest(tmp_path: Path) -> None:
    text = (ROOT / "specs" / "view_types.tower").read_text()
    edits = {"as it is": text, "commented": f"# a line\n\n{text}", "spaced": text.replace(" : ", "   :  ")}
    digests = []
    for name, edited in edits.items():
        spec = tmp_path / "view_types.tower"
        spec.write_text(edited)
        document = compile_spec(check(spec), tmp_path / name)
        digests.append((document["unified"]["sha256"], {s: e["sha256"] for s, e in document["surfaces"].items()}))
    assert digests[0] == digests[1] == digests[2]
