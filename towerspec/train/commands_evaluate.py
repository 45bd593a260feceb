"""The commands `calibrate` and `evaluate`. What they run is imported when they run."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from towerspec.diagnostics import Diagnostic, SpecError, listing, render
from towerspec.terminal import JSON, example, table
from towerspec.train.commands_data import OPTIONS, F, column_options, columns, needs

if TYPE_CHECKING:
    from towerspec.train.data import Log
    from towerspec.train.run import Run

_LOG = (
    click.argument("folder", metavar="RUN", type=click.Path(path_type=Path)),
    click.option(
        "--data", multiple=True, required=True, type=click.Path(path_type=Path), metavar="PATH",
        help="Parquet or CSV files of held-out rows, or their folder; may be repeated.",
    ),
    click.option("--from", "after", metavar="TIME", help="Only rows from this time on."),
    click.option("--before", metavar="TIME", help="Only rows before this time."),
    column_options,
    JSON,
)  # fmt: skip
SHOWN = {
    "auc": "AUC",
    "grouped_auc": "grouped AUC",
    "log_loss": "log loss",
    "normalised_entropy": "NE",
    "calibration_ratio": "pred/actual",
    "ece": "ECE",
    "rmse": "RMSE",
    "poisson_deviance": "deviance",
    "accuracy": "accuracy",
}
BEST = ("auc", "log_loss")  # what a simulated log's truth reaches is known of these


def _log_options(command: F) -> F:
    for option in reversed(_LOG):
        command = option(command)
    return command


def _open(folder: Path, given: Mapping[str, Any]) -> tuple[Run, Log, dict[str, Any]]:
    """The run, the rows that the options leave of the log, and where those came from, for the record."""
    needs("pyarrow")
    needs("sklearn")
    from towerspec.train.data import open_log
    from towerspec.train.run import Run
    from towerspec.train.survey import untimed_warning

    run = Run(folder)
    checked = run.checked()
    nulls = [*run.nulls, *given["nulls"]]  # what was missing in training still is
    named = columns(*({**given, "nulls": nulls}[k] for k in OPTIONS))
    log = open_log(checked, given["data"], named, run.read_vocabularies(), run.kinds)
    if given["after"] is not None or given["before"] is not None:
        log = log.where(after=given["after"], before=given["before"])
        warning = untimed_warning(log)
        if warning is not None:
            click.echo(render(warning), err=True)
    said = {"data": [str(p) for p in given["data"]], "from": given["after"], "before": given["before"]}
    said["null"] = list(named.nulls)
    return run, log, said


def trained_on(run: Run, data: Mapping[str, Any], severity: str) -> Diagnostic | None:
    """A diagnostic where the rows of a log include those that the run was trained on."""
    record = run.record.get("data") or {}
    seen = [Path(path).resolve() for path in record.get("data", ())]
    since, start = record.get("valid_from"), data["from"]
    held_out = start is not None and since is not None and not _earlier(start, since)
    same = [path for path in data["data"] if any(_reads(Path(path).resolve(), other, start) for other in seen)]
    if not same or held_out:
        return None
    return Diagnostic(
        "T833",
        f"`{run.folder}` was trained on rows of `{same[0]}`",
        notes=("a model looks better than it is on rows that it has seen, and calibrators fitted to them believe it",),
        help=f"leave those rows out with `--from {since}`" if since else "give rows that were held out",
        severity=severity,
    )


def _reads(path: Path, trained: Path, start: str | None) -> bool:
    """Whether a file, or a folder, has rows of another; a folder from a time on may have others beside them."""
    return path.is_relative_to(trained) or (start is None and trained.is_relative_to(path))


def _earlier(time: str, other: str) -> bool:
    """Whether a time is before another: numbers by their size, dates as they are written."""
    try:
        return float(time) < float(other)
    except ValueError:
        return time < other


@click.command(
    epilog=example(
        "towerspec calibrate runs/ads --data calibrate.parquet",
        "towerspec calibrate runs/ads --data log/ --time-column day --from 2024-05-01 --before 2024-05-02",
    )
)
@_log_options
@click.option(
    "--strength", type=click.FloatRange(0, min_open=True), default=20.0, show_default=True, metavar="EVENTS",
    help="How many events of its own bring the fit of a `by` value half-way from the whole surface's.",
)  # fmt: skip
def calibrate(folder: Path, as_json: bool, strength: float, **given: Any) -> None:
    """Fit the calibrators of RUN's spec to held-out rows, and put them into its weights."""
    if not math.isfinite(strength):
        raise click.UsageError("--strength takes a number of events")
    run, log, data = _open(folder, given)
    from towerspec.train.calibrate import calibrate as fit_all
    from towerspec.train.kinds import strange

    problem = trained_on(run, data, "error")
    problems = [*([problem] if problem else []), *strange(log, run.kinds, "error")]
    if problems:
        raise SpecError(*problems)
    record = fit_all(run, log, data, strength)
    if as_json:
        click.echo(json.dumps(record, indent=2))
        return
    header = ["surface", "task", "calibrator", "rows", "mean label", "loss before", "loss after", "fitted"]
    click.echo(table(header, [_fitted(head) for head in record["heads"]]))
    for line in _left(record["heads"]):
        click.echo(f"\n{render(line)}", err=True)
    click.echo(f"wrote {run.weights}\nnext: towerspec evaluate {run.folder} --data …")


def _fitted(head: Mapping[str, Any]) -> list[str]:
    """A calibrator's line: how many cells have rows, and how many of them are more their own than the surface's."""
    by = f"{head['kind']} by {head['by']}" if head["by"] else head["kind"]
    loss = head.get("loss", {})
    what = head["status"]
    if "cells" in head and what == "fitted":
        own = sum(cell["own"] > 0.5 for cell in head["cells"])
        what = f"{len(head['cells'])} cells, {own} mostly their own"
    elif what == "fitted":
        what = ", ".join(f"{k} {v[0]:.4g}" for k, v in head["parameters"].items() if len(v) == 1) or "a line"
    numbers = ["-" if x is None else number(x) for x in (head["mean"], loss.get("before"), loss.get("after"))]
    return [head["surface"], head["task"], by, f"{head['rows']:,}", *numbers, what]


def _left(heads: Sequence[Mapping[str, Any]]) -> Iterator[Diagnostic]:
    for status, why in (("no rows", "no row with a label"), ("one class", "labels of one class only")):
        left = [f"`{head['path']}`" for head in heads if head["status"] == status]
        if left:
            yield Diagnostic(
                "T834",
                f"{len(left)} of {len(heads)} calibrators stay as they were: the log has {why} for them",
                notes=(listing(left, 10),),
                severity="warning",
            )


@click.command(
    epilog=example(
        "towerspec evaluate runs/ads --data test.parquet",
        "towerspec evaluate runs/ads --data log/ --time-column day --from 2024-05-02 -o report --bootstrap 1000",
    )
)
@_log_options
@click.option(
    "--bootstrap", "times", type=click.IntRange(0, 100_000), default=200, show_default=True, metavar="TIMES",
    help="Resamples behind the confidence intervals; 0 for none.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Of the resamples.")
@click.option("-o", "out", type=click.Path(path_type=Path), metavar="DIR", help="Where to write; RUN without.")
def evaluate(folder: Path, as_json: bool, times: int, seed: int, out: Path | None, **given: Any) -> None:
    """Measure RUN on rows of a log: by surface and task, before and after calibration, with a report."""
    run, log, data = _open(folder, given)
    from towerspec.train.evaluate import as_text, as_warning
    from towerspec.train.evaluate import evaluate as measure
    from towerspec.train.files import write_text
    from towerspec.train.kinds import strange
    from towerspec.train.report import render_report

    problem = trained_on(run, data, "warning")
    problems = [*([problem] if problem else []), *strange(log, run.kinds)]
    document = measure(run, log, data, times, seed)
    document["warnings"] = [*map(as_warning, problems), *document["warnings"]]
    out = out or run.folder
    try:
        write_text(out / "evaluation.json", as_text(document))
        write_text(out / "report.html", render_report(document))
    except OSError as error:
        raise SpecError(Diagnostic("T009", f"`{out}` can't be written: {error.strerror or error}")) from error
    if as_json:
        click.echo(as_text(document), nl=False)
        return
    click.echo("\n\n".join(tables(document)))
    if times:
        click.echo("± is half of the 95% confidence interval")
    for warning in document["warnings"]:
        notes = tuple(warning["notes"])
        problem = Diagnostic(**{**warning, "notes": notes}, severity="warning")
        click.echo(f"\n{render(problem)}", err=True)
    click.echo(f"wrote {out / 'evaluation.json'}, {out / 'report.html'}")


def tables(document: Mapping[str, Any]) -> Iterator[str]:
    """The metrics for a terminal: a table for each set of metrics that heads have, a line before and one after."""
    groups: dict[tuple[str, ...], list[list[str]]] = {}
    for surface, tasks in {**document["surfaces"], "overall": document["overall"]}.items():
        for task, head in tasks.items():
            stages = [("", "after")]
            if head.get("calibration") or (surface == "overall" and head["before"] != head["after"]):
                stages = [("raw", "before"), ("calibrated", "after")]
            for shown, stage in stages:
                line = [
                    surface,
                    task,
                    shown,
                    f"{head['rows']:,}",
                    "-" if head["mean"] is None else number(head["mean"]),
                ]
                groups.setdefault(tuple(head[stage]), []).append([*line, *(measured(x) for x in head[stage].values())])
    for names, rows in groups.items():
        yield table(["surface", "task", "", "rows", "mean label", *(SHOWN[name] for name in names)], rows)
    best = [
        [surface, task, *(number(x) for name in BEST for x in (head["after"][name]["value"], head["best"][name]))]
        for surface, tasks in document["surfaces"].items()
        for task, head in tasks.items()
        if "best" in head
    ]
    if best:
        yield table(["surface", "task", *(word for name in BEST for word in (SHOWN[name], "the truth's"))], best)


def number(x: float | None) -> str:
    return "undefined" if x is None else f"{x:.4g}" if abs(x) < 1e-3 and x else f"{x:.4f}"


def measured(x: Mapping[str, float | None]) -> str:
    """A metric with half of its interval."""
    value, low, high = x["value"], x["low"], x["high"]
    if value is None or low is None or high is None:
        return number(value)
    return f"{number(value)} ±{(high - low) / 2:.4f}"
