"""What a training step costs as surfaces are added: each row through its own tower, against every row through all.

For 2, 8 and 32 surfaces, forward and backward of the same model, the same weights, the same batch, in turns:

- `routed`: the generated module, `forward(features, surface)`;
- `all towers`: the same generated parts, written the usual way in plain PyTorch: every tower on all rows, and a mask
  that picks each row's own.

Both are checked to give the same logits before anything is timed. `trunk` is a model of one surface with the same
trunk on the same batch, so that `routed` next to it shows what routing itself adds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.results import Result, Table
from towerspec.check import check_text
from towerspec.train.module import build_module

SPEC = """model bench
table items {{ rows: 20_000, dim: 32 }}
request {{
  user    : category {{ rows: 20_000, dim: 32 }}
  context : number {{ width: 64 }}
}}
candidate {{
  item    : category {{ table: items }}
  content : number {{ width: 64 }}
}}
trunk {{
  crossed = cross(concat(request, candidate), layers: 2, rank: 32)
  shared  = mlp(crossed, hidden: [256, 128])
}}
template surface page() {{
  tower {{
    layers: [128, 64]
    head click : binary
    head save  : binary
  }}
}}
{surfaces}
"""


class AllTowers(nn.Module):
    """Every tower on every row, each row's own picked by a mask: the model as it is written without routing."""

    def __init__(self, generated: nn.Module, surfaces: int) -> None:
        super().__init__()
        self.generated, self.count = generated, surfaces

    def forward(self, features: dict[str, Tensor], surface: Tensor) -> dict[str, Tensor]:
        g = self.generated
        ids = {name: features[name] for name in ("user", "item")}
        user = nn.functional.embedding(ids["user"], g.features.user.weight)
        item = nn.functional.embedding(ids["item"], g.tables.items.weight)
        x = torch.cat([user, features["context"], item, features["content"]], -1)
        h = x
        for layer in g.trunk.crossed:
            down = nn.functional.linear(h, layer.down.weight)
            h = x * nn.functional.linear(down, layer.up.weight, layer.up.bias) + h
        for layer in g.trunk.shared:
            h = nn.functional.linear(h, layer.weight, layer.bias).relu()
        out: dict[str, Tensor] = {}
        for index in range(self.count):
            tower, own = getattr(g.surfaces, f"s{index}").tower, surface == index
            t = h
            for layer in tower.layers:
                t = nn.functional.linear(t, layer.weight, layer.bias).relu()
            for head in ("click", "save"):
                part = getattr(tower, head)
                z = nn.functional.linear(t, part.weight, part.bias).flatten()
                out[f"{head}.logit"] = torch.where(own, z, out.get(f"{head}.logit", torch.zeros_like(z)))
        return out


def model(surfaces: int) -> nn.Module:
    text = SPEC.format(surfaces="\n".join(f"surface s{i} = page()" for i in range(surfaces)))
    return build_module(check_text(text))


def batch(rows: int, surfaces: int) -> tuple[dict[str, Tensor], Tensor]:
    generator = torch.Generator().manual_seed(0)
    features = {name: torch.randint(0, 20_000, [rows], generator=generator) for name in ("user", "item")}
    features |= {name: torch.randn(rows, 64, generator=generator) for name in ("context", "content")}
    return features, torch.randint(0, surfaces, [rows], generator=generator)


def step(module: nn.Module, features: dict[str, Tensor], surface: Tensor) -> dict[str, Tensor]:
    module.zero_grad(set_to_none=True)
    out = module(features, surface)
    logits = {head: out[f"{head}.logit"] for head in ("click", "save")}
    torch.stack([nn.functional.softplus(z).mean() for z in logits.values()]).sum().backward()
    return logits


def timed(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Milliseconds of each call, in turns, so that what else the machine does falls on all of them."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 3):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn >= 3:
                found[name].append(1000 * (time.perf_counter() - start))
    return found


def flops(call: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def measure(surfaces: int, rows: int, repeats: int) -> dict[str, float]:
    """One row of the table."""
    routed, alone = model(surfaces), model(1)
    everything = AllTowers(routed, surfaces)
    features, surface = batch(rows, surfaces)
    for head, z in step(everything, features, surface).items():
        torch.testing.assert_close(step(routed, features, surface)[head], z, atol=1e-5, rtol=1e-4)
    calls: dict[str, Callable[[], object]] = {
        "one surface": lambda: step(alone, features, torch.zeros_like(surface)),
        "routed": lambda: step(routed, features, surface),
        "all towers": lambda: step(everything, features, surface),
    }
    times = {name: statistics.median(values) for name, values in timed(calls, repeats).items()}
    counted = {name: flops(call) / 1e9 for name, call in calls.items()}
    return {
        "surfaces": surfaces,
        **{f"{name}, ms": ms for name, ms in times.items()},
        "all / routed, time": times["all towers"] / times["routed"],
        "routed / one, time": times["routed"] / times["one surface"],
        **{f"{name}, GFLOPs": n for name, n in counted.items()},
        "routed / one, FLOPs": counted["routed"] / counted["one surface"],
    }


def run(quick: bool = False) -> Result:
    """The ratio for 2, 8 and 32 surfaces."""
    torch.set_num_threads(1)
    rows, repeats = (64, 1) if quick else (4096, 15)
    table = [measure(surfaces, rows, repeats) for surfaces in (2, 8, 32)]
    note = (
        f"Forward and backward of {rows:,} rows, 1 thread, medians of {repeats} steps in turns, after 3 that warm up."
    )
    return Result("training_step", [Table("A training step as surfaces are added", table, note)])
