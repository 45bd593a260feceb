"""The report of an evaluation: one HTML file with everything in it, for light and dark screens and for paper."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from towerspec.train.report.diagram import diagram
from towerspec.train.report.words import count, findings, mean_label, measured, percent, size, where

# What a column shows, and whether more or less of it is better; neither for a ratio that should be 1.
COLUMNS = {
    "auc": ("AUC", 1),
    "grouped_auc": ("grouped AUC", 1),
    "log_loss": ("log loss", -1),
    "normalised_entropy": ("norm. entropy", -1),
    "poisson_deviance": ("deviance", -1),
    "rmse": ("RMSE", -1),
    "accuracy": ("accuracy", 1),
    "calibration_ratio": ("pred. / actual", 0),
    "ece": ("ECE", -1),
}


def render_report(document: Mapping[str, Any]) -> str:
    """The HTML of `evaluation.json`; it loads nothing, and the same document gives the same bytes."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        count=count, percent=percent, size=size, measured=measured, where=where, mean_label=mean_label
    )
    heads = list(heads_of(document))
    return environment.get_template("report.html.j2").render(
        document=document,
        findings=findings(document),
        sections=list(sections(heads)),
        diagrams=[(head, Markup(diagram(head))) for head in heads if head.get("reliability")],
        total=sum(document["rows"].values()),
        verdict=verdict,
    )


def heads_of(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Each head with its surface and task, and which of its stages differ: the overall ones last."""
    for surface, tasks in (*document["surfaces"].items(), ("all surfaces", document["overall"])):
        for task, head in tasks.items():
            changed = head["before"] != head["after"]
            stages = [("raw", "before"), ("calibrated", "after")] if changed else [("", "after")]
            yield {"calibration": None, **head, "surface": surface, "task": task, "stages": stages}


def sections(heads: list[dict[str, Any]]) -> Iterator[tuple[list[tuple[str, str]], list[dict[str, Any]]]]:
    """Heads with the same metrics together, and those metrics' names and titles."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for head in heads:
        groups.setdefault(tuple(name for name in COLUMNS if name in head["after"]), []).append(head)
    for names, members in groups.items():
        yield [(name, COLUMNS[name][0]) for name in names], members


def verdict(head: Mapping[str, Any], name: str) -> str:
    """Whether calibration made a metric better or worse, where the interval of the change leaves no doubt."""
    change = head.get("change", {}).get(name) or {"low": None, "high": None}
    sign = COLUMNS[name][1]
    if not sign or change["low"] is None or change["low"] <= 0 <= change["high"]:
        return ""
    return "better" if (change["low"] > 0) == (sign > 0) else "worse"
