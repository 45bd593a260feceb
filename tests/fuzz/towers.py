"""Towers of generated specs: layers, fusions, heads, branches down to four deep, and calibrations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.fuzz.calls import Calls, Item, Template
from tests.fuzz.draw import Draw, Stuck, options
from tests.fuzz.features import Declared
from tests.fuzz.names import Names
from tests.fuzz.text import Block, Literals, braced, is_word, quoted
from towerspec.ir.types import ShapeError
from towerspec.layers.base import Kind, kinds, signature
from towerspec.layers.blocks import Tower
from towerspec.layers.calibrators import Calibrator
from towerspec.layers.heads import Head

DEEPEST = 4
OTHERS = object()  # the label of the arm for all other values


@dataclass
class Path:
    """A tower or an arm, before it is written."""

    options: dict[str, Any]
    fuses: Block = field(default_factory=list)
    heads: list[tuple[str, str, str]] = field(default_factory=list)  # name, kind, text
    key: str = ""
    arms: list[tuple[str, Path]] = field(default_factory=list)
    calibrates: Block = field(default_factory=list)

    def below(self) -> Iterator[tuple[str, str, str]]:
        """Its heads and those of its arms."""
        yield from self.heads
        for _, arm in self.arms:
            yield from arm.below()


@dataclass
class Task:
    """What heads of one name have in common, on every surface."""

    kind: type[Head]
    fixed: dict[str, Any]
    width: int = 0  # of the towers whose heads share weights


@dataclass
class Towers:
    """Makes the towers of all surfaces of a spec."""

    draw: Draw
    names: Names
    literals: Literals
    calls: Calls
    traits: frozenset[str]
    tasks: dict[str, Task] = field(default_factory=dict)

    def tower(
        self, start: Item, must: Sequence[Item], pool: Sequence[Item], features: Sequence[Declared]
    ) -> tuple[Path, Block]:
        """A tower that fuses in all that it must, and calibrations that stand beside it."""
        deepest = self.draw.randint(1, DEEPEST if "deep" in self.traits else 2) if "branches" in self.traits else 0
        path = self._path(start.width, must, pool, [f for f in features if f.is_key], {}, deepest)
        beside: Block = []
        self._calibrate(path, features, set(), beside)
        return path, beside

    def _path(
        self,
        width: int,
        must: Sequence[Item],
        pool: Sequence[Item],
        keys: Sequence[Declared],
        outer: dict[str, str],
        deepest: int,
    ) -> Path:
        found = options(self.draw, Tower, skip=["layers"])
        layers = options(self.draw, Tower, skip=[n for n in Tower.model_fields if n != "layers"]).get("layers", ())
        path = Path({**found, **({"layers": layers} if layers else {})})
        self.calls.coverage.kind("block", "tower", path.options)
        extra = self.draw.sample(list(pool), min(len(pool), self.draw.choice([0, 0, 1, 2])))
        fused = [(x, self.draw.randint(0, len(layers))) for x in [*must, *extra]]
        if fused and "refuse" in self.traits:
            fused += [(self.draw.choice(fused)[0], self.draw.randint(0, len(layers))) for _ in range(2)]
        elif fused:
            fused = list({x.text: (x, after) for x, after in fused}.values())
        for depth in range(len(layers) + 1):
            width = layers[depth - 1] if depth else width
            for x, after in fused:
                if after == depth:
                    width = self._fuse(path, x, depth, width)
        branches = bool(keys) and deepest > 0 and self.draw.chance(0.5)
        self._heads(path, width, outer, 0 if branches and self.draw.chance(0.5) else 1)
        if branches:
            inner = {**outer, **{name: kind for name, kind, _ in path.heads}}
            self._branch(path, self.draw.choice(list(keys)), width, pool, keys, inner, deepest - 1)
        return path

    # ---- fusions -----------------------------------------------------------------------------

    def _fuse(self, path: Path, x: Item, depth: int, width: int) -> int:
        """Fuses a value in, and gives the tower's width after that."""
        fitting = [c for c in kinds("fusion").values() if not x.is_list or signature(c)[-1][1] != "Value"]
        for _ in range(30):
            cls = self.draw.choice(fitting)
            found = options(self.draw, cls)
            scope = self.calls.scope()
            try:
                fusion = cls.model_validate(found)
                h = fusion.lower(scope, scope.use(self.calls.vector(width)), x.handle)  # type: ignore[attr-defined]
            except ShapeError:
                continue
            self.calls.coverage.kind("fusion", cls.kind, found)
            path.fuses.append(
                f"fuse {x.text} after {self.literals.text(depth)} with {cls.kind}{self.literals.braces(found)}"
            )
            return h.width
        raise Stuck(f"no fusion takes `{x.text}`")

    # ---- heads -------------------------------------------------------------------------------

    def _heads(self, path: Path, width: int, outer: dict[str, str], least: int) -> None:
        for _ in range(max(least, self.draw.choice([0, 1, 1, 2]))):
            taken = {*outer, *(name for name, _, _ in path.heads)}
            known = [name for name in self.tasks if name not in taken]
            name = self.draw.choice(known) if known and self.draw.chance(0.6) else self._task(outer, path)
            task = self.tasks[name]
            parts = self._parts(path, outer, name) if task.kind.takes_heads else []
            if task.kind.takes_heads and len(parts) < 2:
                continue
            found = options(self.draw, task.kind, {**task.fixed, **self._shared(task, width)}, self._chosen(task))
            self.calls.coverage.kind("head", task.kind.kind, found)
            args = f"({', '.join(parts)})" if parts else ""
            path.heads.append(
                (name, task.kind.kind, f"head {name} : {task.kind.kind}{args}{self.literals.braces(found)}")
            )
        if least and not path.heads:
            self._heads(path, width, outer, least)

    def _task(self, outer: dict[str, str], path: Path) -> str:
        found = [c for c in kinds("head").values() if issubclass(c, Head)]
        binary = [*outer.values(), *(kind for _, kind, _ in path.heads)].count("binary")
        joins = "products" in self.traits and binary > 1 and self.draw.chance(0.6)
        cls = self.draw.choice([c for c in found if c.takes_heads == joins])
        fixed: dict[str, Any] = {}
        if "classes" in cls.model_fields:
            words = tuple(self.draw.sample([*"abcde", "like", "love"], self.draw.randint(2, 4)))
            whole = tuple(self.draw.sample(range(9), self.draw.randint(2, 4)))
            fixed = self.draw.choice([{"classes": self.draw.randint(2, 5)}, {"values": words}, {"values": whole}])
        name = self.names.fresh("head")
        self.tasks[name] = Task(cls, fixed)
        return name

    def _chosen(self, task: Task) -> list[str]:
        return [n for n in ("classes", "values", "shared") if n not in task.fixed]

    def _shared(self, task: Task, width: int) -> dict[str, bool]:
        """Whether a head shares its weights: only where its tower is as wide as the others'."""
        if "shared" not in task.kind.model_fields or "shared_heads" not in self.traits or self.draw.chance(0.4):
            return {}
        task.width = task.width or width
        return {"shared": task.width == width}

    def _parts(self, path: Path, outer: dict[str, str], name: str) -> list[str]:
        seen = {**outer, **{head: kind for head, kind, _ in path.heads}}
        binary = [head for head, kind in seen.items() if kind == "binary" and head != name]
        return self.draw.sample(binary, min(len(binary), self.draw.randint(2, 3)))

    # ---- branches ----------------------------------------------------------------------------

    def _branch(
        self,
        path: Path,
        key: Declared,
        width: int,
        pool: Sequence[Item],
        keys: Sequence[Declared],
        outer: dict[str, str],
        deepest: int,
    ) -> None:
        values = getattr(key.kind, "values", None)
        labels: list[Any] = list(range(key.rows)) if values is None else list(values)
        every = len(labels) <= 2 and self.draw.chance(0.5)
        named = labels if every else self.draw.some(labels)[:2]
        self.draw.shuffle(named)
        path.key = key.name
        heads: set[str] = set()
        for label in [*named, *([] if every and self.draw.chance(0.7) else [OTHERS])]:
            arm = self._path(width, (), pool, keys, outer, deepest)
            path.arms.append((self._label(label, outer), arm))
            heads |= {name for name, _, _ in arm.below()}
        self.draw.shuffle(path.arms)
        self.calls.coverage.add(f"trait.branches {DEEPEST - deepest} left")

    def _label(self, label: Any, outer: dict[str, str]) -> str:
        if label is OTHERS:
            return "else"
        if isinstance(label, int):
            return str(label)
        free = is_word(label) and label not in outer and label not in self.tasks and label != "layers"
        return label if free and self.draw.chance(0.8) else quoted(label)

    # ---- calibrations ------------------------------------------------------------------------

    def _calibrate(self, path: Path, features: Sequence[Declared], done: set[str], beside: Block | None) -> None:
        """Calibrates some heads here, for all arms below, and others there."""
        done = set(done)
        for name, kind, _ in sorted({(n, k, "") for n, k, _ in path.below()}):
            if name in done or self.draw.chance(0.45):
                continue
            done.add(name)
            line = self._calibration(name, kind, features)
            (beside if beside is not None and self.draw.chance(0.6) else path.calibrates).append(line)
        for _, arm in path.arms:
            self._calibrate(arm, features, done, None)

    def _calibration(self, head: str, kind: str, features: Sequence[Declared]) -> str:
        cls = self.draw.choice(
            [c for c in kinds("calibrator").values() if issubclass(c, Calibrator) and kind in c.fits]
        )
        found = options(self.draw, cls)
        self.calls.coverage.kind("calibrator", cls.kind, found)
        categories = [f.name for f in features if f.is_category]
        by = ""
        if categories and "by" in self.traits and self.draw.chance(0.5):
            by = f" by {self.draw.choice(categories)}"
            self.calls.coverage.add("trait.calibrate by")
        return f"calibrate {head} with {cls.kind}{self.literals.braces(found)}{by}"

    # ---- text --------------------------------------------------------------------------------

    def written(self, path: Path, head: str) -> Block:
        """A tower or an arm as lines."""
        heads = [text for _, _, text in path.heads]
        self.draw.shuffle(heads)
        parts: list[Block] = [[line] for line in self.literals.options(path.options)]
        parts += [path.fuses, *([h] for h in heads), *([c] for c in path.calibrates)]
        if path.arms:
            arms = [line for label, arm in path.arms for line in self.written(arm, label)]
            parts.append(braced(f"branch by {path.key}", arms))
        self.draw.shuffle(parts)
        return braced(head, [line for part in parts for line in part])


__all__ = ["Kind", "Path", "Template", "Towers"]
