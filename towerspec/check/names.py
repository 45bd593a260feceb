"""Names: which can be used at all, and what each means where it stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from towerspec.diagnostics import Label, Report, Span, did_you_mean, listing
from towerspec.layers.base import kinds
from towerspec.syntax import tree

LONGEST = 64
COUNTS = "candidates_per_request"  # an input of every surface that has inputs of both levels

LAYERS = "layers"  # the steps of a path that a tower names itself: its layers, and one for each fusion
FUSE = "fuse_"


def tower_step(name: str) -> str:
    """The step of a tower's paths that stands for a head or an arm: its name, apart from the tower's own steps.

    >>> tower_step("click"), tower_step("layers")
    ('click', '_layers')
    """
    return f"_{name}" if name == LAYERS or name.startswith(FUSE) else name


def check_usable(name: tree.Name, report: Report) -> None:
    """Reports a name that no part of a model can have.

    Paths and generated code mark what they name themselves with underscores, at the start or twice at the end, so
    that it never meets a spec's name. A word of Python or an attribute of PyTorch's modules is a name like any other.
    """
    text = name.text
    if text.startswith("_") or text.endswith("__"):
        why = "starts or ends with underscores, which mark the names that the compiler gives"
    elif text == COUNTS:
        why = "is how a call says how many candidates each request has"
    elif not (text.isascii() and text.isidentifier()):
        why = "is no identifier: letters, digits and underscores, starting with a letter"
    elif len(text) > LONGEST:
        why = f"has {len(text)} letters; at most {LONGEST} are allowed"
    else:
        return
    shown = text if len(text) <= LONGEST else text[:LONGEST] + "…"
    report.error(
        "T212",
        f"`{shown}` can't be used as a name",
        name.span,
        "can't be a name",
        notes=[f"it {why}"],
        help=f"rename it, say to `{text.strip('_')[:40]}_value`"
        if text.isascii() and text.strip("_").isidentifier()
        else None,
    )


@dataclass(frozen=True)
class Entry:
    key: str
    span: Span


@dataclass
class Namespace:
    """The names that a block may use, those of the blocks around it included."""

    parent: Namespace | None = None
    entries: dict[str, Entry] = field(default_factory=dict)

    def define(self, name: tree.Name, key: str, report: Report) -> bool:
        """Adds a name, unless it is taken here (a duplicate) or around (it would be shadowed)."""
        check_usable(name, report)
        if name.text in self.entries:
            report.error(
                "T210",
                f"`{name.text}` is defined twice",
                name.span,
                "defined again here",
                labels=[Label(self.entries[name.text].span, "first defined here")],
            )
            return False
        outer = self.parent.find(name.text) if self.parent else None
        if outer is not None:
            report.error(
                "T211",
                f"`{name.text}` hides another `{name.text}`",
                name.span,
                "would hide the other",
                labels=[Label(outer.span, "the other is defined here")],
                help="give one of them another name",
            )
            return False
        self.entries[name.text] = Entry(key, name.span)
        return True

    def find(self, name: str) -> Entry | None:
        if name in self.entries:
            return self.entries[name]
        return self.parent.find(name) if self.parent else None

    def names(self) -> Iterator[str]:
        yield from self.entries
        if self.parent:
            yield from self.parent.names()


def unknown(
    code: str, what: str, name: str, span: Span, known: Iterator[str] | list[str], report: Report, *, plural: str = ""
) -> None:
    """Reports a name that means nothing here, with what would."""
    known = sorted(set(known))
    plural = plural or f"{what}s"
    notes = [f"{plural} are {listing(known)}" if known else f"there are no {plural} here"]
    report.error(code, f"unknown {what} `{name}`", span, f"not a {what}", notes=notes, help=did_you_mean(name, known))


def unknown_kind(code: str, what: str, category: str, name: tree.Name, report: Report) -> None:
    """Reports a word that is no kind of a category, with the one that it is another word for or a misspelling of."""
    known = kinds(category)
    others = {other: kind for kind, cls in known.items() for other in cls.also}
    report.error(
        code,
        f"unknown {what} `{name.text}`",
        name.span,
        f"not a {what}",
        notes=[f"{what}s are {listing(known)}"],
        help=did_you_mean(name.text, known, others),
    )
