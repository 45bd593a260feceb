"""Names for generated code: identifiers that shadow nothing the code relies on."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterable

from towerspec.diagnostics import Span
from towerspec.emit import helpers
from towerspec.ir.graph import Graph, Op
from towerspec.ir.primitives import Input, Merge

RESERVED = frozenset(
    {
        "n",
        "r",
        "request",
        "surface",
        "asked",
        "asking",
        "rows",
        "out",
        "features",
        "self",
        "torch",
        "F",
        "nn",
        "Tensor",
        "math",
        "hashlib",
        "annotations",
        "Dict",
        "List",
        "Optional",
        "Tuple",
        "candidates_per_request",
        "SURFACES",
        "REQUEST",
        *("device", "fx_pytree", "inf", "nan", "NoneType", "pytree"),  # torch.fx's code has them for its own
        *keyword.kwlist,
        *dir(builtins),
        *(name for name in vars(helpers) if not name.startswith("__")),
    }
)


class Names:
    """Hands out variable names of one function, each once."""

    def __init__(self) -> None:
        self.by_id: dict[str, str] = {}
        self._taken: set[str] = set()

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
        name, count = (f"{base}_" if base in RESERVED else base), 1
        while name in self._taken:
            count += 1
            name = f"{base}_{count}"
        self._taken.add(name)
        return name


CLASSES = frozenset({"F", "Part", "Tensor"})  # what generated files call their own


def class_name(path: str) -> str:
    """A class's name from a path in the spec.

    >>> class_name("trunk.crossed_pairs"), class_name("part")
    ('TrunkCrossedPairs', 'PartModel')
    """
    name = "".join(word[:1].upper() + word[1:] for word in re.split(r"[._]", path) if word)
    return f"{name}Model" if name in CLASSES else name


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


def spec_line(span: Span | None, base: str) -> str:
    """A comment that points at the spec: place and text of the line."""
    if span is None:
        return ""
    text = span.source.line(span.line)
    text = text if '"' in text else text.split("#")[0]
    text = "".join(c if c.isprintable() else " " for c in text).strip()
    return f"{place(span, base)}: {text if len(text) <= 90 else text[:89] + '…'}"


def place(span: Span, base: str) -> str:
    """`file:line`, the file's path relative to the folder of the spec."""
    path = span.source.path.replace("\\", "/")
    prefix = base.replace("\\", "/").rstrip("/") + "/"
    return f"{path[len(prefix) :] if path.startswith(prefix) else path.rsplit('/', 1)[-1]}:{span.line}"
