"""Feeds spoilt specs to checker and formatter for as long as you like: `python -m tests.fuzz --minutes 5 [--seed 0]`.

Any exception but a diagnostic is a bug: the text is written to a file, and its seed is printed.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from pathlib import Path
from random import Random

from tests.mutate import corpus, mutate
from towerspec.check import check_text
from towerspec.diagnostics import SpecError, render
from towerspec.syntax.format import format_text

SLOW = 5.0  # seconds that no text of this size may take


def probe(text: str) -> None:
    """Checks and formats a text; raises whatever is not a diagnostic."""
    checked = check_text(text)
    for diagnostic in checked.report.diagnostics:
        render(diagnostic)
    once = formatted(text)
    if once is None:
        assert checked.report.diagnostics, "the formatter alone refuses it"
        return
    assert format_text(once, "<fuzz>") == once, "formatting twice differs from formatting once"
    again = check_text(once).report.diagnostics
    found = checked.report.diagnostics
    assert sorted(d.code for d in again) == sorted(d.code for d in found), "formatting changed what is wrong"


def formatted(text: str) -> str | None:
    """The text in canonical form; none where it has mistakes that hinder it."""
    try:
        return format_text(text, "<fuzz>")
    except SpecError:
        return None


def main() -> int:
    parser = argparse.ArgumentParser(description="Feeds spoilt specs to checker and formatter.")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    texts, cases, begin = corpus(), 0, time.monotonic()
    while time.monotonic() - begin < 60 * args.minutes:
        seed = args.seed + cases
        text = mutate(Random(seed), texts)
        start = time.monotonic()
        try:
            probe(text)
            assert time.monotonic() - start < SLOW, f"took {time.monotonic() - start:.1f} s"
        except Exception:
            traceback.print_exc()
            Path("fuzz_failure.tower").write_text(text, encoding="utf-8", errors="surrogatepass")
            print(f"seed {seed}; the text is in fuzz_failure.tower", file=sys.stderr)
            return 1
        cases += 1
    rate = cases / (time.monotonic() - begin)
    print(f"{cases} texts, {rate:.0f} a second, seeds {args.seed} to {args.seed + cases - 1}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
