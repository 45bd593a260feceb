"""The compile, end to end, on the specs of the repository: what is written is the same model everywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import towerspec
from towerspec.check import check, check_text
from towerspec.diagnostics import SpecError
from towerspec.emit.build import Options, compile_spec
from towerspec.emit.python import render_surface
from towerspec.explain import explain_table
from towerspec.ir.cost import graph_cost
from towerspec.passes import optimise, slice_surface

ROOT = Path(__file__).parent.parent
SPECS = sorted((ROOT / "specs").glob("*.tower"))
QUICK = ROOT / "specs" / "quickstart.tower"

LOAD_ALONE = """
import sys, json, torch
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "towerspec":
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
module = torch.jit.load(sys.argv[1] + "/" + sys.argv[2])
inputs = torch.load(sys.argv[3])
torch.save(list(module(*inputs)), sys.argv[4])
"""

LIGHT = """
import sys
from towerspec.cli import main
try:
    main({arguments!r})
except SystemExit as end:
    assert not end.code
assert "torch" not in sys.modules
"""


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("quick") / "build"
    compile_spec(check(QUICK), out)
    return out


def manifest(build: Path) -> dict[str, Any]:
    return json.loads((build / "manifest.json").read_text())


@pytest.fixture(scope="module", params=SPECS, ids=lambda p: p.stem)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A spec of the repository, and its build."""
    out = tmp_path_factory.mktemp("built") / request.param.stem
    compile_spec(check(request.param), out)
    return request.param, out


def test_every_surface_equals_the_unified_model(built: tuple[Path, Path]) -> None:
    bundle = towerspec.load(built[1])
    unified = bundle.unified()
    for name, surface in bundle.surfaces.items():
        for counts in ((0, 1), (1, 1), (3, 2)):
            inputs = surface.sample_inputs(*counts, seed=3)
            found = surface(inputs)
            wanted = getattr(unified, name)(*surface.boundary.prepare(inputs))
            for x, y in zip(found.values(), wanted, strict=True):
                torch.testing.assert_close(x, y, atol=1e-4, rtol=1e-4, equal_nan=True)
        entry = bundle.manifest["surfaces"][name]
        assert list(found) == [o["name"] for o in entry["outputs"]]
        assert [i["name"] for i in entry["inputs"]] == list(inputs)


def test_parameters_and_flops_are_what_explain_says(built: tuple[Path, Path]) -> None:
    spec, build = built
    _, graph = check(spec).sound()
    rows, entries = explain_table(check(spec)), manifest(build)["surfaces"]
    assert rows.keys() == entries.keys()
    for name, entry in list(entries.items())[:4]:
        said = rows[name]
        assert said["inputs"] == [i["name"] for i in entry["inputs"] if i["kind"] != "counts"]
        assert all(said[key] == entry[key] for key in ("parameters", "flops", "bytes"))
        module = served((build / entry["source"]).read_text())
        assert size(module) == said["bytes"]  # constants that are folded into others are in no file
        plain = served(render_surface(optimise(graph, name, level=1), str(spec)).source)
        assert sum(x.numel() for x in [*plain.parameters(), *plain.buffers()]) == said["parameters"]
        if "branch" not in spec.read_text():  # a request runs one arm, and is said to pay for the dearest
            inputs = towerspec.load(build).surfaces[name].sample_inputs(candidates=3, requests=2)
            counter = FlopCounterMode(display=False)  # it counts an attention by its products alone
            with counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
                module(*inputs.values())
            assert counter.get_total_flops() == 2 * said["flops"]["request"] + 6 * said["flops"]["candidate"]


def size(module: torch.nn.Module) -> int:
    return sum(x.numel() * x.element_size() for x in [*module.parameters(), *module.buffers()])


def served(source: str) -> torch.nn.Module:
    """The module of a surface's generated source."""
    namespace: dict[str, Any] = {"__name__": "served"}
    exec(compile(source, "served.py", "exec"), namespace)
    classes = [c for c in namespace.values() if isinstance(c, type) and issubclass(c, torch.nn.Module)]
    return classes[-1]().eval()  # the parts come before what is made of them


def test_several_threads_share_a_surface(quick: Path) -> None:
    bundle = towerspec.load(quick)
    calls = [(name, seed) for seed in range(20) for name in ("home", "search")]

    def score(call: tuple[str, int]) -> list[torch.Tensor]:
        surface = bundle.surfaces[call[0]]  # the first calls load it, at once
        return list(surface(surface.sample_inputs(candidates=1 + call[1], seed=call[1])).values())

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(score, calls))
    for call, found in zip(calls, together, strict=True):
        for x, y in zip(found, score(call), strict=True):
            torch.testing.assert_close(x, y, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("spec", sorted((ROOT / "specs").glob("*.tower")), ids=lambda p: p.stem)
def test_a_slice_holds_nothing_of_another_surface(spec: Path) -> None:
    _, graph = check(spec).sound()
    own = {name: {p.path for op, p in graph.params if op.owner == name} for name in graph.surfaces}
    for surface in graph.surfaces:
        for level in (0, 1, 2):
            sliced = optimise(graph, surface, level)
            assert {op.owner for op in sliced.ops} <= {None, surface}
            paths = {p.path for _, p in sliced.params}
            assert all(not paths & own[other] for other in graph.surfaces if other != surface)
            assert graph_cost(sliced).parameters <= graph_cost(slice_surface(graph, surface)).parameters


def test_a_surface_file_loads_without_towerspec(quick: Path, tmp_path: Path) -> None:
    surface = towerspec.load(quick).surfaces["search"]
    inputs = surface.sample_inputs(candidates=5)
    torch.save(list(inputs.values()), tmp_path / "in")
    file = manifest(quick)["surfaces"]["search"]["file"]
    subprocess.run(
        [sys.executable, "-c", LOAD_ALONE, quick, file, tmp_path / "in", tmp_path / "out"], check=True, cwd="/"
    )
    for x, y in zip(torch.load(tmp_path / "out"), surface(inputs).values(), strict=True):
        assert torch.equal(x, y)


def test_the_same_compile_gives_the_same_bytes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "towerspec", "compile", str(QUICK), "-o"]
    for name in ("a", "b"):
        subprocess.run([*command, str(tmp_path / name)], check=True, capture_output=True)
    files = [p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file()]
    assert len(files) == 7
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_adding_a_surface_changes_no_parameter_of_the_others() -> None:
    text = QUICK.read_text()
    more = text + "\nsurface related {\n    tower {\n        head click : binary\n    }\n}\n"
    before, after = ({p.path: p for _, p in check_text(t).sound()[1].params} for t in (text, more))
    assert before.items() <= after.items()
    assert all(".related." in path for path in after.keys() - before.keys())


def test_weights_are_taken_by_name_and_refused_where_they_do_not_fit(quick: Path, tmp_path: Path) -> None:
    shapes = manifest(quick)["weights"]["parameters"]
    weights = {name: torch.rand(shape) for name, shape in shapes.items()}
    save_file(weights, tmp_path / "good.safetensors")
    compile_spec(check(QUICK), tmp_path / "build", Options(weights=tmp_path / "good.safetensors"))
    bad = {**weights, "extra": torch.zeros(1), "trunk.shared.gate.home.weight": torch.zeros(2)}
    del bad["tables.items.weight"]
    save_file(bad, tmp_path / "bad.safetensors")
    with pytest.raises(SpecError) as error:
        compile_spec(check(QUICK), tmp_path / "build", Options(weights=tmp_path / "bad.safetensors"))
    assert [d.code for d in error.value.diagnostics] == ["T601", "T602", "T603"]
    assert towerspec.load(tmp_path / "build").surfaces["home"] is not None  # the earlier build is whole


def test_a_row_of_one_surface_gives_no_gradient_to_another(quick: Path) -> None:
    source: dict[str, Any] = {"__name__": "generated"}
    exec(compile((quick / "model.py").read_text(), "model.py", "exec"), source)
    model = source["Quickstart"](seed=1)
    rows = towerspec.load(quick).surfaces["search"].sample_inputs(candidates=1, requests=6)
    rows.pop("candidates_per_request")
    out = model(rows, torch.full([6], model.SURFACES.index("search")))
    out["click.logit"].sum().backward()
    grads = {name: p.grad for name, p in model.named_parameters()}
    assert all(g is None or not g.any() for name, g in grads.items() if ".home." in name)
    assert any(g is not None and g.any() for name, g in grads.items() if ".search." in name)


def test_inputs_are_checked_by_name_type_shape_and_rows(quick: Path) -> None:
    surface = towerspec.load(quick).surfaces["home"]
    good = surface.sample_inputs(candidates=3)
    changes: dict[str, dict[str, Any]] = {
        "T702": {k: v for k, v in good.items() if k != "item"},
        "T703": {**good, "itm": good["item"]},
        "T704": {**good, "item": good["item"].float() + 0.5},
        "T705": {**good, "item": good["item"][:, None]},
        "T706": {**good, "item": good["item"][:2]},
    }
    for code, inputs in changes.items():
        with pytest.raises(SpecError) as error:
            surface(inputs)
        assert [d.code for d in error.value.diagnostics] == [code]
    with pytest.raises(SpecError) as error:
        surface({**good, "item": torch.tensor([0, 1, 10_000])}, strict=True)
    assert error.value.diagnostics[0].code == "T707"


def test_a_target_that_is_no_build_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("keep me")
    with pytest.raises(SpecError) as error:
        compile_spec(check(QUICK), tmp_path)
    assert error.value.diagnostics[0].code == "T608"
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_light_commands_do_not_import_torch() -> None:
    for arguments in (["check", str(QUICK)], ["fmt", "--check", str(QUICK)], ["explain", str(QUICK)]):
        code = LIGHT.format(arguments=arguments)
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_serving_needs_no_numpy(quick: Path) -> None:
    """The core install has none: a call with lists gives tensors there."""
    code = (
        "import sys; sys.modules['numpy'] = None; import towerspec, importlib.util as u; found = u.find_spec\n"
        "import towerspec.runtime.bundle as b; b.find_spec = lambda name: None if name == 'numpy' else found(name)\n"
        f"s = towerspec.load({str(quick)!r}).surfaces['home']\n"
        "x = {k: v.tolist() for k, v in s.sample_inputs(candidates=3).items()}\n"
        "print([tuple(y.shape) for y in s(x).values()])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[(3,), (3,)]", done.stderr
