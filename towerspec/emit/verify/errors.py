"""What fewer bits cost: how far a file's predictions are from the reference's, by leaf and head, on many rows.

The reference of so many rows is the surface's own source in float64 before anything is rounded, which has been
verified by then: it computes a request's part once, and one arm a row.

Ordinary numbers are spread as training normalises them, by one standard deviation, and the bound is for these. Worse
rows than chance finds are searched: roundings of different inputs add up, so that crossing the worst rows gives worse
ones. Of wide numbers, up to ten times as large, the error is stated and not bounded: layers that multiply their inputs
make of a tenfold input a number thousands of times as large, whose rounding alone exceeds a probability.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from towerspec.diagnostics import Diagnostic, SpecError
from towerspec.emit.verify.cases import Case
from towerspec.emit.verify.checks import Served, compare, widen
from towerspec.emit.verify.rounding import Precision, differences
from towerspec.emit.verify.steer import Batch, Spread, Steering, grown
from towerspec.ir.graph import Graph
from towerspec.runtime.samples import COUNTS

ROWS = 4096  # of each leaf: half of them of ordinary numbers, half of wide ones
REQUESTS, CANDIDATES = 128, 4  # of one call
WIDE = 1.0  # decades: up to ten times as large as ordinary numbers
BEST, CROSSED, ROUNDS = 8, 128, 6  # of the search: rows that are kept for a head, new rows in a round, rounds
MARGIN = 1.25  # what a row that wasn't measured may be further off than the worst that was
SPREADS: Mapping[str, Spread] = {"ordinary": lambda n, generator: torch.ones(n), "wide": grown(WIDE)}
QUANTILES = {"p50": 0.5, "p99": 0.99}


@dataclass(frozen=True)
class Rows:
    """One call of many rows: of which numbers, whose leaf each row is, and each output's exact value."""

    batch: Batch
    numbers: str
    leaf: Tensor  # [N], an index into the leaves
    exact: tuple[Tensor, ...]


class Measured:
    """A surface's rows on which rounding is measured; `exact` is its verified source in float64.

    The rows are generated, `ROWS` for each leaf, or a log's: `columns` by feature name.
    """

    def __init__(
        self, sliced: Graph, steering: Steering, exact: nn.Module, seed: int, columns: Mapping[str, Tensor] | None
    ) -> None:
        self.sliced, self.steering, self.exact, self.seed = sliced, steering, exact, seed
        self.leaves = steering.tree.leaves
        self.rows = list(self._logged(columns) if columns is not None else self._generated())

    def _generated(self) -> Iterator[Rows]:
        calls = ROWS // (REQUESTS * CANDIDATES) // len(SPREADS)
        for kind, (numbers, spread) in enumerate(SPREADS.items()):
            for index, leaf in enumerate(self.leaves):
                for call in range(calls):
                    seed = self.seed + (kind * len(self.leaves) + index) * calls + call
                    batch = self.steering.of_leaf(leaf, REQUESTS, CANDIDATES, seed, spread)
                    if batch is not None:
                        yield self._row(batch, numbers, torch.full([sum(batch.counts)], index))

    def _logged(self, columns: Mapping[str, Tensor]) -> Iterator[Rows]:
        """Each row is a request with one candidate."""
        for start in range(0, len(next(iter(columns.values()))), REQUESTS * CANDIDATES):
            part = {name: x[start : start + REQUESTS * CANDIDATES] for name, x in columns.items()}
            batch = self.steering.of_rows(part)
            yield self._row(batch, "logged", self.steering.tree.leaf_of(batch.inputs))

    def _row(self, batch: Batch, numbers: str, leaf: Tensor) -> Rows:
        with torch.no_grad():
            return Rows(batch, numbers, leaf, tuple(self.exact(*map(widen, batch.inputs.values()))))

    # ---- a file --------------------------------------------------------------------------------

    def errors(self, served: Served) -> list[dict[str, Any]]:
        """For each leaf, head and kind of numbers: how many rows, and the quantiles and maximum of their differences.

        A difference is relative where a prediction is above 1. A logit that the surface returns is measured as well.
        """
        found: dict[tuple[str, str, str], list[Tensor]] = {}
        best = [_Best() for _ in self.leaves]
        for rows in self.rows:
            self._measure(rows, served, found, best)
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(ROUNDS if any(rows.numbers != "logged" for rows in self.rows) else 0):
            for index, of in enumerate(best):
                if of.rows:
                    batch = self.steering.of_rows(of.crossed(generator))
                    leaf = torch.full([sum(batch.counts)], index)
                    self._measure(self._row(batch, "searched", leaf), served, found, best)
        return [_entry(*key, torch.cat(parts)) for key, parts in found.items()]

    def _measure(
        self, rows: Rows, served: Served, found: dict[tuple[str, str, str], list[Tensor]], best: Sequence[_Best]
    ) -> None:
        with torch.no_grad():
            scores = served(*rows.batch.inputs.values())
        heads = [o.name for o in self.sliced.outputs]
        for head, x, wanted in zip([*heads, *(f"{h}.logit" for h in heads)], scores, rows.exact, strict=False):
            gap, signed = differences(x, wanted), _signed(x, wanted)
            for index, leaf in enumerate(self.leaves):
                # Of a head that the leaf doesn't have, both are not-a-number.
                mine = ((rows.leaf == index) & ~(signed.isnan() & (gap == 0))).nonzero().flatten()
                if len(mine):
                    found.setdefault((leaf.name, head, rows.numbers), []).append(gap[mine])
                    if head in heads and rows.numbers != "wide":
                        best[index].keep(head, rows.batch, self.steering.requests, signed, mine)


class _Best:
    """The rows of a leaf at which each head is furthest off, above and below, and rows that are crossed from them.

    Roundings of different inputs add up, so that the worst row has the worst of several.
    """

    def __init__(self) -> None:
        self.rows: dict[tuple[str, int], list[tuple[float, dict[str, Tensor]]]] = {}

    def keep(self, head: str, batch: Batch, requests: Collection[str], signed: Tensor, mine: Tensor) -> None:
        request = torch.repeat_interleave(torch.arange(len(batch.counts)), torch.tensor(batch.counts))
        for sign in (1, -1):
            top = (sign * signed[mine]).nan_to_num(0.0).topk(min(BEST, len(mine)))
            kept = self.rows.setdefault((head, sign), [])
            for gap, at in zip(top.values.tolist(), mine[top.indices].tolist(), strict=True):
                row = {name: x[int(request[at]) if name in requests else at] for name, x in batch.inputs.items()}
                kept.append((gap, row))
            kept.sort(key=lambda pair: -pair[0])
            del kept[BEST:]

    def crossed(self, generator: torch.Generator) -> dict[str, Tensor]:
        """New rows by feature, each value from one of the rows that were worst for some head."""
        made: dict[str, list[Tensor]] = {}
        for kept in self.rows.values():
            for name in kept[0][1]:
                picked = torch.randint(len(kept), [-(-CROSSED // len(self.rows))], generator=generator).tolist()
                made.setdefault(name, []).append(torch.stack([kept[i][1][name] for i in picked]))
        return {name: torch.cat(parts) for name, parts in made.items() if name != COUNTS}


def _signed(found: Tensor, wanted: Tensor) -> Tensor:
    """Each row's difference with its sign `[N]`; of several classes, the sum of their magnitudes."""
    found, wanted = found.double(), wanted.double()
    gap = (found - wanted) / wanted.abs().clamp(min=1.0)
    return gap.flatten(1).abs().sum(-1) if gap.dim() > 1 else gap


def _entry(leaf: str, head: str, numbers: str, gap: Tensor) -> dict[str, Any]:
    quantiles = {name: float(gap.quantile(q)) for name, q in QUANTILES.items()}
    said = {name: float(f"{x:.3g}") for name, x in {**quantiles, "max": float(gap.max())}.items()}
    return {**({"leaf": leaf} if leaf else {}), "head": head, "numbers": numbers, "rows": len(gap), **said}


def verify_rounded(sliced: Graph, served: Served, cases: Sequence[Case], bound: float) -> float:
    """Checks a file of fewer bits on a surface's cases; returns its largest difference. Raises `SpecError` (T613)."""
    heads = len(sliced.outputs)
    found, largest = compare(sliced, lambda *x: served(*x)[:heads], cases, Precision(bound, 0.0, math.inf))
    if found:
        where = "of a row that is scored by itself" if found.alone else "in the compile's own calls"
        raise _beyond(sliced, (f"head `{found.head}` differs by {found.gap:.2g} {where}",), found.gap, bound)
    return largest


def check_errors(sliced: Graph, errors: Sequence[Mapping[str, Any]], bound: float) -> float:
    """The largest difference of any prediction. Raises `SpecError` (T613) where the bound leaves too little room."""
    found = worst(errors)
    largest = float(found["max"])
    if largest * MARGIN > bound:
        leaf = f" in leaf `{found['leaf']}`" if "leaf" in found else ""
        notes = (
            f"head `{found['head']}`{leaf} differs by {largest:.2g} in the worst of {found['rows']:,} rows of "
            f"{found['numbers']} numbers, by {found['p99']:.2g} or less in 99% of them",
            f"a row that wasn't measured may be further off, so that the bound has to be {MARGIN:g} times that",
        )
        raise _beyond(sliced, notes, largest, bound)
    return largest


def _beyond(sliced: Graph, notes: Sequence[str], largest: float, bound: float) -> SpecError:
    enough = f"such as `--max-error {_above(largest * MARGIN)}`, " if math.isfinite(largest) else ""
    return SpecError(
        Diagnostic(
            "T613",
            f"in fewer bits, surface `{sliced.surface}` is further from the reference than the bound allows",
            notes=(*notes, f"the bound is {bound:g}", "nothing was written"),
            help=f"give a larger bound with `--max-error`, {enough}keep the linears in float32 with `--cpu any`, "
            "or compile with -O2",
        )
    )


def _above(x: float) -> str:
    """A number of one digit that is no smaller."""
    digit = 10.0 ** math.floor(math.log10(x))
    return f"{math.ceil(x / digit) * digit:.1g}"


def worst(errors: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The entry of the prediction that is furthest off, of those that the bound is for: not wide ones, and no logits.

    Where no number comes out, it counts whatever it is of.
    """
    bound = [e for e in errors if e["numbers"] != "wide" and not str(e["head"]).endswith(".logit")]
    return max([*bound, *(e for e in errors if not math.isfinite(e["max"]))], key=lambda e: float(e["max"]))
