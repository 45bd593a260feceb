"""Options of the `train` block from the command line, `--set epochs=3`, checked as if they stood in the spec."""

from __future__ import annotations

from collections.abc import Sequence

from towerspec.check.params import build
from towerspec.diagnostics import Report, Source
from towerspec.layers.blocks import Train
from towerspec.syntax import tree
from towerspec.syntax.parser import parse


def settings(train: Train, given: Sequence[str]) -> Train:
    """The options with those given on the command line in place of the spec's.

    Raises:
        SpecError: one is no option of the block, or can't have its value; the place is in what was given.

    >>> settings(Train(), ["epochs=3", "train.freeze=[trunk]"]).freeze
    ('trunk',)
    """
    report = Report()
    options = [option for item in given for option in _options(item, report)]
    report.check()
    last = {option.name.text: option for option in options}  # the last one counts, as on any command line
    if not last:
        return train
    made = build(Train, list(last.values()), next(iter(last.values())).span, "`train`", report)
    report.check()
    assert made is not None
    return train.model_copy(update={name: getattr(made, name) for name in last})


def _options(item: str, report: Report) -> tuple[tree.Option, ...]:
    name, equals, value = item.partition("=")
    text = f"train {{ {name.strip().removeprefix('train.')}: {value} }}"
    if not equals:
        report.error("T301", f"`{item}` sets nothing", help="write an option and its value, as in `epochs=3`")
        return ()
    spec, errors = parse(Source("--set", text))
    report.extend(errors)
    return tuple(option for block in spec.items if isinstance(block, tree.Train) for option in block.options)
