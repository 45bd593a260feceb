"""Scores every impression of the last day with each artefact of a build, and reports how far they differ.

python examples/kuairand/score.py --data DIR
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from calls import CANDIDATES, COUNTS, Arrays, Rows, arrays
from prepare import DATA, REPO, SPEC, prepare
from safetensors.numpy import save_file

import towerspec
from towerspec.check import check
from towerspec.check.model import Model
from towerspec.emit.build import Options, compile_spec
from towerspec.layers.features import Number
from towerspec.runtime import Surface

CPP = REPO / "build" / "cpp" / "towerspec_score"
ROUNDING = 1e-5  # between float32 graphs that compute the same probabilities in another order
PAIRS = [*itertools.combinations(["file", "C++", "unified.pt", "model.py"], 2), ("file", "alone")]
EXACT = [("file", "C++")]  # the same graph on the same calls

Scores = dict[str, Arrays]  # by surface and head


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Scores the last day's impressions with each artefact of a build.")
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of the raw files; KUAIRAND_DIR by default")
    parser.add_argument("--build", type=Path, help="a build of the spec; without it, one is compiled, untrained")
    parser.add_argument("--cpp", type=Path, default=CPP if CPP.is_file() else None, help="the C++ program")
    args = parser.parse_args()
    model, _ = check(SPEC).sound()
    splits = dict(prepare(args.data, model))
    with tempfile.TemporaryDirectory() as scratch:
        build = args.build or untrained(model, splits["train"], Path(scratch))
        found = score(build, splits["test"], args.cpp)
    print(report(splits["test"], found))
    if args.cpp is None:
        print("without the C++ program: build it as docs/serving-cpp.md says, or name it with --cpp")
    return 0 if agree(found) else 1


def untrained(model: Model, train: pa.Table, folder: Path) -> Path:
    """A build with the seed's parameters and the numbers' own means and deviations.

    Without those, numbers in the thousands drive each probability to 0 or 1, where all artefacts agree.
    """
    compile_spec(check(SPEC), folder / "seed")
    weights = {name: x.numpy() for name, x in towerspec.load(folder / "seed").unified().state_dict().items()}
    for feature in model.features.values():
        if isinstance(feature.kind, Number):
            x = train[feature.name].to_numpy().astype(np.float64)
            x = np.log1p(x) if feature.kind.transform == "log1p" else x
            weights[f"{feature.key}.mean"] = np.array([np.nanmean(x)], dtype=np.float32)
            weights[f"{feature.key}.std"] = np.array([np.nanstd(x)], dtype=np.float32)
    save_file(weights, folder / "weights.safetensors")
    compile_spec(check(SPEC), folder / "build", Options(weights=folder / "weights.safetensors"))
    return folder / "build"


def score(build: Path, table: pa.Table, cpp: Path | None = None) -> dict[str, Scores]:
    """What each artefact of a build says of a prepared table's rows, by artefact, surface and head.

    `file` is each surface's own file in Python, on requests with their candidates; `alone` is the same file with
    a request for each candidate; `C++` is the same file in the C++ program. `unified.pt` is the unified model's method
    for the surface, `model.py` its generated source's `forward`, on rows of all surfaces together.
    """
    bundle = towerspec.load(build)
    unified, surfaces = bundle.unified(), bundle.surfaces
    rows = [Rows(name, s.inputs, table) for name, s in surfaces.items() if name in set(table["surface"].to_pylist())]
    found = {
        "file": by_calls(rows, lambda surface, call: surfaces[surface](call)),
        "alone": by_calls(rows, lambda surface, call: surfaces[surface](call), alone=True),
        "unified.pt": by_calls(rows, lambda surface, call: method(unified, surfaces[surface], call)),
        "model.py": forward(build / "model.py", unified, surfaces, table),
    }
    if cpp is not None:
        found["C++"] = by_calls(rows, lambda surface, call: run(cpp, build, surface, call))
    return found


# ---- artefacts ---------------------------------------------------------------------------------


def by_calls(surfaces: Sequence[Rows], serve: Callable[[str, Arrays], Arrays], alone: bool = False) -> Scores:
    """What a server of single surfaces says of all rows."""
    scores: Scores = {}
    for rows in surfaces:
        parts = [serve(rows.surface, call) for call in rows.calls(alone)]
        scores[rows.surface] = {head: np.concatenate([part[head] for part in parts]) for head in parts[0]}
    return scores


def method(unified: torch.jit.ScriptModule, surface: Surface, call: Arrays) -> Arrays:
    """The unified model's method for one surface."""
    with torch.inference_mode():
        outputs = getattr(unified, surface.name)(*surface.boundary.prepare(call))
    return {head: x.numpy() for head, x in zip(surface.outputs, outputs, strict=True)}


def forward(source: Path, unified: torch.jit.ScriptModule, surfaces: Mapping[str, Surface], table: pa.Table) -> Scores:
    """The generated source's `forward(features, surface)`, on rows in the order of time, whatever their surface."""
    model = generated(source)
    model.load_state_dict(unified.state_dict())
    entries = {e["name"]: e for surface in surfaces.values() for e in surface.inputs if e["name"] != COUNTS}
    tables = {name: x for surface in surfaces.values() for name, x in surface.boundary.tables.items()}
    features = {name: torch.from_numpy(x) for name, x in arrays(list(entries.values()), table).items()}
    features |= {name: table.look_up(features[name]) for name, table in tables.items()}
    names = np.asarray(table["surface"])
    index = torch.tensor([model.SURFACES.index(name) for name in names])
    order = torch.from_numpy(np.argsort(table["time_ms"].to_numpy(), kind="stable"))
    found: Arrays = {}
    with torch.inference_mode():
        for rows in order.split(CANDIDATES):
            for head, x in model({name: feature[rows] for name, feature in features.items()}, index[rows]).items():
                found.setdefault(head, np.full(len(names), np.nan, np.float32))[rows.numpy()] = x.numpy()
    return {name: {head: found[head][names == name] for head in s.outputs} for name, s in surfaces.items()}


def generated(source: Path) -> Any:
    """The model of a generated file."""
    spec = importlib.util.spec_from_file_location("generated_model", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return next(c for c in vars(module).values() if hasattr(c, "SURFACES"))().eval()


def run(program: Path, build: Path, surface: str, call: Arrays) -> Arrays:
    """The C++ program."""
    with tempfile.TemporaryDirectory() as scratch:
        inputs = Path(scratch) / "inputs.safetensors"
        save_file({name: np.ascontiguousarray(x) for name, x in call.items()}, inputs)
        done = subprocess.run([program, build, surface, inputs], check=True, capture_output=True, text=True)
    return {head: np.array(x, dtype=np.float32) for head, x in json.loads(done.stdout).items()}


# ---- the report --------------------------------------------------------------------------------


def gap(a: Arrays, b: Arrays) -> float:
    """The largest difference over all heads; infinite where heads, rows or not-a-numbers differ."""
    if a.keys() != b.keys() or any(a[h].shape != b[h].shape for h in a):
        return float("inf")
    if any(not np.array_equal(np.isnan(a[h]), np.isnan(b[h])) for h in a):
        return float("inf")
    return max(float(np.nanmax(np.abs(a[h].astype(np.float64) - b[h]), initial=0.0)) for h in a)


def pairs(found: Mapping[str, Scores]) -> list[tuple[str, str]]:
    """The pairs of artefacts that are there."""
    return [(a, b) for a, b in PAIRS if a in found and b in found]


def agree(found: Mapping[str, Scores]) -> bool:
    """Whether the C++ program gives the same bits as Python, and all else the same up to rounding."""
    return all(
        gap(found[a][surface], found[b][surface]) <= (0.0 if (a, b) in EXACT else ROUNDING)
        for a, b in pairs(found)
        for surface in found["file"]
    )


def report(table: pa.Table, found: Mapping[str, Scores]) -> str:
    """A line for each surface: rows, requests, and the largest difference between the artefacts of each pair."""
    names, requests = np.asarray(table["surface"]), table["request"].to_numpy()
    lines = [["surface", "rows", "requests", *(f"{a} - {b}" for a, b in pairs(found))]]
    for surface, own in found["file"].items():
        here = names == surface
        assert all(len(x) == here.sum() for x in own.values())
        gaps = [f"{gap(found[a][surface], found[b][surface]):.1e}" for a, b in pairs(found)]
        lines.append([surface, f"{here.sum():,}", f"{len(np.unique(requests[here])):,}", *gaps])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(c.rjust(w) for c, w in zip(line, widths, strict=True)) for line in lines)


if __name__ == "__main__":
    raise SystemExit(main())
