"""What the commands share: their common options, and tables."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from towerspec.diagnostics import render
from towerspec.watch import Watch

if TYPE_CHECKING:
    from towerspec.check import Checked

Command = TypeVar("Command", bound=Callable[..., Any])

SPEC = click.argument("spec", type=click.Path(path_type=Path))
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
STRICT = click.option("--strict", is_flag=True, help="Take what is declared and never used for a mistake.")


def read_spec(spec: Path, strict: bool, watch: Watch | None = None) -> Checked:
    """A spec, checked; its warnings are printed beside what the command prints."""
    watch = watch or Watch()
    with watch.stage("start"):
        from towerspec.check import check
    found = check(spec, watch, strict=strict)
    for warning in found.report.warnings:
        click.echo(f"{render(warning)}\n", err=True)
    return found


def level_option(help: str) -> Callable[[Command], Command]:
    """The option `-O`."""
    kind = click.IntRange(0, 3)
    return click.option("-O", "level", type=kind, default=2, show_default=True, metavar="LEVEL", help=help)


def example(*lines: str) -> str:
    """Examples for the end of a command's help."""
    # \b keeps click from joining the lines.
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def table(header: list[str], rows: list[list[str]]) -> str:
    """Columns for a terminal: the first to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    left = [all(not re.match(r"[\d,.]", row[i]) for row in rows) for i in range(len(header))]

    def line(row: list[str]) -> str:
        return "  ".join(
            c.ljust(w) if side else c.rjust(w) for c, w, side in zip(row, widths, left, strict=True)
        ).rstrip()

    return "\n".join([line(header), "  ".join("-" * w for w in widths), *(line(row) for row in rows)])


def size(count: int) -> str:
    """Bytes for people.

    >>> size(1536)
    '1.5 KiB'
    """
    number, units = float(count), ["B", "KiB", "MiB", "GiB"]
    while number >= 1024 and len(units) > 1:
        number, units = number / 1024, units[1:]
    return f"{number:.0f} {units[0]}" if units[0] == "B" else f"{number:.1f} {units[0]}"
