"""Names and texts of generated code: what a spec says and what the generator says never meet.

A name of a spec begins with a letter and doesn't end in two underscores (`check_usable`). So the generator's own names
begin with an underscore or are listed here, an attribute whose name PyTorch has taken gets two underscores at its end,
and any other text of a spec goes through `comment` or `literal`.
"""

from __future__ import annotations

import builtins
import json
import keyword
import re
from collections.abc import Iterable

import torch
from torch import nn

from towerspec.check.names import COUNTS
from towerspec.diagnostics import Span
from towerspec.emit import helpers
from towerspec.ir.graph import Graph, Op
from towerspec.ir.primitives import Input, Merge

IMPORTED = frozenset({"F", "Tensor", "hashlib", "math", "nn", "torch"})
HELPERS = frozenset(name for name in vars(helpers) if not name.startswith("__"))
LOCALS = frozenset({"asked", "asking", "features", "n", "out", "r", "request", "rows", "self", "surface", COUNTS})
FX = frozenset({"device", "fx_pytree", "inf", "nan", "NoneType", "pytree"})  # torch.fx's code has them for its own
WORDS = frozenset({*keyword.kwlist, *dir(builtins)})
# TorchScript writes these into its files, beside variables that it names after attributes and arguments.
SCRIPT = frozenset({"CONSTANTS", "NoneType", "annotate", "ops", "torch", "unchecked_cast", "uninitialized"})
RESERVED = IMPORTED | HELPERS | LOCALS | FX | WORDS | SCRIPT

_MODULE = frozenset({*keyword.kwlist, *dir(nn.Module()), *dir(nn.ModuleList())})
_TAKEN = _MODULE | WORDS | SCRIPT  # as attributes of a generated part
# As methods of the unified model: it has parts and constants, and as TorchScript it has more attributes.
_ROOT = frozenset({"features", "heads", "surfaces", "tables", "trunk", "SURFACES", "REQUEST"})
_METHODS = _TAKEN | _ROOT | frozenset(dir(torch.jit.ScriptModule))


def attribute(step: str) -> str:
    """The attribute of a generated module that stands for a step of a path.

    >>> attribute("country"), attribute("children")
    ('country', 'children__')
    """
    return f"{step}__" if step in _TAKEN else step


def path_of(name: str) -> str:
    """The path in the spec of what a generated module has under this name: `attribute`, undone for each step.

    >>> path_of("features.children__.weight")
    'features.children.weight'
    """
    steps = name.split(".")
    return ".".join(s[:-2] if s.endswith("__") and s[:-2] in _TAKEN else s for s in steps)


def method(surface: str) -> str:
    """The method of the unified model that serves a surface.

    >>> method("home"), method("graph"), method("trunk")
    ('home', 'graph__', 'trunk__')
    """
    return f"{surface}__" if surface in _METHODS else surface


def comment(text: str) -> str:
    r"""A text of an author's as one line of a comment or a docstring, which nothing in it can end.

    >>> print(comment("a\nb = 1 \\"))
    a b = 1 /
    """
    line = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(line.replace("\\", "/").replace('"""', "'''").split())


def literal(text: str) -> str:
    r"""A text of an author's as a literal in double quotes, of ASCII letters alone.

    >>> print(literal('say "hi" \n'))
    "say \"hi\" \n"
    """
    return json.dumps(text)


class Names:
    """Hands out variable names of one function, each once."""

    def __init__(self) -> None:
        self.by_id: dict[str, str] = {}
        self._taken: set[str] = set()
        self._counts: dict[str, int] = {}  # how often each name was asked for, so that none is tried again

    def give(self, id_: str, base: str) -> str:
        """The variable for an op's value, named after `base`."""
        if id_ not in self.by_id:
            self.by_id[id_] = self.fresh(base)
        return self.by_id[id_]

    @property
    def variables(self) -> dict[str, str]:
        """The op that each variable holds."""
        return {name: id_ for id_, name in self.by_id.items()}

    def fresh(self, base: str) -> str:
        base = re.sub(r"\W", "_", base).strip("_") or "value"
        base = f"v_{base}" if base[0].isdigit() else base
        name, count = (f"{base}_" if base in RESERVED else base), self._counts.get(base, 1)
        while name in self._taken:
            count += 1
            name = f"{base}_{count}"
        self._counts[base] = count
        self._taken.add(name)
        return name


def class_name(path: str) -> str:
    """A class's name from a path in the spec.

    >>> class_name("trunk.crossed_pairs"), class_name("part"), class_name("none")
    ('TrunkCrossedPairs', 'PartModel', 'NoneModel')
    """
    name = "".join(word[:1].upper() + word[1:] for word in re.split(r"[._]", path) if word)
    return f"{name}Model" if name in RESERVED else name


def class_names(paths: Iterable[str], root: str) -> dict[str, str]:
    """A class's name for each path, none twice and none the root's.

    >>> class_names(["trunk.a.b", "trunk.a_b"], "m")
    {'trunk.a.b': 'TrunkAB', 'trunk.a_b': 'TrunkAB2'}
    """
    taken, names = {class_name(root)}, {}
    for path in paths:
        base, count = class_name(path), 1
        name = base
        while name in taken:
            count += 1
            name = f"{base}{count}"
        taken.add(name)
        names[path] = name
    return names


def value_names(graph: Graph) -> dict[str, str]:
    """What the values that mean something in the spec are called: heads, their logits, features, statements."""
    names: dict[str, str] = {}
    for op in graph.ops:
        if isinstance(op.prim, Input):
            names[op.id] = op.prim.feature
    for output in graph.outputs:
        names[output.logit] = f"{output.name}_logit"
        names[output.prediction] = output.name
    for op in reversed(graph.ops):
        if isinstance(op.prim, Merge) and op.id in names:
            for operand in op.inputs[1:]:
                names.setdefault(operand, names[op.id])
    return names


def last_step(scope: str) -> str:
    """The last word of a path, with a word before a number: `layer_0`.

    >>> last_step("surfaces.search.tower.layers.0")
    'layer_0'
    """
    steps = scope.split(".")
    if steps[-1].isdigit() and len(steps) > 1:
        return f"{steps[-2].rstrip('s')}_{steps[-1]}"
    if len(steps) == 1:
        return f"{steps[0]}_group"
    return f"{steps[-1]}_value" if steps[0] == "features" else steps[-1]


def hint(op: Op) -> str:
    """The part of an op's id that says what it does within its statement."""
    inner = op.id[len(op.scope) + 1 :] if op.id.startswith(f"{op.scope}.") else op.id
    return inner.split("@")[0].replace(".", "_")


def spec_line(span: Span | None, base: str | None) -> str:
    """The text of a statement's line in the spec, without its comment; after its place, if there is a base for it."""
    if span is None:
        return ""
    text = span.source.line(span.line)
    text = comment(text if '"' in text else text.split("#")[0])
    text = text if len(text) <= 90 else text[:89] + "…"
    return text if base is None else f"{place(span, base)}: {text}"


def place(span: Span, base: str) -> str:
    """`file:line`, the file's path relative to the folder of the spec."""
    path = span.source.path.replace("\\", "/")
    prefix = base.replace("\\", "/").rstrip("/") + "/"
    return comment(f"{path[len(prefix) :] if path.startswith(prefix) else path.rsplit('/', 1)[-1]}:{span.line}")
