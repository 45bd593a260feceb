"""Names for generated specs: plain ones, and those that generated code, TorchScript and Python use themselves."""

from __future__ import annotations

import builtins
import keyword
from functools import cache
from typing import get_args

import torch

from tests.fuzz.draw import Draw
from towerspec.check.names import check_usable
from towerspec.diagnostics import Report, Source, Span
from towerspec.emit import helpers
from towerspec.layers.base import CATEGORIES, kinds
from towerspec.syntax import tree
from towerspec.syntax.parser import parse

PLAIN = """
    age city query item price history country layout user page depth click like buy score signal mood shop title
    brand color joined mixed tall wide users shown seen place view taste
""".split()  # noqa: SIM905
# What generated code calls its own, or makes of other names.
MADE = """
    n r x_1 x_2 part_0 part_1 part rows out features surfaces tables trunk heads folded graph code request_
    candidates_per_request surface asked click_logit layer_0 layer_0_2 layers fuse_x linear linear_0 z_1 key ids arm
    arm_0 Part Model tensor Tensor torch nn F f math self_ forward_ logit model input inputs output outputs counts
    row_map expand repeat merge weight bias absent shift scale mean std var knots values edges calibrate folded_0
    inf nan device pytree NoneType List Dict Tuple Optional annotations SURFACES REQUEST surface_graph value types
""".split()  # noqa: SIM905
LANGUAGE = frozenset(
    """
    model include const template table request candidate trunk surface tower from fuse after with branch by head
    calibrate train else true false
    """.split()  # noqa: SIM905
)


@cache
def awkward() -> tuple[str, ...]:
    """Every name that somebody else has a use for, and that the language lets pass."""
    modules = {*dir(torch.jit.ScriptModule), *dir(torch.nn.Module), *vars(torch.nn.Module())}
    kinds_ = {name for category in CATEGORIES for name in kinds(category)}
    words = {*modules, *dir(builtins), *keyword.kwlist, *keyword.softkwlist, *vars(helpers), *MADE, *kinds_}
    cased = {w.capitalize() for w in MADE} | {w.upper() for w in MADE}
    return tuple(sorted(w for w in words | cased | {"x" * 64, "a" * 63 + "1"} if usable(w)))


@cache
def usable(name: str) -> bool:
    """Whether the language takes a name at all, wherever it stands."""
    if name in LANGUAGE or parse(Source("", f"model {name}"))[1]:
        return False
    report = Report()
    check_usable(tree.Name(name, span=Span(Source("", name), 0, len(name))), report)
    return not report.diagnostics


class Names:
    """Hands out names, each once in a spec whatever its case."""

    def __init__(self, draw: Draw, odd: bool) -> None:
        self.draw, self.odd, self.taken = draw, odd, set[str]()

    def fresh(self, place: str = "value") -> str:
        """A name for a value, feature, surface, head, table, constant, template or parameter."""
        words = {*LANGUAGE, *PLACES.get(place, ())}
        while True:
            odd = self.odd and self.draw.chance(0.5)
            name = self.draw.choice(awkward() if odd else PLAIN)
            if self.taken and self.draw.chance(0.15 if self.odd else 0.0):  # names that numbering makes of others
                name = f"{self.draw.choice(sorted(self.taken))}_{self.draw.randint(0, 2)}"
            elif not odd and name in self.taken:
                name = f"{name}{self.draw.randint(1, 99)}"
            if name.lower() in self.taken or name in words or not usable(name):
                continue
            if place == "head" and name.startswith("fuse_"):
                continue
            if place in ("constant", "parameter", "template") and name in reserved_words():
                continue
            self.taken.add(name.lower())
            return name


WORDS = ("grid", "closeup", "list", "wide", "phone", "tablet", "map", "audio", "clip", "story", "like", "love")
PLACES = {
    "surface": ("trunk", "tables", "features", "surfaces", "heads"),
    "head": ("layers",),
}


@cache
def reserved_words() -> frozenset[str]:
    """The words that options and calls are written with: a constant or a template of such a name would replace them."""
    found = {name for category in CATEGORIES for name in kinds(category)} | {*WORDS, *"abcde"}
    for category in CATEGORIES:
        for cls in kinds(category).values():
            for info in cls.model_fields.values():
                found |= _literals(info.annotation)
    return frozenset(found)


def _literals(annotation: object) -> set[str]:
    args = get_args(annotation)
    return {a for a in args if isinstance(a, str)}.union(*(_literals(a) for a in args if not isinstance(a, str)))
