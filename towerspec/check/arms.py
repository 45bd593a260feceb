"""What the label of an arm means: an id of the branch's key, whichever way it is written."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Union

from towerspec.check.model import FeatureDef
from towerspec.diagnostics import Label, Report, did_you_mean, listing
from towerspec.layers.features import Category
from towerspec.syntax import tree

ELSE = "else"
_DIGITS = re.compile(r"[0-9]{1,18}")
Meaning = Union[int, str]  # an id, `else`, or what a label without an id says


def is_else(label: tree.Literal | tree.Name) -> bool:
    return isinstance(label, tree.Name) and label.text == ELSE


@dataclass
class ArmLabels:
    """The labels of one branch; `rows` is how many ids its key has, none where that is reported already."""

    feature: FeatureDef | None
    rows: int | None
    report: Report
    first: dict[Meaning, tree.Arm] = field(default_factory=dict)
    sound: bool = True  # whether each label so far has an id
    values: list[str] = field(default_factory=list)  # the key's, as they are written
    _ids: dict[Union[int, str], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kind = self.feature.kind if self.feature else None
        values = (kind.values or ()) if isinstance(kind, Category) else ()
        self.values = [str(value) for value in values]
        # A label means the value of its own kind; where there is none, `1` and `"1"` are the same.
        self._ids.update((text, i) for i, text in enumerate(self.values))
        self._ids.update((value, i) for i, value in enumerate(values))

    def add(self, arm: tree.Arm) -> tuple[int, ...] | None:
        """The ids that an arm is for, none for `else`; None, and an error, where another arm is for the same."""
        text = arm.label.text if isinstance(arm.label, tree.Name) else arm.label.value
        id_ = None if is_else(arm.label) else self._id(text)
        meaning = ELSE if is_else(arm.label) else f"?{text}" if id_ is None else id_
        other = self.first.setdefault(meaning, arm)
        if other is not arm:
            self._twice(arm, other, id_)
            return None
        if isinstance(meaning, str) and meaning != ELSE:
            self.sound = False
            if self.feature is not None and self.rows is not None:
                self._unknown(str(text), arm.label)
        return () if id_ is None else (id_,)

    def _id(self, text: str | float) -> int | None:
        if self.values:
            found = self._ids.get(text) if isinstance(text, (str, int)) else None
            return self._ids.get(str(text)) if found is None else found
        if isinstance(text, str):
            text = int(text) if _DIGITS.fullmatch(text) else -1
        return text if isinstance(text, int) and self.rows is not None and 0 <= text < self.rows else None

    def _twice(self, arm: tree.Arm, other: tree.Arm, id_: int | None) -> None:
        mine, its = (_shown(a.label) for a in (arm, other))
        what = f"the value `{self.values[id_]}`" if self.values and id_ is not None else f"id {id_}"
        self.report.error(
            "T210",
            f"arm `{mine}` is defined twice" if mine == its else f"arms `{its}` and `{mine}` are one",
            arm.label.span,
            "defined again here",
            labels=[Label(other.label.span, "first defined here")],
            notes=[f"both are {what} of `{self.feature.name}`"] if mine != its and self.feature else [],
        )

    def _unknown(self, text: str, label: tree.Literal | tree.Name) -> None:
        assert self.feature is not None
        if self.values:
            self.report.error(
                "T409",
                f"`{text}` is no value of `{self.feature.name}`",
                label.span,
                "not one of its values",
                notes=[f"its values are {listing(self.values)}"],
                help=did_you_mean(text, self.values),
            )
            return
        self.report.error(
            "T409",
            f"`{text}` is no id of `{self.feature.name}`",
            label.span,
            f"must be 0 to {(self.rows or 1) - 1}",
            help="give the feature `values: […]` to branch by name",
        )


def _shown(label: tree.Literal | tree.Name) -> str:
    return label.text if isinstance(label, tree.Name) else label.span.text
