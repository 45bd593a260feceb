"""One trial of a spec: checked, compiled with drawn weights and options, loaded, called, compared with the oracle."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

import towerspec
from tests.fuzz.coverage import Coverage
from tests.fuzz.draw import Draw
from tests.fuzz.inputs import COUNTS, Call, alone, as_rows, draw_call
from tests.fuzz.oracle import Oracle, gap
from tests.fuzz.specs import MAIN
from tests.fuzz.weights import draw_weights
from towerspec.check import Checked, check
from towerspec.diagnostics import SpecError, render
from towerspec.emit import constants, torchscript
from towerspec.emit.build import Options, compile_spec
from towerspec.emit.manifest import surface_inputs
from towerspec.emit.python import render_surface
from towerspec.emit.torchscript import fill
from towerspec.emit.vocabularies import fitted_tables
from towerspec.ir.primitives import Input
from towerspec.passes import PIPELINE, optimise, slice_surface, stages

EXACT = 1e-9  # float64 against float64
ROUNDED = 2e-4  # float32 against float64
ROWS = 6  # of a call that are compared


class Failure(Exception):
    """What a trial found: its kind, by which findings are told apart, and the details."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind, self.detail = kind, detail


@dataclass(frozen=True)
class Plan:
    """How a spec is compiled and called."""

    seed: int
    level: int = 2
    without: tuple[str, ...] = ()
    logits: bool = False
    calls: int = 2


def draw_plan(seed: int) -> Plan:
    """One of the ways to compile, most of them at the default level with all passes."""
    draw = Draw(f"plan {seed}")
    names = [step.name for step in PIPELINE]
    without = tuple(draw.sample(names, draw.choice([1, 1, 2, 4]))) if draw.chance(0.4) else ()
    return Plan(seed, draw.choice([2, 2, 2, 2, 1, 0, 3]), without, draw.chance(0.4))


@dataclass
class Trial:
    """The state of one trial, in a folder of its own."""

    folder: Path
    plan: Plan
    coverage: Coverage = field(default_factory=Coverage)
    unstable: int = 0  # rows whose answer rounding alone moves too far to compare

    def run(self, files: Mapping[str, str]) -> None:
        """Raises `Failure` for whatever is wrong; other exceptions are internal errors."""
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        checked = check(self.folder / MAIN)
        if checked.report:
            raise Failure("refused", "\n".join(render(d) for d in checked.report.diagnostics))
        self.compile_and_call(checked)

    def compile_and_call(self, checked: Checked, surfaces: tuple[str, ...] = ()) -> None:
        """Compiles a sound spec and compares what is served with the oracle."""
        self.model, self.graph = checked.sound()
        self.draw = Draw(f"calls {self.plan.seed}")
        self.weights = draw_weights(self.graph, self.plan.seed)
        self.vocabularies = self._vocabularies()
        self.slices = {s: slice_surface(self.graph, s) for s in self.graph.surfaces}
        everyone = {prim.feature: _entry(prim) for _, prim in self.graph.inputs}
        self.oracle = Oracle(self.graph, self.weights, list(everyone.values()))
        self._compile(checked, surfaces)
        bundle = towerspec.load(self.folder / "build")
        self.methods = bundle.manifest["unified"]["methods"]
        self.unified, self.looked_at = bundle.unified(), self.draw.choice(list(bundle.surfaces))
        rows: list[tuple[str, dict[str, Tensor], dict[str, Tensor]]] = []
        for surface in bundle.surfaces:
            rows += self._surface(bundle, surface)
        self._together(everyone, rows)

    # ---- the compile -------------------------------------------------------------------------

    def _vocabularies(self) -> dict[str, list[int]]:
        """Raw ids for the rows of each fitted table, some of which have none."""
        tables = fitted_tables(self.model)
        return {
            path: [1_000_003 + 17 * i for i in self.draw.sample(range(3 * rows), self.draw.randint(1, rows))]
            for path, rows in tables.items()
        }

    def _compile(self, checked: Checked, surfaces: tuple[str, ...]) -> None:
        plan, weights = self.plan, self.folder / "weights.safetensors"
        save_file(self.weights, weights)
        (self.folder / "vocabularies.json").write_text(json.dumps(self.vocabularies))
        options = Options(
            plan.level, weights, 0, surfaces, plan.without, plan.logits, max_error=1e9 if plan.level == 3 else 0.02
        )
        try:
            compile_spec(checked, self.folder / "build", options)
        except SpecError as error:
            codes = [d.code for d in error.diagnostics]
            if codes == ["T606"] and self._rounds_badly():
                raise Unstable from error
            raise Failure(f"compile refuses: {codes[0]}", str(error)) from error

    def _rounds_badly(self) -> bool:
        """Whether float32 can't hold the model: rounding alone moves its answers by more than is allowed."""
        for surface, sliced in self.slices.items():
            entries = surface_inputs(self.model, sliced)
            call = draw_call(Draw("rounding"), [e for e in entries if e["name"] != COUNTS], wild=False)
            for row, request in enumerate(call.requests):
                mine = alone(call.inputs, entries, request, row)
                if max(self.oracle.sensitivity(surface, mine, 1e-6).values()) > ROUNDED / 4:
                    return True
        return False

    def note_passes(self, surface: str) -> None:
        """Counts the passes that change the surface's graph."""
        before = None
        for name, graph in stages(self.graph, surface, self.plan.level, self.plan.without, self.plan.logits):
            if before is None or graph.ops != before:
                self.coverage.add(f"pass.{name}")
            before = graph.ops

    # ---- a surface ---------------------------------------------------------------------------

    def _surface(self, bundle: Any, name: str) -> list[tuple[str, dict[str, Tensor], dict[str, Tensor]]]:
        surface = bundle.surfaces[name]
        exact = self._source(name) if self.plan.level < 3 and name == self.looked_at else None
        scripted = (
            torch.jit.load(str(self.folder / "build" / surface.entry["file"])) if name == self.looked_at else None
        )
        seen = []
        for _ in range(self.plan.calls):
            call = draw_call(self.draw, surface.inputs, self.draw.chance(0.3), self.vocabularies)
            inputs = as_rows(call, surface.inputs, self.vocabularies)
            tensors = [inputs[e["name"]] for e in surface.inputs if e["name"] in inputs]
            heads = surface.outputs
            answers = {
                "served": surface(call.inputs),
                "unified": dict(zip(heads, getattr(self.unified, self.methods[name])(*tensors), strict=False)),
            }
            if scripted is not None:
                answers["the file"] = dict(zip(heads, scripted(*tensors), strict=True))
            if exact is not None:
                wide = exact(*(x.double() if x.is_floating_point() else x for x in tensors))
                answers["source in float64"] = dict(zip(heads, wide, strict=True))
            self._shapes(name, surface, call, answers)
            seen += self._rows(name, surface, call, inputs, answers)
        return seen

    def _shapes(self, name: str, surface: Any, call: Call, answers: Mapping[str, Mapping[str, Tensor]]) -> None:
        count = sum(call.counts)
        for where, found in answers.items():
            for output in surface.entry["outputs"]:
                wanted = [count, *output["shape"][1:]]
                if output["name"] in found and list(found[output["name"]].shape) != wanted:
                    shape = list(found[output["name"]].shape)
                    raise Failure(f"shape: {where}", f"{name}.{output['name']} is {shape}, not {wanted}")

    def _rows(
        self,
        name: str,
        surface: Any,
        call: Call,
        inputs: Mapping[str, Tensor],
        answers: Mapping[str, Mapping[str, Tensor]],
    ) -> list[tuple[str, dict[str, Tensor], dict[str, Tensor]]]:
        """Compares some of a call's rows with what the oracle says of each by itself."""
        rows = list(range(sum(call.counts)))
        seen = []
        for row in self.draw.sample(rows, min(len(rows), ROWS)):
            request = call.requests[row]
            mine = alone(inputs, surface.inputs, request, row)
            wanted = self.oracle.answer(name, mine)
            wild = bool(call.wild["request"][request : request + 1].any() or call.wild["candidate"][row])
            for where, found in answers.items():
                exact = where == "source in float64"
                if wild and not exact:
                    continue  # float32 may well overflow
                self._compare(name, mine, where, {k: v[row] for k, v in found.items()}, wanted, exact)
            seen.append((name, mine, wanted))
        return seen

    def _compare(
        self,
        name: str,
        mine: Mapping[str, Tensor],
        where: str,
        found: Mapping[str, Tensor],
        wanted: Mapping[str, Tensor],
        exact: bool,
    ) -> None:
        allowed = EXACT if exact else ROUNDED
        far = {head: d for head, x in found.items() if (d := gap(x, wanted[head])) > allowed}
        if not far:
            return
        if self.plan.level == 3 and not exact and where != "unified":
            far = {h: d for h, d in far.items() if found[h].isnan().any() != wanted[h].isnan().any()}
        else:
            moved = self.oracle.sensitivity(name, mine, 1e-12 if exact else 1e-6)
            self.unstable += any(moved[h] > allowed / 4 for h in far)
            far = {h: d for h, d in far.items() if moved[h] <= allowed / 4}
        if far:
            shown = "; ".join(
                f"{h} is {found[h].tolist()}, not {wanted[h].tolist()} (by {d:.3g})" for h, d in far.items()
            )
            inputs = {k: x.tolist() for k, x in mine.items()}
            raise Failure(f"differs: {where}", f"surface {name}: {shown}\ninputs {inputs}")

    def _source(self, surface: str) -> Callable[..., Sequence[Tensor]]:
        """The surface's generated source in float64."""
        wide = {name: x.double() if x.is_floating_point() else x for name, x in self.weights.items()}
        plan = self.plan
        folded, mine = constants.fold(optimise(self.graph, surface, plan.level, plan.without, plan.logits), wide)
        rendered = render_surface(folded, self.model.path, plan.logits)
        module = getattr(torchscript.load_source(rendered.source, surface), rendered.cls)()
        return torchscript.fill(module.double().eval(), mine).requires_grad_(False)

    # ---- all surfaces ------------------------------------------------------------------------

    def _together(
        self,
        everyone: Mapping[str, Mapping[str, Any]],
        rows: Sequence[tuple[str, dict[str, Tensor], dict[str, Tensor]]],
    ) -> None:
        """The unified model's source in float64, on rows of all surfaces in one batch, in no order."""
        if not rows:
            return
        made = runpy.run_path(str(self.folder / "build" / "model.py"), run_name="generated")
        cls = next(c for c in made.values() if isinstance(c, type) and hasattr(c, "SURFACES"))
        model = fill(cls().double().eval(), self.weights)
        rows = self.draw.sample(list(rows), len(rows))
        features = {
            name: torch.cat([mine[name] if name in mine else self.oracle.filler(entry) for _, mine, _ in rows])
            for name, entry in everyone.items()
        }
        features = {k: x.double() if x.is_floating_point() else x for k, x in features.items()}
        surface = torch.tensor([cls.SURFACES.index(name) for name, _, _ in rows])
        with torch.no_grad():
            found = model(features, surface)
        for at, (name, mine, wanted) in enumerate(rows):
            heads = {h: x[at] for h, x in found.items() if h in wanted}
            self._compare(name, mine, "routed in float64", heads, wanted, exact=True)


def _entry(prim: Input) -> dict[str, Any]:
    """An input as a manifest has it, for any row of it."""
    dtype = {"int": "int64", "float": "float32"}[prim.dtype]
    return {"name": prim.feature, "dtype": dtype, "shape": ["N", *prim.shape], "level": "candidate"}


class Unstable(Exception):
    """A model that float32 can't hold: nothing is compared."""
