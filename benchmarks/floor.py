"""The floor: what a surface's remaining arithmetic and bytes take at the rates this machine reaches in this run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from towerspec.emit.helpers import gains
from towerspec.ir.cost import graph_cost
from towerspec.ir.graph import Graph
from towerspec.ir.primitives import Embed, EmbedBag, Linear, LinearPacked
from towerspec.ir.types import Level

RATED_ROWS = 256  # candidates with which the rate of products is measured: enough for a machine's best
COPIED = 64 << 20  # bytes of the copy that measures bandwidth: more than the caches hold


@dataclass(frozen=True)
class Product:
    """A linear of `wide` inputs and `out` outputs, on `rows` rows for each row of its level."""

    level: Level
    rows: int
    wide: int
    out: int

    def at(self, requests: int, candidates: int) -> int:
        """Its rows in a call."""
        return self.rows * (requests if self.level == Level.REQUEST else candidates)


@dataclass(frozen=True)
class Floor:
    """A surface's remaining work, after the passes."""

    graph: Graph

    @property
    def products(self) -> list[Product]:
        found = []
        for op in self.graph.ops:
            if isinstance(op.prim, (Linear, LinearPacked)) and op.type.level > Level.CONSTANT:
                out = op.type.shape[-1]
                wide = self.graph.by_id[op.inputs[0]].type.shape[-1]
                found.append(Product(op.type.level, op.type.numel // out, wide, out))
        return found

    def flops(self, requests: int, candidates: int) -> int:
        """The manifest's FLOPs of a call."""
        cost = graph_cost(self.graph)
        return requests * cost.request_flops + candidates * cost.candidate_flops

    def bytes(self, requests: int, candidates: int) -> int:
        """Weights of products once, what they read and write once, and the rows that are looked up."""
        total = 0
        for p in self.products:
            total += 4 * (p.wide * p.out + p.at(requests, candidates) * (p.wide + p.out))
        for op in self.graph.ops:
            if isinstance(op.prim, (Embed, EmbedBag)):
                ids, table = self.graph.types(op)
                rows = requests if op.type.level == Level.REQUEST else candidates
                total += rows * ids.numel * 4 * table.shape[1]
        return total

    def milliseconds(self, requests: int, candidates: int, gflops: float, gigabytes: float) -> float:
        """FLOPs over the rate of products, plus bytes over the bandwidth."""
        flops, size = self.flops(requests, candidates), self.bytes(requests, candidates)
        return 1000 * (flops / (gflops * 1e9) + size / (gigabytes * 1e9))

    def chain(self, requests: int, candidates: int, packed: bool | None = None) -> tuple[Callable[[], None], int]:
        """All products of a call, one after another on inputs that are there already, and their FLOPs.

        `packed` lays the weights out for oneDNN beforehand, as loading a graph does where this CPU gains by it; the
        floor takes the faster of the two.
        """
        packed = gains(torch.empty(0)) if packed is None else packed
        steps, flops = [], 0
        for p in self.products:
            rows = p.at(requests, candidates)
            weight = torch.randn(p.out, p.wide) / math.sqrt(p.wide)
            steps.append((torch.randn(rows, p.wide), pack(weight) if packed else weight))
            flops += 2 * rows * p.wide * p.out
        product = packed_product if packed else F.linear

        def run() -> None:
            for x, weight in steps:
                product(x, weight)

        return run, flops


def pack(weight: Tensor) -> Tensor:
    """A linear's weight in oneDNN's layout."""
    laid_out: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, RATED_ROWS)
    return laid_out


def packed_product(x: Tensor, weight: Tensor) -> Tensor:
    """A product with a packed weight."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return result


def copying() -> tuple[Callable[[], object], int]:
    """A copy that doesn't fit the caches, and the bytes that it moves."""
    source = torch.zeros(COPIED, dtype=torch.uint8)
    target = torch.zeros_like(source)
    return lambda: target.copy_(source), 2 * COPIED
