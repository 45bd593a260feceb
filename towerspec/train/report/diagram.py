"""A reliability diagram as SVG: what was predicted against what happened, in bins of equally many rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from towerspec.train.report.words import percent

SIDE, LEFT, BOTTOM, MARGIN = 268.0, 46.0, 36.0, 10.0
WIDE = 25.0  # from this ratio of the largest to the smallest rate on, axes are logarithmic
Bins = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Axis:
    """Rates from `low` to `high` as distances from 0 to `SIDE`."""

    low: float
    high: float
    logarithmic: bool

    def __call__(self, rate: float) -> float:
        rate = min(max(rate, self.low), self.high)
        if self.logarithmic:
            return SIDE * math.log(rate / self.low) / math.log(self.high / self.low)
        return SIDE * (rate - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """A few round rates.

        >>> Axis(0.0, 0.5, False).ticks()
        [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
        """
        if self.logarithmic:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            steps = (1, 2, 5) if last - first <= 2 else (1, 3) if last - first <= 3 else (1,)
            found = [m * 10.0**e for e in range(first, last + 1) for m in steps]
        else:
            rough = (self.high - self.low) / 5
            power = 10.0 ** math.floor(math.log10(rough))
            step = min((m * power for m in (1, 2, 2.5, 5, 10)), key=lambda s: abs(s - rough))
            found = [round(i * step, 12) for i in range(int(self.high / step + 1e-9) + 1)]
        return [rate for rate in found if self.low * 0.999 <= rate <= self.high * 1.001]


def axis_for(series: Sequence[Bins]) -> Axis:
    """An axis that holds every bin, and every interval but those that reach far below."""
    bins = [b for of in series for b in of]
    rates = [rate for b in bins for rate in (b["predicted"], b["actual"]["value"])]
    top = max([*rates, *(b["actual"]["high"] or 0.0 for b in bins)])
    high = min(max(top * 1.06, 1e-6), 1.0)
    smallest = min([rate for rate in rates if rate > 0], default=high)
    if high / smallest < WIDE:
        return Axis(0.0, high, False)
    return Axis(max(smallest * 0.7, high * 1e-5), high, True)


def diagram(head: Mapping[str, Any]) -> str:
    """The diagram of a head of an evaluation, raw and calibrated where they differ."""
    series = [(stage, head["reliability"][stage]) for _, stage in head["stages"]]
    if not any(bins for _, bins in series):
        return '<p class="none">no labelled row</p>'
    axis = axis_for([bins for _, bins in series])
    body = [*_frame(axis), *(part for stage, bins in series for part in _series(stage, bins, axis))]
    wide, high = LEFT + SIDE + MARGIN, MARGIN + SIDE + BOTTOM
    title = escape(f"{head['surface']} {head['task']}: predicted against actual rate")
    return (
        f'<svg viewBox="0 0 {wide:g} {high:g}" role="img" aria-label="{title}">'
        f'<g transform="translate({LEFT:g} {MARGIN:g})">{"".join(body)}</g></svg>'
    )


def _frame(axis: Axis) -> list[str]:
    """Grid, ticks, and the diagonal on which predictions are right."""
    out = [f'<rect class="plot" width="{SIDE:g}" height="{SIDE:g}"/>']
    for rate in axis.ticks():
        at = axis(rate)
        out.append(f'<path class="grid" d="M{at:.1f} 0V{SIDE:g}M0 {SIDE - at:.1f}H{SIDE:g}"/>')
        out.append(f'<text class="tick" x="{at:.1f}" y="{SIDE + 13:g}" text-anchor="middle">{percent(rate)}</text>')
        out.append(f'<text class="tick" x="-5" y="{SIDE - at + 3:.1f}" text-anchor="end">{percent(rate)}</text>')
    out.append(f'<path class="right" d="M0 {SIDE:g}L{SIDE:g} 0"/>')
    scale = " (log scale)" if axis.logarithmic else ""
    out.append(f'<text class="axis" x="{SIDE / 2:g}" y="{SIDE + 29:g}" text-anchor="middle">predicted{scale}</text>')
    out.append(
        f'<text class="axis" transform="translate(-37 {SIDE / 2:g}) rotate(-90)" text-anchor="middle">actual</text>'
    )
    return out


def _series(stage: str, bins: Bins, axis: Axis) -> list[str]:
    """Each bin's point, with the interval of what happened and, under the pointer, its numbers."""
    points = [(axis(b["predicted"]), SIDE - axis(b["actual"]["value"]), b) for b in bins]
    route = "L".join(f"{x:.1f} {y:.1f}" for x, y, _ in points)
    out = [f'<g class="{stage}"><path class="route" d="M{route}"/>']
    for x, y, b in points:
        low, high = b["actual"]["low"], b["actual"]["high"]
        if low is not None and high is not None:
            out.append(f'<path class="whisker" d="M{x:.1f} {SIDE - axis(low):.1f}V{SIDE - axis(high):.1f}"/>')
        said = f"predicted {percent(b['predicted'])}, actual {percent(b['actual']['value'])}, {b['rows']:,} rows"
        out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2"><title>{escape(said)}</title></circle>')
    return [*out, "</g>"]
