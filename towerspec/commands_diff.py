"""The command `diff`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from towerspec.terminal import JSON, STRICT, example, level_option, read_spec, size, table

if TYPE_CHECKING:
    from towerspec.diff import Change, SpecDiff, SurfaceChange


@click.command(epilog=example("towerspec diff old.tower new.tower", "towerspec diff old.tower new.tower --exit-code"))
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@level_option("The optimisation level that costs are of.")
@click.option("--exit-code", is_flag=True, help="Exit 1 where they differ, as `git diff --exit-code` does.")
@STRICT
@JSON
def diff(old: Path, new: Path, level: int, exit_code: bool, strict: bool, as_json: bool) -> None:
    """Show what changes from OLD to NEW: surfaces, inputs, outputs, parameters, and what each surface costs.

    A parameter of the same name and shape is kept: `towerspec train --init-from` carries it over. A surface that is
    the same predicts what it did, as long as its weights do.
    """
    from towerspec.diff import diff

    found = diff(read_spec(old, strict), read_spec(new, strict), level)
    click.echo(json.dumps(found.as_json(), indent=2) if as_json else "\n".join(_lines(found)))
    if exit_code and found:
        raise SystemExit(1)


def _lines(found: SpecDiff) -> Iterator[str]:
    if not found:
        yield "no difference"
    header = ["surface", "", "parameters", "FLOPs/request", "FLOPs/candidate", "weights"]
    yield table(header, [[name, s.state, *_costs(s)] for name, s in found.surfaces.items()])
    for name, surface in found.surfaces.items():
        if surface.state == "changed":
            yield from _section(f"inputs of {name}", surface.inputs)
            yield from _section(f"outputs of {name}", surface.outputs)
    p = found.parameters
    counts = f"{found.kept} kept, {len(p.added)} added, {len(p.lost)} lost, {len(p.changed)} resized"
    yield f"\nparameters: {counts}"
    yield from _changes(p)
    yield from _section("training", found.training)


def _section(title: str, change: Change) -> Iterator[str]:
    if change:
        yield f"\n{title}"
        yield from _changes(change)


def _changes(change: Change) -> Iterator[str]:
    yield from (f"  + {name}  {x}" for name, x in change.added.items())
    yield from (f"  - {name}  {x}" for name, x in change.lost.items())
    yield from (f"  ~ {name}  {old} -> {new}" for name, (old, new) in change.changed.items())


def _costs(surface: SurfaceChange) -> list[str]:
    def value(row: Any, key: str) -> Any:
        return row and (row["flops"][key] if key in row["flops"] else row[key])

    cells = []
    for key in ("parameters", "request", "candidate", "bytes"):
        old, new = value(surface.old, key), value(surface.new, key)
        shown = [size(x) if key == "bytes" else f"{x:,}" for x in (old, new) if x is not None]
        cells.append(" -> ".join(dict.fromkeys(shown)))
    return cells
