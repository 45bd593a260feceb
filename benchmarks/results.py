"""What a benchmark gives: tables, printed and written as JSON and Markdown beside their plots."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.machine import machine

FOLDER = Path(__file__).parent / "results"
Row = dict[str, Any]


@dataclass
class Table:
    """Rows of one shape, with a title and a line on how to read them."""

    title: str
    rows: list[Row]
    note: str = ""

    def markdown(self) -> str:
        heads = list(self.rows[0])
        lines = [f"### {self.title}", ""]
        if self.note:
            lines += [self.note, ""]
        lines += ["| " + " | ".join(heads) + " |", "|" + "|".join(" --: " for _ in heads) + "|"]
        lines += ["| " + " | ".join(shown(row[head]) for head in heads) + " |" for row in self.rows]
        return "\n".join(lines)


@dataclass
class Result:
    """A benchmark's tables, and all that was measured."""

    name: str
    tables: list[Table]
    raw: Any = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=machine)

    def markdown(self) -> str:
        m = self.machine
        head = f"{m['processor']}, {m['cores']} cores, torch {m['torch']}, Python {m['python']}; load {m['load']}"
        return f"## {self.name}\n\n{head}\n\n" + "\n\n".join(table.markdown() for table in self.tables) + "\n"

    def write(self, folder: Path = FOLDER) -> None:
        """Writes `NAME.json` and `NAME.md`."""
        folder.mkdir(parents=True, exist_ok=True)
        tables = [{"title": t.title, "note": t.note, "rows": t.rows} for t in self.tables]
        content = {"benchmark": self.name, "machine": self.machine, "tables": tables, "raw": self.raw}
        (folder / f"{self.name}.json").write_text(json.dumps(content, indent=1) + "\n")
        (folder / f"{self.name}.md").write_text(self.markdown())


def shown(value: object) -> str:
    """A value as a table shows it: three digits that count."""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
