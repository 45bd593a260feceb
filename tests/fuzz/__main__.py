"""The fuzzer: `python -m tests.fuzz specs --count 5000`, `python -m tests.fuzz mutants --count 50000`."""

from __future__ import annotations

import argparse
import functools
import os
import sys
import time
import warnings
from pathlib import Path

import torch

from tests.fuzz import jobs, mutants
from tests.fuzz.coverage import Coverage, table
from tests.fuzz.report import SAVED, Report
from tests.fuzz.shrink import shrink
from tests.fuzz.specs import TRAITS
from tests.fuzz.trial import draw_plan
from tests.fuzz.workers import run


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzzes the compiler and what it serves.")
    commands = made.add_subparsers(dest="command", required=True)
    for name, (_, text) in jobs.COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--count", type=int, default=1_000_000_000, help="how many; without end by default")
        command.add_argument("--seconds", type=float, default=float("inf"), help="after which no further one begins")
        command.add_argument("--seed", type=int, default=0, help="the first one's; the others' follow")
        command.add_argument("--jobs", type=int, default=1, help="how many processes at once")
        command.add_argument("--limit", type=float, default=300.0, help="seconds after which one counts as a hang")
        command.add_argument("--out", type=Path, default=Path("build/fuzz"), help="where report and failures go")
        command.add_argument("--resume", action="store_true", help="go on where the report in `--out` ends")
        if name == "specs":
            command.add_argument("--omit", default="", help=f"traits to leave out, with commas: {', '.join(TRAITS)}")
            command.add_argument("--thorough", action="store_true", help="every level, and each pass left out")
    small = commands.add_parser("shrink", help="make a failing spec small", description="Makes a failing spec small.")
    small.add_argument("folder", type=Path, help="the folder of a failure of `specs`")
    return made


def main() -> int:
    args = parser().parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if args.command == "shrink":
        return shrunk(args.folder)
    job, _ = jobs.COMMANDS[args.command]
    omit = tuple(filter(None, getattr(args, "omit", "").split(",")))
    if args.command == "specs":
        job = functools.partial(jobs.spec, omit=omit, thorough=args.thorough)
    if args.command == "mutants":
        mutants.originals()
    jobs.PREPARE.get(args.command, lambda: None)()
    report = Report.open(args.out, args.command, args.seed, args.resume)
    begin = saved = time.monotonic()
    try:
        for result in run(job, report.seeds(args.count, args.seconds), args.jobs, args.limit):
            if report.add(result, lambda seed: jobs.files_of(args.command, seed, omit)):
                print(f"seed {result.seed}: {result.kind}\n{result.detail[-700:]}", flush=True)
            if time.monotonic() - saved > SAVED:
                saved = time.monotonic()
                report.save(saved - begin)
    except KeyboardInterrupt:
        print("stopped; `--resume` goes on", file=sys.stderr)
    report.save(time.monotonic() - begin)
    if args.command == "specs":
        print(table(report.counts))
    print(report.summary(time.monotonic() - begin))
    return 1 if report.failures else 0


def shrunk(folder: Path) -> int:
    """Writes the small spec beside the large one."""
    kind = (folder / "failure.txt").read_text(encoding="utf-8").splitlines()[0]
    plan = draw_plan(int(folder.name.rsplit("-", 1)[1]))
    names = [p for p in folder.rglob("*.tower") if not p.is_relative_to(folder / "small")]
    files = {str(p.relative_to(folder)): p.read_text(encoding="utf-8") for p in names}

    def fails(smaller: dict[str, str]) -> bool:
        found = list(run(lambda seed: jobs.tried(smaller, plan, Coverage()), iter([plan.seed]), 1, 300.0))
        return found[0].kind == kind

    for name, text in shrink(files, fails).items():
        path = folder / "small" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(f"# {name}\n{text}")
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    raise SystemExit(main())
