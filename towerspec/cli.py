"""The command line: the only place that prints or chooses an exit code.

0 is fine, 1 means the spec or the data is wrong, 2 that the command was misused.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from towerspec import __version__
from towerspec.diagnostics import (
    MOST,
    Diagnostic,
    Report,
    SpecError,
    did_you_mean,
    render,
    render_concise,
    render_github,
    render_json,
)
from towerspec.terminal import JSON, SPEC, STRICT, example, level_option, read_spec, size, table

RENDERERS: dict[str, Callable[[Diagnostic], str]] = {
    "human": render,
    "concise": render_concise,
    "github": render_github,
}

# Commands that live elsewhere, imported when they are asked for.
_ELSEWHERE = {
    "data": "towerspec.train.commands_data:data",
    "simulate": "towerspec.train.commands_data:simulate",
    "compile": "towerspec.commands_compile:compile_",
    "diff": "towerspec.commands_diff:diff",
    "bench": "towerspec.commands_bench:bench",
    "train": "towerspec.train.commands_train:train",
    "calibrate": "towerspec.train.commands_evaluate:calibrate",
    "evaluate": "towerspec.train.commands_evaluate:evaluate",
}


class _Commands(click.Group):
    """Suggests the nearest command for a misspelt one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_ELSEWHERE})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _ELSEWHERE:
            return super().get_command(ctx, name)
        module, _, attribute = _ELSEWHERE[name].partition(":")
        found: click.Command = getattr(importlib.import_module(module), attribute)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            hint = did_you_mean(args[0], self.list_commands(ctx)) if args else None
            raise click.UsageError(f"{error.message} {hint or ''}".strip(), ctx) from error


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=example(
        "towerspec init model.tower", "towerspec check model.tower", "towerspec compile model.tower -o build/model"
    ),
)
@click.version_option(__version__, prog_name="towerspec")
def cli() -> None:
    """One .tower file becomes one serving graph per product surface."""


# ---- reporting ---------------------------------------------------------------------------------


def _print(diagnostics: Iterable[Diagnostic], form: str, err: bool) -> None:
    diagnostics = list(diagnostics)
    rest = len(diagnostics) - MOST
    diagnostics = diagnostics[:MOST]
    if form == "json":
        click.echo(render_json(diagnostics))
        return
    blocks = [RENDERERS[form](d) for d in diagnostics]
    if blocks:
        click.echo(("\n\n" if form == "human" else "\n").join(blocks), err=err)
    if rest > 0:
        click.echo(f"… and {rest:,} more", err=True)


# ---- commands ----------------------------------------------------------------------------------


@cli.command(epilog=example("towerspec init", "towerspec init ads.tower"))
@click.argument("path", type=click.Path(path_type=Path), default="model.tower")
def init(path: Path) -> None:
    """Write a commented starter spec to PATH (model.tower)."""
    if path.exists() or path.is_symlink():
        raise SpecError(Diagnostic("T009", f"`{path}` exists already", help="give another name; init replaces nothing"))
    name, text = _starter(path.stem)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SpecError(Diagnostic("T009", f"`{path}` can't be written: {error.strerror}")) from error
    quoted = shlex.quote(str(path))
    click.echo(f"wrote {path}\nnext: towerspec check {quoted} && towerspec compile {quoted} -o build/{name}")


def _starter(stem: str) -> tuple[str, str]:
    """The starter spec, and its model's name: the file's, or one like it where that is a word of the language."""
    from towerspec.check import check_text

    text = (Path(__file__).parent / "starter.tower").read_text(encoding="utf-8")
    name = re.sub(r"[^a-z0-9_]", "_", stem.lower()).strip("_0123456789")[:48] or "model"
    named = text.replace("model starter", f"model {name}", 1)
    if check_text(named).report:
        name = f"my_{name}"
        named = text.replace("model starter", f"model {name}", 1)
    return name, named


@cli.command(epilog=example("towerspec check ads.tower", "towerspec check ads.tower --format github"))
@SPEC
@click.option(
    "--format",
    "form",
    type=click.Choice(["human", "concise", "json", "github"]),
    default="human",
    show_default=True,
    help="How mistakes are shown.",
)
@STRICT
@JSON
def check(spec: Path, form: str, strict: bool, as_json: bool) -> None:
    """Check SPEC: names, types, levels, topology. Warnings leave the exit code at 0."""
    from towerspec.check import check

    form = "json" if as_json else form
    try:
        report = (checked := check(spec, strict=strict)).report
    except SpecError as error:  # the file itself can't be read
        report = Report()
        report.extend(error.diagnostics)
    found = report.diagnostics
    _print(found, form, err=False)
    if report:
        if form == "human":
            more = "more than " if report.full else ""
            click.echo(f"\n{more}{_count(len(found), 'mistake')} in {spec}", err=True)
        raise SystemExit(1)
    if form == "human":
        model, graph = checked.sound()
        counts = [(len(model.surfaces), "surface"), (len({o.name for o in graph.outputs}), "task")]
        counts += [(len(model.features), "feature"), *([(len(found), "warning")] if found else [])]
        click.echo(("\n" if found else "") + f"{spec} is sound: {', '.join(_count(*c) for c in counts)}")


def _count(n: int, word: str) -> str:
    return f"{n} {word}{'s' if n != 1 else ''}"


@cli.command(epilog=example("towerspec fmt ads.tower", "towerspec fmt --check specs/*.tower"))
@click.argument("specs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--check", "only_check", is_flag=True, help="Change nothing; exit 1 if a file is not in canonical form.")
def fmt(specs: tuple[Path, ...], only_check: bool) -> None:
    """Bring SPECS into canonical form, comments kept."""
    from towerspec.syntax.files import read_source
    from towerspec.syntax.format import format_text

    failed = False
    for spec in specs:
        try:
            text = read_source(spec).text
            pretty = format_text(text, str(spec))
        except SpecError as error:
            _print(error.diagnostics, "human", err=True)
            failed = True
            continue
        changed = pretty.encode() != spec.read_bytes()
        if changed and only_check:
            click.echo(f"{spec} would change")
            failed = True
        elif changed:
            _replace(spec, pretty)
            click.echo(f"{spec} changed")
    if failed:
        raise SystemExit(1)


def _replace(path: Path, text: str) -> None:
    """Writes a file beside the old one and puts it in its place, so that a kill loses nothing."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_bytes(text.encode())
        fresh.chmod(path.stat().st_mode)
        fresh.replace(path.resolve())
    except OSError as error:
        raise SpecError(Diagnostic("T009", f"`{path}` can't be written: {error.strerror}")) from error
    finally:
        fresh.unlink(missing_ok=True)


@cli.command(
    epilog=example("towerspec explain ads.tower", "towerspec explain ads.tower --lines", "towerspec explain T203")
)
@click.argument("subject", metavar="SPEC|CODE")
@level_option("The optimisation level.")
@click.option("--lines", is_flag=True, help="Show which line of SPEC is responsible for which share of each cost.")
@STRICT
@JSON
def explain(subject: str, level: int, lines: bool, strict: bool, as_json: bool) -> None:
    """Show what each surface of SPEC costs, or what the error CODE means."""
    if re.fullmatch(r"[Tt]\d{3}", subject) and not Path(subject).exists():
        page = Path(__file__).parent / "explanations" / f"{subject.upper()}.md"
        if not page.is_file():
            raise click.UsageError(f"there is no error code {subject.upper()}")
        text = page.read_text(encoding="utf-8")
        click.echo(json.dumps({"code": subject.upper(), "page": text}) if as_json else text.rstrip())
        return
    from towerspec.explain import explain_table

    found = read_spec(Path(subject), strict)
    rows = explain_table(found, level)
    if lines:
        _explain_lines(found, rows, level, as_json)
        return
    if as_json:
        click.echo(json.dumps({"surfaces": rows}, indent=2))
        return
    click.echo(
        table(
            ["surface", "inputs", "outputs", "parameters", "of its own", "FLOPs/request", "FLOPs/candidate", "weights"],
            [
                [
                    name,
                    str(len(r["inputs"])),
                    ", ".join(r["outputs"]),
                    f"{r['parameters']:,}",
                    f"{r['own_parameters']:,}",
                    f"{r['flops']['request']:,}",
                    f"{r['flops']['candidate']:,}",
                    size(r["bytes"]),
                ]
                for name, r in rows.items()
            ],
        )
    )


def _explain_lines(checked: Any, surfaces: Iterable[str], level: int, as_json: bool) -> None:
    from towerspec.explain_lines import explain_lines

    found = {surface: explain_lines(checked, surface, level) for surface in surfaces}
    if as_json:
        click.echo(json.dumps({"surfaces": {name: {"lines": rows} for name, rows in found.items()}}, indent=2))
        return
    header = ["line", "statement", "FLOPs/request", "", "FLOPs/candidate", "", "weights"]
    for name, rows in found.items():
        shown = [
            [f"{Path(r['file']).name}:{r['line']}" if r["line"] else "", r["statement"]]
            + [x for row, n in r["flops"].items() for x in (f"{n:,}", f"{r['share']['flops'][row]:.1%}")]
            + [size(r["weights"])]
            for r in rows
        ]
        click.echo(f"{name}\n{table(header, shown)}\n")


@cli.command(epilog=example("towerspec graph ads.tower -o ads.svg", "towerspec graph ads.tower --format mermaid"))
@SPEC
@click.option(
    "--format",
    "form",
    type=click.Choice(["svg", "dot", "mermaid"]),
    default="svg",
    show_default=True,
    help="What to draw it as.",
)
@click.option(
    "-o", "out", type=click.Path(path_type=Path), metavar="FILE", help="Where to write it; standard output without."
)
@STRICT
def graph(spec: Path, form: str, out: Path | None, strict: bool) -> None:
    """Draw SPEC: the trunk, a tower tree for each surface, fusions, calibration."""
    from towerspec.graph import render as draw

    found = read_spec(spec, strict)
    found.report.check()
    text = draw(found, form)
    if out is None:
        click.echo(text, nl=not text.endswith("\n"))
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SpecError(Diagnostic("T009", f"`{out}` can't be written: {error.strerror}")) from error
    click.echo(f"wrote {out}")


@cli.command(
    epilog=example(
        'eval "$(towerspec completion bash)"', "towerspec completion fish > ~/.config/fish/completions/towerspec.fish"
    )
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes towerspec's commands in a shell."""
    from click.shell_completion import get_completion_class

    cls = get_completion_class(shell)
    assert cls is not None
    click.echo(cls(cli, {}, "towerspec", "_TOWERSPEC_COMPLETE").source())


# ---- the entry point ---------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; every mistake of the user's ends as a diagnostic and an exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        cli.main(args=arguments, prog_name="towerspec", standalone_mode=True)
    except SpecError as error:
        _print(error.diagnostics, "json" if "--json" in arguments else "human", err=True)
        sys.exit(1)
    except BrokenPipeError:  # the reader of a pipe went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        # A bug of ours must not look like the user's: one line, and the traceback for those who ask for it.
        if os.environ.get("TOWERSPEC_TRACEBACK"):
            raise
        click.echo(
            f"internal error: {type(error).__name__}: {error}\n"
            "This is a bug in towerspec; set TOWERSPEC_TRACEBACK=1 to see where.",
            err=True,
        )
        sys.exit(70)


if __name__ == "__main__":
    main()
