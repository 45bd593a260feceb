"""What a run found and reached, kept in a folder so that a run can be cut off and go on."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz.workers import Result

SAVED = 10.0  # seconds between two writings of the report


@dataclass
class Report:
    """The results of one command so far."""

    folder: Path
    command: str
    first: int = 0  # all seeds from `begin` up to this are done
    begin: int = 0
    done: set[int] = field(default_factory=set)  # those after it that are
    counts: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    failures: dict[str, list[int]] = field(default_factory=dict)  # seeds by kind
    seconds: float = 0.0
    saved: float = 0.0

    @staticmethod
    def open(folder: Path, command: str, begin: int, resume: bool) -> Report:
        """A fresh report, or the one that an earlier run left."""
        path = folder / f"{command}.json"
        if not resume or not path.is_file():
            return Report(folder, command, begin, begin)
        read: dict[str, Any] = json.loads(path.read_text())
        return Report(
            folder, command, read["first"], read["begin"], set(read["done"]), Counter(read["counts"]),
            Counter(read["notes"]), read["failures"], read["seconds"],
        )  # fmt: skip

    def seeds(self, count: int, seconds: float) -> Iterator[int]:
        """The seeds that are left, until there are `count` or the time is over."""
        end = time.monotonic() + seconds
        for seed in range(self.first, self.begin + count):
            if time.monotonic() > end:
                return
            if seed not in self.done:
                yield seed

    def add(self, result: Result, files: Callable[[int], dict[str, str]]) -> bool:
        """Takes a result in; whether it is the first of its kind of failure."""
        self.done.add(result.seed)
        while self.first in self.done:
            self.done.remove(self.first)
            self.first += 1
        self.counts.update(result.counts)
        if result.kind == "ok":
            self.notes[result.note or "ok"] += 1
            return False
        known = self.failures.setdefault(result.kind, [])
        known.append(result.seed)
        if len(known) <= 3:
            self._keep(result, files(result.seed))
        return len(known) == 1

    def _keep(self, result: Result, files: dict[str, str]) -> None:
        """Writes what a failure needs to be seen again."""
        folder = self.folder / f"{self.command}-{result.seed}"
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", errors="surrogatepass")
        (folder / "failure.txt").write_text(f"{result.kind}\n\n{result.detail}\n", encoding="utf-8", errors="replace")

    def save(self, elapsed: float) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        document = {
            "begin": self.begin, "first": self.first, "done": sorted(self.done), "counts": self.counts,
            "notes": self.notes, "failures": self.failures, "seconds": self.seconds + elapsed,
        }  # fmt: skip
        path = self.folder / f"{self.command}.json"
        path.with_suffix(".part").write_text(json.dumps(document, indent=1))
        path.with_suffix(".part").replace(path)

    @property
    def total(self) -> int:
        return self.first - self.begin + len(self.done)

    def summary(self, elapsed: float) -> str:
        """How many of what, in how long."""
        seconds = self.seconds + elapsed
        lines = [f"{self.command}: {self.total} in {seconds:.0f} s, {self.total / max(seconds, 1e-9):.2f} a second"]
        lines += [f"  {count:7} {note}" for note, count in self.notes.most_common()]
        lines += [
            f"  {len(s):7} FAILED {kind}  (seeds {', '.join(map(str, s[:5]))})" for kind, s in self.failures.items()
        ]
        return "\n".join(lines)
