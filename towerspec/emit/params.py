"""The tree of a model's parameters, as nested modules: the steps of a parameter's path are their attributes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from towerspec.emit.names import attribute, literal
from towerspec.ir.primitives import Init, Opaque, Param
from towerspec.ir.primitives.products import PACKED

_WIDTH = 100
_DTYPES = {
    "int": "torch.int64",
    "bool": "torch.bool",
    "bf16": "torch.bfloat16",
    "fp16": "torch.float16",
    "int8": "torch.int8",
}
_FLOATS = {"float", "bf16", "fp16"}


@dataclass
class Part:
    """One step of the paths: a tensor, a module from outside, or further parts; `cls` is its class, if it has one."""

    path: str
    param: Param | None = None
    opaque: Opaque | None = None
    begins: Mapping[str, Init] = field(default_factory=dict)  # how the tensors of the module from outside begin
    inits: bool = True  # whether tensors say how they begin
    cls: str | None = None
    parts: dict[str, Part] = field(default_factory=dict)

    @cached_property  # asked for at each access, and only once all parts are there
    def is_list(self) -> bool:
        """Whether the parts are numbered, and so become an `nn.ModuleList`."""
        return bool(self.parts) and all(
            key == str(i) and part.param is None for i, (key, part) in enumerate(sorted_parts(self))
        )

    def find(self, path: str) -> Part:
        """The part at a path below this one, made where it is missing."""
        part = self
        for step in path.split("."):
            below = f"{part.path}.{step}" if part.path else step
            part = part.parts.setdefault(step, Part(below, inits=self.inits))
        return part

    def access(self, path: str, root: str = "self") -> str:
        """The expression that reads a part below this one."""
        part, expression = self, root
        for step in path.split("."):
            if part.is_list:
                expression = f"{expression}[{step}]"
            elif step.isdigit():
                expression = f'getattr({expression}, "{step}")'
            else:
                expression = f"{expression}.{attribute(step)}"
            part = part.parts[step]
        return expression


def sorted_parts(part: Part) -> list[tuple[str, Part]]:
    """A part's parts in the order of the file, numbered ones by number."""
    items = list(part.parts.items())
    return sorted(items, key=lambda item: int(item[0])) if all(key.isdigit() for key in part.parts) else items


def build_tree(
    params: Iterable[Param],
    opaques: Iterable[Opaque] = (),
    classes: Mapping[str, str] | None = None,
    inits: bool = True,
) -> Part:
    """The tree of the given parameters; `classes` names the class that stands for the part at a path."""
    root = Part("", inits=inits)
    outside = {o.path: o for o in opaques}
    begins: dict[str, dict[str, Init]] = {path: {} for path in outside}
    for param in params:
        steps = param.path.split(".")
        above = (".".join(steps[:depth]) for depth in range(1, len(steps)))
        holder = next((path for path in above if path in outside), None)
        if holder is None:
            root.find(param.path).param = param
        else:
            begins[holder][param.path[len(holder) + 1 :]] = param.init
    for path, opaque in outside.items():
        part = root.find(path)
        part.opaque, part.begins = opaque, begins[path]
    for path, cls in (classes or {}).items():
        root.find(path).cls = cls
    return root


def constructor(part: Part, indent: int) -> str:
    """The expression that makes a part, wrapped where it is long; lines after the first are indented by `indent`."""
    if part.param is not None:
        return _tensor(part.param, part.inits)
    if part.opaque is not None:
        arguments = ", ".join(f"{k}={literal(v) if isinstance(v, str) else repr(v)}" for k, v in part.opaque.arguments)
        made = f"{part.opaque.target.split(':')[1]}({arguments})"
        begins = {name: (init.kind, *init.values) for name, init in part.begins.items()}
        return f"begin({made}, {begins})" if part.inits and begins else made
    if part.cls is not None:
        return f"{part.cls}()"
    return _call("nn.ModuleList([", "])", part, indent) if part.is_list else _call("Part(", ")", part, indent)


def members(part: Part, indent: int) -> str:
    """The call of the base class's constructor in the class that stands for a part."""
    return (
        _call("super().__init__([", "])", part, indent)
        if part.is_list
        else _call("super().__init__(", ")", part, indent)
    )


def _call(left: str, right: str, part: Part, indent: int) -> str:
    items = [_keyed(part, key, constructor(below, indent + 4)) for key, below in sorted_parts(part)]
    line = f"{left}{', '.join(items)}{right}"
    if len(line) + indent <= _WIDTH and "\n" not in line:
        return line
    pad = " " * (indent + 4)
    return "\n".join([left, *(f"{pad}{item}," for item in items), f"{' ' * indent}{right}"])


def _keyed(part: Part, key: str, value: str) -> str:
    if part.is_list:
        return value
    return f"**{{{key!r}: {value}}}" if key.isdigit() else f"{attribute(key)}={value}"


def _tensor(param: Param, inits: bool) -> str:
    if param.dtype in PACKED.values():
        of = "" if param.dtype == PACKED["float"] else ", torch.bfloat16"
        return f"Packed({param.shape[0]}, {param.shape[1]}{of})"
    begins = f', "{param.init.kind}"' + "".join(f", {v!r}" for v in param.init.values) if inits else ""
    needed = inits or param.dtype not in _FLOATS  # no graph can train what isn't a float
    options = ", trainable=False" if needed and not param.trainable else ""
    if param.dtype != "float":
        options += f", dtype={_DTYPES[param.dtype]}"
    return f"tensor({list(param.shape)}{begins}{options})"
