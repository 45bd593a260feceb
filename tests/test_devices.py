"""Serving graphs run on the device they are loaded to: nothing in them is bound to the CPU.

Without a GPU, torch's `meta` device stands for it: it computes shapes alone, and refuses tensors of another device.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import towerspec
from towerspec.check import check
from towerspec.emit import constants, torchscript
from towerspec.emit.build import compile_spec
from towerspec.emit.manifest import surface_inputs
from towerspec.emit.python import render_surface
from towerspec.emit.verify import ROUNDING, difference
from towerspec.passes import optimise
from towerspec.runtime.samples import sample

SPECS = sorted((Path(__file__).parent.parent / "specs").glob("*.tower"))

# Loading compares constants, which meta tensors can't be; that they are never equal only keeps them apart.
ON_META = """
import sys, torch
library = torch.library.Library("aten", "IMPL")
library.impl("equal", lambda a, b: a is b, "Meta")
module = torch.jit.load(sys.argv[1], map_location="meta")
held = [node.output().toIValue() for node in module.graph.findAllNodes("prim::Constant")]
held = [x for x in [*held, *module.parameters(), *module.buffers()] if isinstance(x, torch.Tensor)]
assert held and all(x.is_meta for x in held)
if len(sys.argv) > 2:
    with torch.no_grad(), torch.jit.optimized_execution(False):
        assert all(x.is_meta for x in module(*(x.to("meta") for x in torch.load(sys.argv[2]))))
"""


def served(spec: Path) -> tuple[torch.jit.ScriptModule, list[torch.Tensor]]:
    """The frozen graph of a spec's first surface, and inputs of one request, whose candidates need no count."""
    model, graph = check(spec).sound()
    optimised = optimise(graph, graph.surfaces[0])
    folded, weights = constants.fold(optimised, {p.path: torch.zeros(p.shape) for _, p in optimised.params})
    rendered = render_surface(folded, model.path)
    module = getattr(torchscript.load_source(rendered.source, "served"), rendered.cls)()
    frozen = torchscript.freeze(torchscript.fill(module, weights).eval().requires_grad_(False))
    entries = [entry for entry in surface_inputs(model, optimised) if not entry.get("optional")]
    return frozen, list(sample(entries, (5,), 0).values())


def nodes(block: torch._C.Block | torch._C.Graph) -> Iterator[torch._C.Node]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from nodes(inner)


def bound(graph: torch._C.Graph) -> list[str]:
    """The nodes that make a tensor on a device which is not their inputs'."""
    found = []
    for node in nodes(graph):
        if node.kind() == "prim::Constant" and node.output().type().kind() == "DeviceObjType":
            found.append(str(node))
        schema = node.schema()
        arguments = torch._C.parse_schema(schema).arguments if "Device" in schema.split("->")[0] else []
        for argument, value in zip(arguments, node.inputs(), strict=False):
            follows = value.node().kind() == "prim::device" or node.kind().endswith("_like")
            if "Device" in str(argument.type) and not follows:
                found.append(str(node))
    return found


@pytest.mark.parametrize("spec", SPECS, ids=lambda p: p.stem)
def test_a_serving_graph_is_bound_to_no_device(spec: Path, tmp_path: Path) -> None:
    frozen, inputs = served(spec)
    assert bound(frozen.graph) == []
    (tmp_path / "surface.pt").write_bytes(torchscript.to_bytes(frozen))
    torch.save(inputs, tmp_path / "inputs")
    # Which rows take an arm is a question of numbers, which meta tensors don't have.
    arguments = [tmp_path / "surface.pt", *([] if "branch" in spec.read_text() else [tmp_path / "inputs"])]
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", ON_META, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("spec", SPECS, ids=lambda p: p.stem)
def test_a_serving_graph_runs_on_a_gpu(spec: Path, tmp_path: Path) -> None:
    compile_spec(check(spec), tmp_path / "build")
    here, there = (towerspec.load(tmp_path / "build", device).surfaces for device in ("cpu", "cuda"))
    for name, surface in here.items():
        for counts in ((0, 1), (7, 1), (3, 4)):
            inputs = surface.sample_inputs(*counts)
            found = there[name]({k: x.cuda() for k, x in inputs.items()})
            for head, x in surface(inputs).items():
                assert difference(found[head].cpu(), x) <= ROUNDING, (name, head, counts)


def test_what_is_bound_is_found() -> None:
    def fresh(x: torch.Tensor) -> torch.Tensor:
        return x + torch.zeros([2])

    def fixed(x: torch.Tensor) -> torch.Tensor:
        return x + torch.arange(2, device="cpu")

    def free(x: torch.Tensor) -> torch.Tensor:
        return x + torch.arange(2, device=x.device) + torch.zeros_like(x)

    with torchscript.quiet():
        found = [bound(torch.jit.script(f).graph) for f in (fresh, fixed, free)]
    assert [len(nodes) > 0 for nodes in found] == [True, True, False]
