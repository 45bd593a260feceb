"""torch-rechub's nearest model: its MMoE over the same features, traced, with every feature given for each candidate.

Nearly as wide as the search surface's mixed input, four experts of 512 and 256, towers of 256 and 128 for two tasks. It
has no transformer (the history is the mean of its pins), no cross layers, no fused module and no calibration: it does
less work for a candidate, and is here for scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

WIDTH = (
    24  # of every table, since it takes one width; 15 of them and the numbers are 817 wide, the spec's mixed input 804
)


def available() -> bool:
    """Whether torch-rechub is installed."""
    try:
        import torch_rechub.models.multi_task  # noqa: F401
    except ImportError:
        return False
    return True


def model(inputs: Sequence[Mapping[str, Any]]) -> torch.nn.Module:
    """An MMoE over a manifest's inputs."""
    from torch_rechub.basic.features import DenseFeature, SequenceFeature, SparseFeature
    from torch_rechub.models.multi_task import MMOE

    features: list[Any] = []
    for entry in inputs:
        name, shape = entry["name"], entry["shape"]
        if entry["dtype"] == "float32":
            features.append(DenseFeature(name, embed_dim=shape[1] if len(shape) > 1 else 1))
        elif len(shape) > 1:
            features.append(SequenceFeature(name, entry["range"][1] + 2, WIDTH, pooling="mean", padding_idx=0))
        elif entry["kind"] != "counts":
            features.append(SparseFeature(name, entry["range"][1] + 2, WIDTH))
    expert, tower = {"dims": [512, 256]}, {"dims": [256, 128]}
    return MMOE(features, ["classification"] * 2, 4, expert, [tower, tower]).eval()


def rows(inputs: Sequence[Mapping[str, Any]], values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the MMoE takes: every feature on the candidates' rows, ids within their tables, and no number missing."""
    candidates = next(len(values[e["name"]]) for e in inputs if e["level"] == "candidate")
    counts = values.get("candidates_per_request", torch.tensor([candidates]))
    found: dict[str, Tensor] = {}
    for entry in inputs:
        x = values[entry["name"]]
        if entry["kind"] == "counts":
            continue
        if entry["level"] == "request":
            x = x.repeat_interleave(counts, 0)
        ids = entry["dtype"] == "int64"
        found[entry["name"]] = (x + 1).clamp(0, entry["range"][1] + 1) if ids else x.nan_to_num(0.0)
    return found


def traced(inputs: Sequence[Mapping[str, Any]], values: Mapping[str, Tensor]) -> torch.jit.ScriptModule:
    """The MMoE traced and frozen; it runs as TorchScript does by itself, optimised at run time."""
    made = model(inputs)
    with torch.no_grad():
        script = torch.jit.trace(made, (rows(inputs, values),), strict=False)
    return torch.jit.freeze(script)
