"""The commands about data: `data check` and `simulate`. What they run is imported when they run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from towerspec.diagnostics import Diagnostic, SpecError, render
from towerspec.terminal import JSON, STRICT, example, read_spec, table

if TYPE_CHECKING:
    from towerspec.train.data import Columns
    from towerspec.train.survey import Survey

F = TypeVar("F", bound=Callable[..., Any])

_COLUMNS = (
    click.option(
        "--surface-column", default="surface", show_default=True, metavar="NAME", help="Says which surface a row is of."
    ),
    click.option(
        "--map-surface",
        "mapping",
        multiple=True,
        metavar="RAW=NAME",
        help="What the surface column holds for the surface NAME; may be repeated.",
    ),
    click.option(
        "--request-column",
        default="request",
        show_default=True,
        metavar="NAME",
        help="Says which rows were shown together; used if the data have it.",
    ),
    click.option("--time-column", metavar="NAME", help="Says when a row was shown."),
    click.option(
        "--null",
        "nulls",
        multiple=True,
        metavar="WORD",
        help="A text that stands for a missing value, such as NA; may be repeated.",
    ),
)


def column_options(command: F) -> F:
    """The options that say which columns of a log are what; `columns` makes them a `Columns`."""
    for option in reversed(_COLUMNS):
        command = option(command)
    return command


def columns(
    surface_column: str, mapping: Sequence[str], request_column: str, time_column: str | None, nulls: Sequence[str]
) -> Columns:
    """The options of `column_options` as the reader takes them."""
    from towerspec.train.data import Columns

    if any("=" not in item for item in mapping):
        raise click.UsageError("--map-surface takes RAW=NAME")
    surfaces = {raw: name for raw, _, name in (item.rpartition("=") for item in mapping)}
    return Columns(surface_column, surfaces, request_column, time_column, tuple(dict.fromkeys(nulls)))


OPTIONS = ("surface_column", "mapping", "request_column", "time_column", "nulls")  # what `columns` takes


def needs(package: str, extra: str = "train") -> None:
    """Raises `SpecError` (T819) where a package isn't installed that a command needs."""
    import importlib.util

    if importlib.util.find_spec(package) is None:
        raise SpecError(
            Diagnostic(
                "T819",
                f"this needs the package `{package}`",
                help=f"install it with `pip install 'towerspec[{extra}]'`",
            )
        )


@click.group()
def data() -> None:
    """Look at training data before training."""


@data.command(
    name="check",
    epilog=example(
        "towerspec data check ads.tower log/",
        "towerspec data check ads.tower a.parquet b.parquet --surface-column tab --map-surface 0=home",
    ),
)
@click.argument("spec", type=click.Path(path_type=Path))
@click.argument("paths", metavar="DATA...", nargs=-1, required=True, type=click.Path(path_type=Path))
@column_options
@STRICT
@JSON
def check_data(spec: Path, paths: tuple[Path, ...], strict: bool, as_json: bool, **options: Any) -> None:
    """Read all of DATA, Parquet or CSV, as SPEC would: what is wrong, rows and rates, missing and unknown values."""
    needs("pyarrow")
    from towerspec.train.data import open_log
    from towerspec.train.survey import survey

    found = survey(open_log(read_spec(spec, strict), paths, columns(**options)))
    if as_json:
        click.echo(json.dumps(found.as_json(), indent=2))
        return
    click.echo(f"{_surfaces(found)}\n\n{_features(found)}")
    for warning in found.warnings():
        click.echo(f"\n{render(warning)}", err=True)


@click.command(
    epilog=example(
        "towerspec simulate ads.tower -o log",
        "towerspec simulate ads.tower -o log --rows 1000000 --days 30",
    )
)
@click.argument("spec", type=click.Path(path_type=Path))
@click.option("-o", "out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Where the log goes.")
@click.option("--rows", type=click.IntRange(1), default=50_000, show_default=True, help="Candidates in all.")
@click.option("--requests", type=click.IntRange(1), help="Requests in all, instead of rows.")
@click.option("--days", type=click.IntRange(3), default=10, show_default=True, help="The last one is the test's.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Of all that is random.")
@STRICT
@JSON
def simulate(spec: Path, out: Path, strict: bool, as_json: bool, **options: Any) -> None:
    """Make a log for SPEC by a hidden teacher, with the true probabilities and the best reachable metrics beside it."""
    needs("pyarrow")
    needs("safetensors")
    from towerspec.train.simulate import Options
    from towerspec.train.simulate import simulate as make

    best = make(read_spec(spec, strict), out, Options(**options))
    if as_json:
        click.echo(json.dumps(best, indent=2))
        return
    click.echo(_best(best["test"]))
    click.echo(f"wrote {out}: train.parquet, calibrate.parquet, test.parquet, and the truth beside them")


def _best(found: dict[str, Any]) -> str:
    rows = []
    for surface, tasks in found.items():
        for task, x in tasks.items():
            reached = [x["expected"][metric] for metric in ("log_loss", "auc")] if "expected" in x else [None, None]
            shown = ["-" if value is None else f"{value:.4f}" for value in (x["mean"], *reached)]
            rows.append([surface, task, f"{x['rows']:,}", *shown])
    return table(["surface", "task", "test rows", "mean", "best log loss", "best AUC"], rows)


def _surfaces(found: Survey) -> str:
    tasks = list(dict.fromkeys(name for of in found.tasks.values() for name in of))
    rows = []
    for surface, count in found.rows.items():
        rates = [found.tasks[surface].get(task) for task in tasks]
        rows.append([surface, f"{count:,}", *("-" if x is None or x.rate is None else f"{x.rate:.4g}" for x in rates)])
    return table(["surface", "rows", *tasks], rows)


def _features(found: Survey) -> str:
    rows = []
    for values in found.features.values():
        span = f"{values.low:g} to {values.high:g}" if values.values else "-"
        unknown = f"{values.unknown / max(values.values, 1):.2%}" if values.feature.coding else "-"
        missing = f"{values.missing / max(values.rows, 1):.2%}"
        rows.append([values.feature.name, values.feature.kind.kind, missing, unknown, span])
    return table(["feature", "kind", "missing", "unknown", "range"], rows)
