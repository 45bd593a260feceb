"""Tables and features of generated specs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.fuzz.calls import Calls, Item
from tests.fuzz.draw import Draw, options
from tests.fuzz.names import WORDS, Names
from tests.fuzz.text import Literals
from towerspec.ir.builder import Sequence as Positions
from towerspec.ir.builder import Value
from towerspec.ir.primitives import Input
from towerspec.ir.types import Level
from towerspec.layers.base import kinds
from towerspec.layers.blocks import Table
from towerspec.layers.features import Category, Coded, Feature, table_param

TEXTS = (
    "a b",
    "",
    " ",
    "7",
    "true",
    "else",
    'say "hi"',
    "back\\slash",
    "two\nlines",
    "tab\t",
    "é",
    "名前",
    "#no",
    "{{x}}",
)


@dataclass(frozen=True)
class Declared:
    """A feature as the spec declares it."""

    name: str
    kind: Feature
    level: str
    text: str
    item: Item
    rows: int  # of its table; 0 without one
    ids: str

    def has(self, surface: str) -> bool:
        return self.kind.on is None or surface in self.kind.on

    @property
    def is_key(self) -> bool:
        """Whether a branch can go by it."""
        return isinstance(self.kind, Category) and self.level == "request" and self.ids == "direct"

    @property
    def is_category(self) -> bool:
        return isinstance(self.kind, Category)


@dataclass
class Features:
    """Makes them; `traits` says which of the language's ways this spec uses."""

    draw: Draw
    names: Names
    literals: Literals
    calls: Calls
    traits: frozenset[str]
    tables: dict[str, Table] = field(default_factory=dict)

    def ids(self) -> str:
        """What a table's ids are."""
        return self.draw.choice(["direct", *(i for i in ("hash", "fitted") if i in self.traits)])

    def table(self) -> str:
        """Makes a shared table, and gives its text."""
        found = options(self.draw, Table, {"ids": self.ids()} if self.draw.chance(0.6) else {}, skip=["ids"])
        name = self.names.fresh("table")
        self.tables[name] = Table.model_validate(found)
        self.calls.coverage.kind("block", "table", found)
        return f"table {name}{self.literals.braces(found)}"

    def feature(
        self, level: str, groups: Sequence[Sequence[str]], own: bool, cls: type[Feature] | None = None
    ) -> Declared:
        """A feature of a level; `groups` are the surfaces, those together that have all features in common."""
        cls = cls or self.draw.choice([k for k in kinds("feature").values() if issubclass(k, Feature)])
        fixed: dict[str, Any] = {}
        skip = (
            ["on", "table", "of", "values", "rows", "ids", "unknown", "missing"] if issubclass(cls, Coded) else ["on"]
        )
        if issubclass(cls, Coded):
            fixed |= self._source(cls)
        may_lack = "on" in self.traits and (cls.kind != "sequence" or "absent_sequence" in self.traits)
        if not own and len(groups) > 1 and may_lack and self.draw.chance(0.4):
            fixed["on"] = tuple(s for group in self.draw.some(groups, 1) for s in group)
        found = options(self.draw, cls, fixed, [s for s in skip if s not in fixed])
        kind, name = cls.model_validate(found), self.names.fresh()
        table = self.tables.get(getattr(kind, "table", None) or "")
        rows = table.rows if table else (kind.own_table() or (0, 0))[0] if isinstance(kind, Coded) else 0
        ids = table.ids if table else getattr(kind, "ids", "")
        self.calls.coverage.kind("feature", cls.kind, found)
        text = f"{name} : {cls.kind}{self.literals.braces(found)}"
        item = Item(name, self._handle(kind, table), frozenset({name}))
        return Declared(name, kind, level, text, item, rows, ids)

    def _source(self, cls: type[Coded]) -> dict[str, Any]:
        """Where a coded feature's ids come from, and what unknown and missing ones become."""
        draw = self.draw
        shared = list(self.tables) if "tables" in self.traits else []
        source = draw.choice(["rows", "rows", "values", *(["table", "table"] if shared else [])])
        found: dict[str, Any] = {}
        if source == "table":
            name = draw.choice(shared)
            found["of" if "of" in cls.model_fields and draw.chance(0.5) else "table"] = name
            rows, ids = self.tables[name].rows, self.tables[name].ids
        elif source == "rows":
            rows, ids = draw.choice([1, 2, 3, 5, 9, 17]), self.ids()
            found |= {"rows": rows, **({"ids": ids} if ids != "direct" or draw.chance(0.2) else {})}
        else:
            found["values"] = self._values()
            rows, ids = len(found["values"]), "direct"
        for option in ("unknown", "missing"):
            if option in cls.model_fields and draw.chance(0.25) and not (option == "unknown" and ids == "hash"):
                found[option] = draw.randrange(rows)
        if source == "rows" and "large" in self.traits and draw.chance(0.5):
            found |= draw.choice([{"rows": 5_000}, {"rows": 140_000, "dim": 16}])
        elif source != "table" and draw.chance(0.7):
            found["dim"] = draw.common
        return found

    def _values(self) -> tuple[Any, ...]:
        if self.draw.chance(0.3):
            return tuple(self.draw.sample([0, 1, 2, 3, 7, -2, 100, 2**40], self.draw.randint(1, 4)))
        words = [*WORDS, *(TEXTS if "texts" in self.traits else ())]
        return tuple(self.draw.sample(words, self.draw.randint(1, 4)))

    def _handle(self, kind: Feature, table: Table | None) -> Value | Positions:
        scope = self.calls.scope()
        x = scope.op(Input(scope.path, Level.CANDIDATE, kind.shape(), kind.dtype))
        weight = None
        if isinstance(kind, Coded):
            rows, dim = (table.rows, table.dim) if table else kind.own_table() or (1, 1)
            weight = table_param(scope, rows, dim)
        return kind.encode(scope, x, weight)
