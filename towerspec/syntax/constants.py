"""Constants: what each stands for, worked out once and measured, however they refer to each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from towerspec.diagnostics import Report, listing
from towerspec.syntax import tree

LARGEST = 200_000  # parts that constants and templates may add to a spec
DEEPEST = 64  # levels that they may nest


@dataclass(frozen=True)
class Value:
    """What a name stands for: an expression, how many parts it has, and how many levels deep they are."""

    expr: tree.Expr
    size: int
    depth: int


def constants(declared: Mapping[str, tree.Const], report: Report) -> dict[str, Value]:
    """The value of every constant, its own constants replaced; a circle counts as 1, and is reported (T215).

    So is what passes a bound (T216), once. Values share their parts, so that to measure them takes no memory.
    """
    made: dict[str, Value] = {}
    for first in declared:
        open_ = {first: _refs(declared[first].value)} if first not in made else {}
        while open_:  # no recursion: a chain may be as long as the file
            name = next(reversed(open_))
            ref = next((r for r in open_[name] if r in declared and r not in made), None)
            if ref is None:
                made.setdefault(name, _bounded(declared[name], made, report))
                del open_[name]
            elif ref in open_:
                chain = [*open_]
                _circle(declared[ref], chain[chain.index(ref) :], report)
                made[ref] = _one(declared[ref])
            else:
                open_[ref] = _refs(declared[ref].value)
    return made


def _refs(value: tree.Expr) -> Iterator[str]:
    if isinstance(value, tree.Ref):
        yield value.name
    elif isinstance(value, tree.ListExpr):
        for item in value.items:
            yield from _refs(item)


def _one(node: tree.Const) -> Value:
    return Value(tree.Literal(1, span=node.value.span), 1, 0)


def _circle(node: tree.Const, names: list[str], report: Report) -> None:
    report.error(
        "T215",
        f"the constant `{node.name.text}` is defined by itself",
        node.name.span,
        "leads back to itself",
        notes=[f"the cycle is {circle(names)}"],
    )


def circle(names: list[str]) -> str:
    """The names of a circle, from the first back to it; many are cut.

    >>> circle(["a", "b"])
    '`a` -> `b` -> `a`'
    """
    shown = [*names[:8], "…"] if len(names) > 9 else names
    return " -> ".join(n if n == "…" else f"`{n}`" for n in (*shown, names[0]))


def _bounded(node: tree.Const, made: Mapping[str, Value], report: Report) -> Value:
    value = _value(node.value, made, report)
    grows, parts = value.size > LARGEST, [r for r in _refs(node.value) if r in made]
    value = replace(value, size=min(value.size, LARGEST + 1), depth=min(value.depth, DEEPEST + 1))
    if (not grows and value.depth <= DEEPEST) or any(_too_large(made[r]) for r in parts):
        return value
    report.error(
        "T216",
        f"the constant `{node.name.text}` stands for more than {LARGEST:,} parts"
        if grows
        else f"the constant `{node.name.text}` nests deeper than {DEEPEST} levels",
        node.name.span,
        "grows past the bound here",
        notes=[f"it is made of {listing(dict.fromkeys(f'`{r}`' for r in parts), 8)}"] if parts else [],
        help="nest constants less",
    )
    return value


def _too_large(value: Value) -> bool:
    return value.size > LARGEST or value.depth > DEEPEST


def _value(value: tree.Expr, made: Mapping[str, Value], report: Report) -> Value:
    if isinstance(value, tree.Ref) and value.name in made:
        found = made[value.name]
        return replace(found, expr=replace(found.expr, span=value.span))
    if isinstance(value, tree.ListExpr):
        items = [_value(item, made, report) for item in value.items]
        expr = replace(value, items=tuple(item.expr for item in items))
        return Value(expr, 1 + sum(i.size for i in items), 1 + max((i.depth for i in items), default=0))
    if isinstance(value, tree.Call):
        report.error(
            "T214",
            "a constant is a number, a text, a word or a list",
            value.span,
            "a call",
            help="a `template` gives a name to a call",
        )
    return Value(value, 1, 0)
