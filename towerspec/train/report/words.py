"""Numbers and findings in words, for the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def count(x: float | None) -> str:
    """A whole number.

    >>> count(12345)
    '12,345'
    """
    return "–" if x is None else f"{x:,.0f}"


def percent(x: float | None) -> str:
    """A share, with three digits.

    >>> percent(0.0012345), percent(0.25)
    ('0.123%', '25%')
    """
    return "–" if x is None else f"{x * 100:.3g}%"


def size(x: float) -> str:
    """Bytes.

    >>> size(2_500_000)
    '2.4 MiB'
    """
    for unit in ("B", "KiB", "MiB"):
        if x < 1024:
            return f"{x:.0f} B" if unit == "B" else f"{x:.1f} {unit}"
        x /= 1024
    return f"{x:.1f} GiB"


def number(x: float | None) -> str:
    """A metric with four digits behind the point, more where it is small.

    >>> number(0.71234), number(0.00012345), number(None)
    ('0.7123', '0.00012', 'undefined')
    """
    if x is None:
        return "undefined"
    return f"{x:.4f}" if abs(x) >= 1e-3 or x == 0 else f"{x:.2g}"


def measured(x: Mapping[str, float | None]) -> dict[str, str]:
    """A metric and its interval."""
    return {"value": number(x["value"]), "interval": interval(x)}


def interval(x: Mapping[str, float | None]) -> str:
    """An interval with a digit less than values.

    >>> interval({"low": 0.71234, "high": 0.75678})
    '0.712–0.757'
    """
    if x["low"] is None or x["high"] is None:
        return ""
    small = max(abs(x["low"]), abs(x["high"])) < 0.01
    return f"{x['low']:.4f}–{x['high']:.4f}" if small else f"{x['low']:.3f}–{x['high']:.3f}"


def mean_label(head: Mapping[str, Any]) -> str:
    """The mean of a head's labels, as a rate where it is one."""
    if head["mean"] is None:
        return ""
    return percent(head["mean"]) if "reliability" in head else f"{head['mean']:.4g}"


def where(data: Mapping[str, Any] | None) -> str:
    """Where rows came from.

    >>> where({"data": ["log/"], "from": "2024-05-01", "before": None})
    'log/ from 2024-05-01'
    """
    if not data:
        return "not recorded"
    parts = [", ".join(map(str, data.get("data", ()))) or "not recorded"]
    for word, key in (("from", "from"), ("before", "before"), ("validated from", "valid_from")):
        if data.get(key) is not None:
            parts.append(f"{word} {data[key]}")
    if data.get("valid"):
        parts.append(f"validated on {', '.join(map(str, data['valid']))}")
    return " ".join(parts)


def findings(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a reader should know first: a grade (good, look, plain) and a sentence for each."""
    heads = [(f"{s}.{t}", head) for s, tasks in document["surfaces"].items() for t, head in tasks.items()]
    warned = [("look", f"{_sentence(warning['message'])}.") for warning in document.get("warnings", ())]
    return [*warned, *_calibration(heads), *_undefined(heads), *_run(document, heads)]


def _sentence(message: str) -> str:
    return message.replace("`", "")[:1].upper() + message.replace("`", "")[1:]


_Heads = list[tuple[str, Mapping[str, Any]]]


def _calibration(heads: _Heads) -> Iterator[tuple[str, str]]:
    judged = [(name, h) for name, h in heads if h.get("ece_by_chance") and h["after"]["ece"]["value"] is not None]
    # Twice the distance that chance alone makes is what perfectly calibrated heads hardly ever reach.
    off = [(n, h) for n, h in judged if h["after"]["ece"]["value"] > 2 * h["ece_by_chance"]]
    if judged:
        near = len(judged) - len(off)
        grade = "plain" if off else "good"
        yield grade, f"The ECE of {near} of {len(judged)} probability heads is within twice what chance alone gives."
    for name, head in sorted(off, key=lambda x: -x[1]["after"]["ece"]["value"])[:5]:
        ece, chance = head["after"]["ece"]["value"], head["ece_by_chance"]
        yield "look", f"{name} is off by {percent(ece)} on average; chance alone would give {percent(chance)}."
    for name, head in heads:
        ratio = head["after"].get("calibration_ratio")
        if ratio and ratio["low"] is not None and not ratio["low"] <= 1 <= ratio["high"]:
            much = "too much" if ratio["value"] > 1 else "too little"
            yield "look", f"{name} predicts {much}: {ratio['value']:.3g} times what happened ({interval(ratio)})."
    for name, head in heads:
        change = head.get("change", {}).get("log_loss")
        if change and change["low"] is not None and change["low"] > 0:
            yield "look", f"{name} has a higher log loss with its calibration than without."


def _undefined(heads: _Heads) -> Iterator[tuple[str, str]]:
    empty = [name for name, head in heads if not head["rows"]]
    if empty:
        yield "look", f"No labelled row, so nothing is defined: {', '.join(empty)}."
    one = [n for n, h in heads if h["rows"] and "auc" in h["after"] and h["after"]["auc"]["value"] is None]
    if one:
        yield "look", f"Labels of one class only, so what needs two is undefined: {', '.join(one)}."


def _run(document: Mapping[str, Any], heads: _Heads) -> Iterator[tuple[str, str]]:
    if document["calibrated_on"] is None and any(head.get("calibration") for _, head in heads):
        yield "look", "The spec declares calibrators, and they have not been fitted: run towerspec calibrate."
    if any(head["requests"] for _, head in heads):
        yield "plain", "Intervals resample requests with all their rows."
    else:
        yield "plain", "The log says nothing of requests: intervals resample rows, and there is no grouped AUC."
