"""What a training step gains where a batch holds several candidates of a request, whose own part is computed once.

Forward and backward of specs/ads_engagement.tower on the same rows, the same weights, in turns: each row as a request
of its own, and rows that share their request. The gradients of both are compared before anything is timed. Dropout
draws for each row, so that what follows it in the request's transformer is computed for each row.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.results import Result, Table
from benchmarks.training_step import flops, timed
from towerspec.check import Checked, check_text
from towerspec.emit.manifest import surface_inputs
from towerspec.passes import slice_surface
from towerspec.runtime.samples import COUNTS, sample
from towerspec.train.batch import Batch
from towerspec.train.module import shared_module
from towerspec.train.sharing import run as outputs

SPEC = Path(__file__).parents[1] / "specs" / "ads_engagement.tower"


def spec(dropout: bool) -> Checked:
    """The ads model, with the transformer's dropout or without."""
    text = SPEC.read_text(encoding="utf-8")
    return check_text(text if dropout else text.replace("dropout: 0.1,", "dropout: 0.0,"), str(SPEC))


def batch(checked: Checked, rows: int, shared_by: int) -> Batch:
    """Rows in random order, `shared_by` of them a request, each request on a random surface."""
    model, graph = checked.sound()
    entries = {e["name"]: e for s in graph.surfaces for e in surface_inputs(model, slice_surface(graph, s))}
    features = sample([e for e in entries.values() if e["name"] != COUNTS], [1] * rows, 0)
    generator = torch.Generator().manual_seed(0)
    request = (torch.arange(rows) // shared_by)[torch.randperm(rows, generator=generator)]
    surface = torch.randint(0, len(graph.surfaces), [rows], generator=generator)[request]
    once = {i.feature for _, i in graph.inputs if i.level.word == "request"}
    return Batch({n: x[request] if n in once else x for n, x in features.items()}, surface, {}, request)


def step(module: nn.Module, given: Batch) -> list[Tensor]:
    """One step's gradients; the batch's own labels are zeros."""
    torch.manual_seed(0)  # of dropout
    module.zero_grad(set_to_none=True)
    logits = [x[~x.isnan()] for name, x in outputs(module, given).items() if name.endswith(".logit")]
    torch.stack([nn.functional.softplus(z).sum() for z in logits]).sum().backward()
    return [p.grad for p in module.parameters() if p.grad is not None]


def measure(dropout: bool, rows: int, shared_by: int, repeats: int) -> dict[str, float | str]:
    """One row of the table."""
    checked = spec(dropout)
    module, given = shared_module(checked), batch(checked, rows, shared_by)
    apart = Batch(given.features, given.surface, {})
    for one, other in zip(step(module, given), [g.clone() for g in step(module, apart)], strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)
    calls: dict[str, Callable[[], object]] = {
        "apart": lambda: step(module, apart),
        "shared": lambda: step(module, given),
    }
    times = {name: statistics.median(values) for name, values in timed(calls, repeats).items()}
    counted = {name: flops(call) / 1e9 for name, call in calls.items()}
    return {
        "dropout": "0.1" if dropout else "none",
        "candidates a request": shared_by,
        **{f"{name}, rows/s": 1000 * rows / ms for name, ms in times.items()},
        "apart / shared, time": times["apart"] / times["shared"],
        **{f"{name}, GFLOPs": n for name, n in counted.items()},
        "apart / shared, FLOPs": counted["apart"] / counted["shared"],
    }


def run(quick: bool = False) -> Result:
    """The ratio by how many candidates of a request a batch holds."""
    torch.set_num_threads(1)
    rows, repeats = (32, 1) if quick else (256, 5)
    sizes = (4,) if quick else (1, 4, 16)
    table = [measure(dropout, rows, size, repeats) for dropout in (True, False) for size in sizes]
    note = f"{rows} rows in random order, 1 thread, medians of {repeats} steps in turns, after 3 that warm up."
    return Result("sharing", [Table("A training step with whole requests", table, note)])
