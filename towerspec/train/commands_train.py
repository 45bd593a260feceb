"""The command `train`. What it runs is imported when it runs."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from towerspec.diagnostics import render
from towerspec.terminal import JSON, STRICT, example, read_spec
from towerspec.train.commands_data import OPTIONS, column_options, columns, needs

if TYPE_CHECKING:
    from towerspec.train.data import Log
    from towerspec.train.run import Run


@click.command(
    epilog=example(
        "towerspec train ads.tower --data log/ --time-column day --valid-from 2024-05-01 -o runs/ads",
        "towerspec train ads.tower --data train.parquet --valid valid.parquet -o runs/ads --set epochs=3",
        "towerspec train ads.tower --data train.parquet -o runs/ads --resume",
    )
)
@click.argument("spec", type=click.Path(path_type=Path))
@click.option(
    "--data", "data", multiple=True, required=True, type=click.Path(path_type=Path), metavar="PATH",
    help="Parquet or CSV files, or their folder; may be repeated.",
)  # fmt: skip
@click.option("-o", "out", required=True, type=click.Path(path_type=Path), metavar="RUN", help="The run folder.")
@click.option(
    "--valid", multiple=True, type=click.Path(path_type=Path), metavar="PATH", help="Files of validation rows."
)
@click.option("--valid-from", metavar="TIME", help="Rows of `--data` from this time on are for validation.")
@click.option(
    "--set", "settings", multiple=True, metavar="OPTION=VALUE", help="An option of the spec's `train` block, such as "
    "epochs=3; may be repeated.",
)  # fmt: skip
@click.option(
    "--init-from", type=click.Path(path_type=Path), metavar="RUN", help="Begin with an earlier run's weights that fit."
)
@click.option(
    "--freeze", "frozen", multiple=True, metavar="PART", help="Hold a part: trunk, a surface, a path; may be repeated."
)
@click.option("--resume", is_flag=True, help="Go on with the training that was interrupted in RUN.")
@click.option("--processes", type=click.IntRange(1), default=1, show_default=True, help="On this machine; or devices.")
@click.option("--nodes", type=click.IntRange(1), default=1, show_default=True, help="Machines; see torchrun.")
@click.option(
    "--checkpoint-every", type=click.IntRange(1), default=1000, show_default=True, metavar="STEPS",
    help="Besides after each epoch.",
)  # fmt: skip
@click.option(
    "--logger", type=click.Choice(["csv", "tensorboard"]), default="csv", show_default=True, help="Form of RUN/logs."
)
@column_options
@STRICT
@JSON
def train(spec: Path, out: Path, strict: bool, as_json: bool, **given: Any) -> None:
    """Train SPEC on a log of impressions, into a run folder."""
    needs("pyarrow")
    needs("lightning")
    if given["nodes"] > 1 and "MASTER_ADDR" not in os.environ:
        raise click.UsageError("--nodes needs MASTER_ADDR, MASTER_PORT and NODE_RANK, as torchrun gives them")
    if given["processes"] * given["nodes"] > 1:
        # Torch's advice on a flag that a batch without rows of a surface needs; to be said before it is imported.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    if given["logger"] == "tensorboard":
        needs("tensorboard", "tensorboard")
    from towerspec.train.data import open_log
    from towerspec.train.folder import Setup
    from towerspec.train.kinds import recorded
    from towerspec.train.run import Run
    from towerspec.train.settings import settings
    from towerspec.train.trainer import primary, train

    checked = read_spec(spec, strict)
    model, _ = checked.sound()
    options = settings(model.train, given["settings"])
    options = options.model_copy(update={"freeze": (*options.freeze, *given["frozen"])})
    named = columns(*(given[k] for k in OPTIONS))
    log = open_log(checked, given["data"], named)
    valid = open_log(checked, given["valid"], named) if given["valid"] else None
    if given["valid_from"] is not None:
        if valid is not None:
            raise click.UsageError("--valid and --valid-from exclude each other")
        log, valid = log.where(before=given["valid_from"]), log.where(after=given["valid_from"])
        _say_untimed(log)
    data = {k: [str(p) for p in given[k]] for k in ("data", "valid")} | {"valid_from": given["valid_from"]}
    data["null"] = list(named.nulls)
    data["ids"] = recorded(log)
    if primary():
        _say_kinds(log, valid, given["init_from"])
    setup = Setup(
        resume=given["resume"],
        processes=given["processes"],
        nodes=given["nodes"],
        checkpoint_every=given["checkpoint_every"],
        init_from=Run(given["init_from"]) if given["init_from"] else None,
        tensorboard=given["logger"] == "tensorboard",
        bar=sys.stderr.isatty() and sys.stdout.isatty() and not as_json,  # it goes to standard output
        say=lambda line: click.echo(line, err=True),
        data=data,
    )
    run = train(checked, log, valid, out, options, setup)
    if primary():
        _report(run, as_json)


def _say_untimed(log: Log) -> None:
    """Warns of rows that are neither before a time nor after it."""
    from towerspec.train.survey import untimed_warning
    from towerspec.train.trainer import primary

    warning = untimed_warning(log) if primary() else None
    if warning is not None:
        click.echo(render(warning), err=True)


def _say_kinds(log: Log, valid: Log | None, init_from: Path | None) -> None:
    """Warns of ids that are texts in one place and whole numbers in another."""
    from towerspec.train.kinds import mixed, recorded, strange
    from towerspec.train.run import Run

    found = [*mixed(log), *(strange(valid, recorded(log)) if valid is not None else ())]
    if init_from is not None:
        run = Run(init_from)
        found += strange(log.with_vocabularies(run.read_vocabularies()), run.kinds)
    for problem in dict.fromkeys(found):
        click.echo(render(problem), err=True)


def _report(run: Run, as_json: bool) -> None:
    record = run.record
    if as_json:
        click.echo(json.dumps(record, indent=2))
        return
    best = record["epochs"][record["best_epoch"] - 1]
    shown = ", ".join(f"{name} {value:.4f}" for name, value in best.items() if name.count("/") == 1)
    click.echo(f"best of {len(record['epochs'])} epochs: {record['best_epoch']} ({shown})")
    click.echo(f"wrote {run.folder}: {run.weights.name}, run.json\nnext: towerspec evaluate {run.folder} --data …")
