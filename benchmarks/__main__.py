"""`python -m benchmarks [NAME …] [--quick]`: runs the benchmarks, prints their tables, and saves them."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from benchmarks.plot import plot
from benchmarks.results import FOLDER

NAMES = ("serving", "flat", "tail", "memory", "compile", "training_step", "sharing", "allocator", "growth")


def main() -> None:
    """Runs what is named, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all of them without")
    parser.add_argument("--quick", action="store_true", help="a few calls of small sizes: shows that it runs, no more")
    parser.add_argument("--out", type=Path, default=FOLDER, help="where the tables go (default: benchmarks/results)")
    args = parser.parse_args()
    if unknown := set(args.names) - set(NAMES):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; they are {', '.join(NAMES)}")
    for name in args.names or NAMES:
        result = importlib.import_module(f"benchmarks.{name}").run(args.quick)
        result.write(args.out)
        if "cases" in result.raw:
            plot(result, args.out)
        print(result.markdown(), flush=True)


if __name__ == "__main__":
    main()
