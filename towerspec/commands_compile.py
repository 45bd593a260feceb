"""The command `compile`."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click

from towerspec.cpu import KINDS, this_cpu
from towerspec.emit.rounding import MAX_ERROR
from towerspec.terminal import JSON, SPEC, STRICT, example, level_option, read_spec, size, table
from towerspec.watch import Watch


@click.command(
    name="compile",
    epilog=example(
        "towerspec compile ads.tower -o build/ads",
        "towerspec compile ads.tower -o build/ads --weights ads.safetensors",
        "towerspec compile ads.tower -o build/ads --target aoti",
        "towerspec compile ads.tower --emit ops --surface search",
    ),
)
@SPEC
@click.option(
    "-o", "out", type=click.Path(path_type=Path), metavar="BUILD", help="The build folder; replaced as a whole."
)
@level_option(
    "-O0 slices and does nothing else; -O1 drops what the surface lacks; -O2 computes what belongs to the "
    "request once; -O3 rounds large linears and tables to fewer bits."
)
@click.option(
    "--cpu",
    type=click.Choice(list(KINDS)),
    help="Of -O3: which kind of CPU is to serve; this machine's without it. `any` keeps linears in float32.",
)
@click.option(
    "--max-error",
    type=click.FloatRange(min=0.0),
    default=MAX_ERROR,
    show_default=True,
    help="Of -O3: how far a prediction may be from the float64 reference's; beyond it the compile refuses.",
)
@click.option(
    "--samples",
    type=click.Path(path_type=Path),
    metavar="LOG",
    help="Of -O3: a log of your own, Parquet or CSV, on whose rows that is measured instead of on generated ones.",
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="A run's folder, or parameters as safetensors. Without it, the seed makes them.",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="For parameters without weights."
)
@click.option("--surface", "surfaces", multiple=True, metavar="NAME", help="Only this surface; may be repeated.")
@click.option("--no-pass", "without", multiple=True, metavar="NAME", help="Leave a pass out; may be repeated.")
@click.option(
    "--target",
    "targets",
    multiple=True,
    type=click.Choice(["torchscript", "aoti"]),
    help="`aoti` adds an AOTInductor package and an exported program to each surface's TorchScript, which is always "
    "made; it takes a C++ compiler, and most of a minute a surface.",
)
@click.option("--logits", is_flag=True, help="Serving graphs also return each head's raw logit.")
@click.option("--fresh", is_flag=True, help="Compile also the surfaces that BUILD has already, unchanged.")
@click.option("--timings", is_flag=True, help="Show the seconds of each stage.")
@click.option("--emit", "emit", type=click.Choice(["ops"]), help="Print the op graph instead of building.")
@click.option("--explain-passes", is_flag=True, help="Show what each pass does to each surface, instead of building.")
@STRICT
@JSON
def compile_(
    spec: Path,
    out: Path | None,
    level: int,
    cpu: str | None,
    max_error: float,
    samples: Path | None,
    weights: Path | None,
    seed: int,
    surfaces: tuple[str, ...],
    without: tuple[str, ...],
    targets: tuple[str, ...],
    logits: bool,
    fresh: bool,
    timings: bool,
    emit: str | None,
    explain_passes: bool,
    strict: bool,
    as_json: bool,
) -> None:
    """Compile SPEC into a build folder: model.py, unified.pt, and a frozen graph for each surface."""
    watch = Watch()
    checked = read_spec(spec, strict, watch)
    if emit == "ops":
        _emit_ops(checked, level, surfaces, without, cpu or this_cpu())
        return
    if explain_passes:
        _show_passes(checked, level, surfaces, without, as_json, cpu or this_cpu())
        return
    if out is None:
        raise click.UsageError("Missing option '-o'.")
    if samples is not None:
        if level < 3:
            raise click.UsageError("'--samples' is of -O3, which measures on them what fewer bits cost.")
        from towerspec.train.commands_data import needs

        needs("pyarrow")
    with watch.stage("start"):
        from towerspec.emit.build import Options, compile_spec
    options = Options(level, weights, seed, surfaces, without, logits, fresh, targets, cpu or "", max_error, samples)
    count = len(surfaces or checked.model.surfaces) + 2 if checked.model else 1
    with click.progressbar(
        length=count,
        label="compiling",
        file=sys.stderr,
        hidden=not sys.stderr.isatty(),
        item_show_func=lambda step: step,
    ) as bar:
        document = compile_spec(checked, out, options, lambda step: bar.update(1, step), watch)
    if as_json:
        click.echo(json.dumps({**document, **({"timings": watch.seconds} if timings else {})}, indent=2))
        return
    click.echo(_summary(document, out))
    if timings:
        click.echo(_timings(watch.seconds))


def _summary(document: dict[str, Any], out: Path) -> str:
    surfaces = document["surfaces"]
    header = ["surface", "inputs", "outputs", "parameters", "FLOPs/request", "FLOPs/candidate", "file"]
    rows = [
        [
            name,
            str(len(s["inputs"])),
            ", ".join(o["name"] for o in s["outputs"]),
            f"{s['parameters']:,}",
            *(f"{s['flops'][row]:,}" for row in ("request", "candidate")),
            size(s["file_bytes"]),
        ]
        for name, s in surfaces.items()
    ]
    verified = [x for s in surfaces.values() for x in (s["verified"], s["targets"].get("aoti", {}))]
    worst = max(x.get("largest_difference", 0.0) for x in verified)
    said = [table(header, rows), *_precision(document), *_unreached(document)]
    return "\n".join([*said, f"wrote {out}: each graph equals the float64 reference within {worst:.1g}"])


def _unreached(document: dict[str, Any]) -> list[str]:
    """What the compile's calls did not reach, in a line for each surface."""
    found = {name: s["verified"]["not_reached"] for name, s in document["surfaces"].items()}
    return [f"not verified in {name}, as no call reached it: {'; '.join(said)}" for name, said in found.items() if said]


def _errors(document: dict[str, Any]) -> list[str]:
    """At -O3, how far each head is from the reference in each leaf."""
    header = ["surface", "leaf", "head", "numbers", "rows", "p50", "p99", "max"]
    rows = [
        [name, e.get("leaf", "-"), e["head"], e["numbers"], f"{e['rows']:,}", *(f"{e[q]:.2g}" for q in header[-3:])]
        for name, s in document["surfaces"].items()
        for e in s.get("precision", {}).get("errors", [])
    ]
    return ["how far predictions are from the float64 reference's:", table(header, rows)] if rows else []


def _precision(document: dict[str, Any]) -> list[str]:
    """At -O3, what is stored in how many bits, in all surfaces together."""
    said = [s["precision"] for s in document["surfaces"].values() if "precision" in s]
    if not said:
        return []
    counts: dict[str, Counter[str]] = {"linears": Counter(), "tables": Counter()}
    for entry in said:
        for what, count in counts.items():
            count.update(entry[what])
    shown = [f"{what} {', '.join(f'{n} {name}' for name, n in count.items())}" for what, count in counts.items()]
    note = "" if len(counts["linears"]) > 1 else "; no linear is large enough for fewer bits to pay"
    if said[0]["cpu"] == "any":
        note = "; linears stay in float32 where a CPU has neither AMX nor VNNI"
    line = f"for a CPU with {said[0]['cpu']}: {'; '.join(shown)}{note}".replace("a CPU with any", "any CPU")
    return [line, *_errors(document)]


def _timings(seconds: dict[str, float]) -> str:
    whole = sum(seconds.values())
    rows = [[name, f"{took:.3f}", f"{took / whole:.0%}"] for name, took in seconds.items()]
    return table(["stage", "seconds", "share"], [*rows, ["all", f"{whole:.3f}", ""]])


def _emit_ops(checked: Any, level: int, surfaces: tuple[str, ...], without: tuple[str, ...], cpu: str) -> None:
    from towerspec.ir.printer import print_graph
    from towerspec.passes import check_names, optimise

    _, graph = checked.sound()
    check_names(graph, surfaces, without)
    made = [optimise(graph, surface, level, without, cpu=cpu) for surface in surfaces or graph.surfaces]
    click.echo("\n".join(map(print_graph, made)), nl=False)


def _show_passes(
    checked: Any, level: int, surfaces: tuple[str, ...], without: tuple[str, ...], as_json: bool, cpu: str
) -> None:
    from towerspec.explain import explain_passes
    from towerspec.passes import check_names

    _, graph = checked.sound()
    check_names(graph, surfaces, without)
    names = surfaces or graph.surfaces
    found = {name: explain_passes(checked, name, level, without, cpu) for name in names}
    if as_json:
        click.echo(json.dumps({"surfaces": found}, indent=2))
        return
    header = ["pass"] + [f"{what}/{row}" for what in ("ops", "FLOPs", "bytes") for row in ("request", "candidate")]
    header.append("weights")
    for name, steps in found.items():
        rows = [
            [
                s["pass"],
                *(f"{s[what][row]:,}" for what in ("ops", "flops", "bytes") for row in ("request", "candidate")),
                size(s["weights"]),
            ]
            for s in steps
        ]
        click.echo(f"{name}\n{table(header, rows)}\n")
