"""Generates valid specs over the whole registry.

Each spec draws which of the language's ways it uses, and leaves the others out: what one way would hide, specs without
it show. Groce et al. 2012, Swarm testing, ISSTA, doi:10.1145/2338965.2336763.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from tests.fuzz.calls import Calls, Item, layer_kinds
from tests.fuzz.coverage import Coverage
from tests.fuzz.draw import Draw, options
from tests.fuzz.features import Declared, Features
from tests.fuzz.names import Names
from tests.fuzz.text import Block, Literals, braced, indented, quoted
from tests.fuzz.towers import Towers
from towerspec.layers.blocks import Surface, Train

MAIN = "spec.tower"
TRAITS = (
    "names", "constants", "templates", "surface_templates", "include", "hash", "fitted", "tables", "texts", "on",
    "absent_sequence", "own_features", "own_layers", "branches", "deep", "refuse", "by", "products", "shared_heads",
    "train", "from", "aliases", "unused", "large",
)  # fmt: skip
SELDOM = {"large": 0.1}  # what takes long


@dataclass(frozen=True)
class Spec:
    """A generated spec: its files by name, and the traits that it drew."""

    files: dict[str, str]
    traits: frozenset[str]

    @property
    def text(self) -> str:
        return self.files[MAIN]


def generate(seed: object, coverage: Coverage | None = None, omit: Collection[str] = ()) -> Spec:
    """The spec of a seed; the traits to omit are in none."""
    return Maker(Draw(seed), coverage or Coverage(), frozenset(omit)).make()


@dataclass
class Own:
    """What a surface has for itself."""

    blocks: Block = field(default_factory=list)
    features: list[Declared] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    unread: list[Item] = field(default_factory=list)


class Maker:
    """Makes one spec."""

    def __init__(self, draw: Draw, coverage: Coverage, omit: frozenset[str]) -> None:
        self.draw, self.coverage = draw, coverage
        self.traits = frozenset(t for t in TRAITS if draw.chance(SELDOM.get(t, 0.5)) and t not in omit)
        for trait in self.traits:
            coverage.add(f"trait.{trait}")
        self.names = Names(draw, "names" in self.traits)
        self.literals = Literals(draw, self.names, "constants" in self.traits)
        self.calls = Calls(draw, self.literals, coverage, layer_kinds())
        self.features = Features(draw, self.names, self.literals, self.calls, self.traits)
        self.towers = Towers(draw, self.names, self.literals, self.calls, self.traits)
        self.shared: list[Declared] = []
        self.own: list[Declared] = []
        self.blocks: list[Block] = []
        self.reads: dict[str, frozenset[str]] = {}  # of each value, the names that it is computed from

    def make(self) -> Spec:
        draw = self.draw
        model = self.names.fresh("model")
        surfaces = [self.names.fresh("surface") for _ in range(draw.choice([1, 1, 1, 2, 2, 3]))]
        twins = "surface_templates" in self.traits and len(surfaces) > 1
        self.groups = [surfaces[:2], *([s] for s in surfaces[2:])] if twins else [[s] for s in surfaces]
        if "tables" in self.traits:
            self.blocks += [[self.features.table()] for _ in range(draw.randint(1, 2))]
        self._declare()
        if "templates" in self.traits:
            self.blocks += [
                self.calls.template(self.names.fresh("template"), self.names.fresh) for _ in range(draw.randint(1, 2))
            ]
        self._trunk()
        for group in self.groups:
            self._surface(group)
        if "unused" not in self.traits:
            self._drop_unread_tables()
        if "train" in self.traits:
            self._train(surfaces)
        self.blocks += [[line] for line in self.literals.declared]
        draw.shuffle(self.blocks)
        return Spec(self._files(model), self.traits)

    # ---- what is shared ----------------------------------------------------------------------

    def _declare(self) -> None:
        """Features of both levels, in one block or several; one of them every surface has."""
        for level in ("request", "candidate"):
            for _ in range(self.draw.choice([1, 2, 2, 3])):
                self.shared.append(self.features.feature(level, self.groups, own=False))
        if not any(f.kind.on is None for f in self.shared):
            self.shared.append(self.features.feature("candidate", self.groups[:1], own=False))
        if "branches" in self.traits and not any(f.is_key for f in self.shared):
            self._key()
        for level in ("request", "candidate"):
            mine = [f.text for f in self.shared if f.level == level]
            at = self.draw.randint(0, len(mine))
            self.blocks += [braced(level, part) for part in (mine[:at], mine[at:]) if part]

    def _key(self) -> None:
        from towerspec.layers.features import Category

        for _ in range(20):
            found = self.features.feature("request", self.groups, own=False, cls=Category)
            if found.is_key:
                self.shared.append(found)
                return

    def _drop_unread_tables(self) -> None:
        read = {getattr(f.kind, "table", None) for f in [*self.shared, *self.own]}
        unread = [f"table {name} " for name in self.features.tables if name not in read]
        self.blocks = [b for b in self.blocks if not b[0].startswith(tuple(unread))]

    def _pool(self) -> list[Item]:
        """The shared features, and each level's together."""
        pool = [f.item for f in self.shared]
        for level in ("request", "candidate"):
            members = [f for f in self.shared if f.level == level and not f.item.is_list]
            if members:
                whole = self.calls.concat([f.item for f in members])
                pool.append(Item(level, whole.handle, frozenset(f.name for f in members)))
        return pool

    def _trunk(self) -> None:
        pool, lines, made = self._pool(), [], list[Item]()
        for _ in range(self.draw.choice([0, 1, 1, 2, 3])):
            lines.append(self._line(pool, made))
        read = frozenset[str]().union(*(i.reads for i in made)) if made else frozenset[str]()
        self.values = [Item(line[0], i.handle, frozenset({line[0]})) for line, i in zip(lines, made, strict=True)]
        unread = [i for i in [*(f.item for f in self.shared), *self.values] if not i.reads & read]
        if "unused" in self.traits:
            anyones = [i for i in unread if self._on_every_surface(i)][:1]
            unread = [i for i in unread if i in anyones or self.draw.chance(0.5)]
        last = self._sink(unread)
        if last is None or last.is_list or self.draw.chance(0.6):
            last = self.calls.call([last] if last else pool)
        if last.is_list:
            last = self.calls.encoded(last)
        if "large" in self.traits:  # weights that are worth packing, and rounding
            last = self.calls.linear(Item(f"mlp({last.text}, hidden: [256, 256])", last.handle, last.reads), 4)
        body = [f"{name} = {text}" for name, text in lines]
        self.draw.shuffle(body)
        name = self.names.fresh()
        self.last, self.reads[name] = last.named(name), last.reads
        self.values.append(self.last)
        self.blocks.append(braced("trunk", [*body, f"{name} = {last.text}"]))

    def _on_every_surface(self, item: Item) -> bool:
        """Whether some feature that a value comes from is on all surfaces: without any, a surface has no input."""
        everywhere = {f.name for f in self.shared if f.kind.on is None}
        names, seen = set(item.reads), set[str]()
        while names - seen:
            name = (names - seen).pop()
            seen.add(name)
            names |= self.reads.get(name, frozenset())
        return bool(seen & everywhere)

    def _line(self, pool: list[Item], made: list[Item]) -> tuple[str, str]:
        """Adds a line to a pool: its name and its text."""
        item = self.calls.call(pool)
        if "aliases" in self.traits and self.draw.chance(0.15):
            item = self.draw.choice(pool)
        name = self.names.fresh()
        made.append(item)
        self.reads[name] = item.reads
        pool.append(item.named(name))
        return name, item.text

    def _sink(self, unread: Sequence[Item]) -> Item | None:
        """All that nothing reads yet as one vector."""
        vectors = [self.calls.encoded(i) if i.is_list else i for i in unread]
        return self.calls.concat(vectors) if vectors else None

    # ---- surfaces ----------------------------------------------------------------------------

    def _surface(self, group: Sequence[str]) -> None:
        """A surface, or several of one template."""
        template = self.names.fresh("template") if len(group) > 1 else ""
        self.literals.params = {} if template else None
        own = self._own(group)
        body = self._tower(group, own, group is self.groups[0])
        params, self.literals.params = self.literals.params, None
        if not template:
            self.blocks.append(braced(f"surface {group[0]}", [*body, *self._weight()]))
            return
        assert params is not None
        needed = [name for name in params if self.draw.chance(0.5)]
        heads = ", ".join(name if name in needed else f"{name}: {params[name]}" for name in params)
        self.blocks.append(braced(f"template surface {template}({heads})", body))
        for name in group:
            given = [p for p in params if p in needed or self.draw.chance(0.3)]
            call = f"surface {name} = {template}({', '.join(f'{p}: {params[p]}' for p in given)})"
            extra = self._weight()
            self.blocks.append(braced(call, extra) if extra or self.draw.chance(0.3) else [call])
        self.coverage.add("trait.surface template called")

    def _weight(self) -> Block:
        found = options(self.draw, Surface)
        self.coverage.kind("block", "surface", found)
        return self.literals.options(found)

    def _own(self, group: Sequence[str]) -> Own:
        own = Own()
        count = self.draw.randint(1, 2) if "own_features" in self.traits else 0
        for _ in range(count):
            found = self.features.feature(self.draw.choice(["request", "candidate"]), self.groups, own=True)
            own.features.append(found)
            self.own.append(found)
            own.blocks += braced(found.level, [found.text])
        if "own_layers" in self.traits or any(f.item.is_list for f in own.features):
            mine = [f.item for f in own.features]
            pool = [*self._pool(), *self.values, *mine, *mine]
            made: list[Item] = []
            lines = [self._line(pool, made) for _ in range(self.draw.randint(1, 2))]
            own.items = [i.named(name) for (name, _), i in zip(lines, made, strict=True)]
            read = frozenset[str]().union(*(i.reads for i in made))
            for item in [*mine, *own.items]:
                if item.is_list and not item.reads & read and self.draw.chance(0.7):
                    name, encoded = self.names.fresh(), self.calls.encoded(item)
                    lines.append((name, encoded.text))
                    own.items.append(encoded.named(name))
                    read |= encoded.reads
            own.unread = [i for i in [*mine, *own.items] if not i.reads & read]
            self.draw.shuffle(lines)
            own.blocks += [f"{name} = {text}" for name, text in lines]
        else:
            own.unread = [f.item for f in own.features]
        return own

    def _tower(self, group: Sequence[str], own: Own, first: bool) -> Block:
        vectors = [i for i in self.values if not i.is_list and self._on_every_surface(i)]
        start = self.draw.choice(vectors) if "from" in self.traits and not first else self.last
        has = [f for f in self.shared if f.has(group[0])]
        pool = [*(f.item for f in self.shared), *self.values, *own.items, *(f.item for f in own.features)]
        if "absent_sequence" not in self.traits:
            pool = [i for i in pool if not i.is_list or i.text in {f.name for f in has}]
        path, beside = self.towers.tower(start, own.unread, pool, [*has, *own.features])
        head = f"tower from {start.text}" if start is not self.last or self.draw.chance(0.2) else "tower"
        parts = [own.blocks, self.towers.written(path, head), *([line] for line in beside)]
        self.draw.shuffle(parts)
        return [line for part in parts for line in part]

    def _train(self, surfaces: Sequence[str]) -> None:
        freeze = tuple(self.draw.some(["trunk", *surfaces])) if self.draw.chance(0.3) else ()
        found = options(self.draw, Train, {"freeze": freeze} if freeze else {}, ["freeze"] if not freeze else [])
        self.coverage.kind("block", "train", found)
        self.blocks.append(braced("train", self.literals.options(found)))

    # ---- files -------------------------------------------------------------------------------

    def _files(self, model: str) -> dict[str, str]:
        """The blocks in one file, or some of them in files that it includes."""
        files: dict[str, Block] = {MAIN: []}
        odd = ("a b.tower", "x#y.tower", "é.tower", 'q"t.tower', "deep/er/part.tower", "Class.tower")
        if "include" in self.traits:
            for name in self.draw.sample(["parts.tower", "parts/more.tower", *odd], self.draw.randint(1, 2)):
                files[name] = []
        for block in self.blocks:
            files[self.draw.choice(list(files))] += self._commented(block)
        names = [name for name in files if name != MAIN]
        files[MAIN] = [f"model {model}", *(f"include {quoted(n)}" for n in names), *files[MAIN]]
        return {name: "\n".join(lines) + "\n" for name, lines in files.items()}

    def _commented(self, block: Block) -> Block:
        if self.draw.chance(0.1):
            return [f"# {self.draw.choice(['note', 'é {{ x }}', 'surface s {', chr(34) * 3])}", *block]
        return block


__all__ = ["MAIN", "TRAITS", "Maker", "Spec", "generate", "indented"]
