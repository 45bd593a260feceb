"""What the generated specs reached: every kind with its options, the ways to say things, and the passes that fired."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args, get_origin

from towerspec.layers.base import CATEGORIES, kinds
from towerspec.passes import PIPELINE


class Coverage:
    """Counts by key: `layer.mlp`, `layer.mlp.norm=batch`, `pass.fold`, `trait.include`."""

    def __init__(self, counts: Mapping[str, int] | None = None) -> None:
        self.counts = Counter(counts or {})

    def kind(self, category: str, name: str, found: Mapping[str, Any]) -> None:
        """Counts a use of a kind with these options."""
        self.counts[f"{category}.{name}"] += category != "template"
        self.counts["trait.template called"] += category == "template"
        for option, value in found.items() if category != "template" else ():
            self.counts[f"{category}.{name}.{option}"] += 1
            if isinstance(value, (str, bool)):
                self.counts[f"{category}.{name}.{option}={str(value).lower()}"] += 1

    def add(self, key: str) -> None:
        self.counts[key] += 1


def wanted() -> set[str]:
    """All that a long run ought to reach: each kind, each of its options, each choice of these, each pass."""
    found = {f"pass.{step.name}" for step in PIPELINE}
    for category in CATEGORIES:
        for name, cls in kinds(category).items():
            found.add(f"{category}.{name}")
            for option, info in cls.model_fields.items():
                found.add(f"{category}.{name}.{option}")
                found |= {f"{category}.{name}.{option}={word}" for word in _choices(info.annotation)}
    return found


def _choices(annotation: Any) -> Iterable[str]:
    if annotation is bool:
        return ("true", "false")
    if get_origin(annotation) is Literal:
        return [str(a) for a in get_args(annotation)]
    return [word for a in get_args(annotation) for word in _choices(a)]


def table(counts: Mapping[str, int]) -> str:
    """The counts by kind, a line each, with its options and their choices; then what was never reached."""
    lines = []
    for key in sorted({*(k for k in counts if k.count(".") == 1), *(k for k in wanted() if k.count(".") == 1)}):
        parts = {k[len(key) + 1 :]: n for k, n in counts.items() if k.startswith(f"{key}.")}
        shown = "  ".join(f"{k} {n}" for k, n in sorted(parts.items()))
        lines.append(f"{key:24} {counts.get(key, 0):7}  {shown}".rstrip())
    missing = sorted(k for k in wanted() if not counts.get(k))
    return "\n".join([*lines, f"never reached: {', '.join(missing) or 'nothing'}"])
