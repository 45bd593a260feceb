"""The manifest: what a build holds and how each of its surfaces is called."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from towerspec import __version__
from towerspec.check.model import Model
from towerspec.emit.contents import Content, digest
from towerspec.emit.python import COUNTS, takes_counts
from towerspec.ids import by_value
from towerspec.ir.cost import graph_cost
from towerspec.ir.graph import Graph
from towerspec.layers.features import Coded

FORMAT = 1
_DTYPES = {"float": "float32", "int": "int64"}


def surface_inputs(model: Model, graph: Graph, vocabularies: Collection[str] = ()) -> list[dict[str, Any]]:
    """A surface's inputs in call order; the row axis is `R` or `N`.

    `vocabularies` are the paths of the tables whose raw ids the build maps at the boundary.
    """
    entries = []
    for op, prim in graph.inputs:
        feature = model.features[op.scope]
        entry: dict[str, Any] = {
            "name": prim.feature,
            "dtype": _DTYPES[prim.dtype],
            "shape": [prim.level.rows, *prim.shape],
            "level": prim.level.word,
            "kind": feature.kind.kind,
        }
        if isinstance(feature.kind, Coded):
            ids, table, rows = feature.coding(model.tables) or ("direct", "", 0)
            if ids != "direct":
                entry["ids"] = ids
            if ids != "hash":
                entry["range"] = [0, rows - 1]
            if table in vocabularies:
                entry["vocabulary"] = table
            if feature.kind.values is not None:
                entry["values"] = list(feature.kind.values)
                if by_value(feature.kind.values):
                    entry["numbers"] = "values"
        entries.append(entry)
    if takes_counts(graph):
        entries.append(
            {"name": COUNTS, "dtype": "int64", "shape": ["R"], "level": "request", "kind": "counts", "optional": True}
        )
    return entries


def surface_outputs(model: Model, graph: Graph, logits: bool) -> list[dict[str, Any]]:
    """A surface's outputs in order: a prediction for each head, then their logits where asked for."""
    by_id = graph.by_id
    heads = {h.name: h for path in model.surfaces[graph.surface or ""].tower.walk() for h in path.heads}
    entries: list[dict[str, Any]] = []
    for output in graph.outputs:
        head = heads[output.name]
        entry: dict[str, Any] = {
            "name": output.name,
            "dtype": "float32",
            "kind": output.kind,
            "shape": ["N", *by_id[output.prediction].type.shape],
            "calibration": head.calibrate.kind.kind if head.calibrate else "none",
        }
        values = getattr(head.kind, "values", None)
        if values:
            entry["values"] = list(values)
        entries.append(entry)
    if logits:
        entries += [{**e, "name": f"{e['name']}.logit", "kind": "logit"} for e in list(entries)]
    return entries


def surface_entry(
    model: Model,
    graph: Graph,
    file: str,
    content: Content,
    source: bytes,
    logits: bool,
    vocabularies: Collection[str] = (),
) -> dict[str, Any]:
    """All that the manifest says of one surface."""
    cost = graph_cost(graph)
    return {
        "file": file,
        "sha256": digest(content),
        "source": file.replace(".pt", ".py"),
        "source_sha256": digest(source),
        "inputs": surface_inputs(model, graph, vocabularies),
        "outputs": surface_outputs(model, graph, logits),
        "parameters": cost.parameters,
        "flops": {"request": cost.request_flops, "candidate": cost.candidate_flops},
        "bytes": cost.bytes,
        "file_bytes": len(content),
        "targets": {"torchscript": {"file": file, "sha256": digest(content)}},
    }


def manifest(
    model: Model,
    options: dict[str, Any],
    versions: dict[str, str],
    weights: dict[str, Any],
    files: Mapping[str, Content],
    unified: dict[str, Any],
    surfaces: dict[str, Any],
) -> dict[str, Any]:
    """The whole manifest; nothing in it depends on when or where the compile ran, but for AOTInductor's packages."""
    return {
        "format": FORMAT,
        "model": model.name,
        "spec": {"file": model.path.replace("\\", "/").rsplit("/", 1)[-1], "sha256": digest(model.text.encode())},
        "options": options,
        "versions": {"towerspec": __version__, **versions},
        "weights": weights,
        "files": {name: digest(content) for name, content in sorted(files.items())},
        "unified": unified,
        "surfaces": surfaces,
    }
