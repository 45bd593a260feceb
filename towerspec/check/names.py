"""Names: which can be used at all, and what each means where it stands."""

from __future__ import annotations

import keyword
from collections.abc import Iterator
from dataclasses import dataclass, field

from towerspec.diagnostics import Label, Report, Span, did_you_mean, listing
from towerspec.layers.base import kinds
from towerspec.syntax import tree

LONGEST = 64

# What torch.nn.Module already has; a part of the model by such a name would hide it. A test compares this with torch.
MODULE_ATTRIBUTES = frozenset(
    """
    T_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda double
    dump_patches eval extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu
    load_state_dict modules mtia named_buffers named_children named_modules named_parameters parameters
    register_backward_hook register_buffer register_forward_hook register_forward_pre_hook
    register_full_backward_hook register_full_backward_pre_hook register_load_state_dict_post_hook
    register_load_state_dict_pre_hook register_module register_parameter register_state_dict_post_hook
    register_state_dict_pre_hook requires_grad_ self set_extra_state set_submodule share_memory state_dict to
    to_empty train training type xpu zero_grad
    """.split()  # noqa: SIM905 - eighty quoted words would hide the list
)


def check_usable(name: tree.Name, report: Report) -> None:
    """Reports a name that generated Python could not carry."""
    text = name.text
    if keyword.iskeyword(text) or (keyword.issoftkeyword(text) and text == "_"):
        why = "is a reserved word of Python, and the generated code is Python"
    elif text in MODULE_ATTRIBUTES:
        why = "is an attribute of torch.nn.Module, and the generated model is one"
    elif text.startswith("_") or text.endswith("__"):
        why = "starts or ends with underscores, which generated code keeps for itself"
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
        help=f"rename it, say to `{text.strip('_')[:40]}_{'feature' if text in MODULE_ATTRIBUTES else 'value'}`"
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
