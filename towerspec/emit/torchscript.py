"""TorchScript: loads generated source, scripts it, and freezes what is served.

TorchScript is deprecated upstream; it is one emitter among several, and its warning is silenced here.
"""

from __future__ import annotations

import copy
import hashlib
import io
import itertools
import linecache
import re
import sys
import tokenize
import types
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.jit._fuser import optimized_execution

from towerspec.emit.contents import LARGE, Content, read, room_for
from towerspec.emit.names import path_of

DEEPEST = 64  # calls within calls: brackets of a spec nest no deeper
GENERATED = "towerspec_generated"  # what the names of generated modules begin with
_LOADED = itertools.count()  # generated files, so far


@contextmanager
def quiet() -> Iterator[None]:
    """Silences the notice that TorchScript is deprecated, and no other."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit.*deprecated.*")
        yield


@contextmanager
def small_calls() -> Iterator[None]:
    """For calls of a few rows: one thread, and no time spent on specialising graphs to their shapes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with quiet(), optimized_execution(False):
            yield
    finally:
        torch.set_num_threads(threads)


def load_source(source: str, name: str, counted: bool = True) -> types.ModuleType:
    """A generated file as a module, without writing it anywhere.

    TorchScript asks for the source of what it compiles, and keeps the file's name: a fixed one, so that
    a compile gives the same bytes wherever it runs. Two sources of one name stay apart by their digest, and classes of
    a source that is loaded again by a count, which `script` takes out; what isn't scripted needs none.
    """
    source = without_comments(source)
    digest = hashlib.sha256(source.encode()).hexdigest()[:16]
    filename = f"<towerspec {digest}>/{name}.py"
    module = types.ModuleType(f"{GENERATED}_{name}_{digest}" + (f"_{next(_LOADED):09d}" if counted else ""))
    module.__file__ = filename
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    sys.modules[module.__name__] = module
    exec(compile(source, filename, "exec"), module.__dict__)
    return module


def without_comments(source: str) -> str:
    """The source line by line, without its comments: they say where in the spec a line is from, and compute nothing.

    >>> without_comments("a = 1  # here\\n# there\\nb = '# two'\\n")
    "a = 1\\n\\nb = '# two'\\n"
    """
    lines = source.splitlines(keepends=True)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column].rstrip() + "\n"
    return "".join(lines)


def fill(model: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """Gives a generated module its parameters and buffers by path: the tensors themselves where they are of its type.

    A module from outside, which may write to its own, gets copies.
    """
    foreign = tuple(f"{name}." for name, part in model.named_modules() if not _is_generated(part))
    with torch.no_grad():
        for name, target in [*model.named_parameters(), *model.named_buffers()]:
            path = path_of(name)
            given = weights[path] if path in weights else weights[path.removesuffix(".weight")]  # a packed one
            target.data = given.detach().to(target.dtype, copy=name.startswith(foreign)).contiguous()
    return model


def _is_generated(part: nn.Module) -> bool:
    return type(part) is nn.ModuleList or type(part).__module__.startswith(GENERATED)


def widened(model: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """A copy of a generated module that computes in float64, with parameters and buffers by path."""
    return fill(hollow(model).double(), weights)


def tensors(model: nn.Module) -> dict[str, Tensor]:
    """A generated module's parameters and buffers by their paths in the spec."""
    return {path_of(name): x for name, x in [*model.named_parameters(), *model.named_buffers()]}


def instance(source: str, cls: str, name: str, weights: Mapping[str, Tensor], counted: bool = True) -> nn.Module:
    """A generated class's module with its weights, for serving."""
    return fill(getattr(load_source(source, name, counted), cls)(), weights).eval().requires_grad_(False)


def size(model: nn.Module) -> int:
    """How many bytes a module's parameters and buffers have."""
    return sum(x.numel() * x.element_size() for x in [*model.parameters(), *model.buffers()])


def script(model: nn.Module) -> torch.jit.ScriptModule:
    """The module as TorchScript, unfrozen.

    TorchScript numbers the classes that it makes through a whole process, and its files hold the numbers. So the
    module is written without its weights, numbered from 0, and loaded: then a file is the same whatever was compiled
    before it.
    """
    with quiet():
        made = from_bytes(_renumbered(to_bytes(torch.jit.script(hollow(model)))))
    for name, x in [*model.named_parameters(), *model.named_buffers()]:
        *parts, last = name.split(".")
        # By TorchScript's own look-up: in Python's, a part named `save` is a method.
        reduce(lambda module, part: module.getattr(part), parts, made._c).setattr(last, x)
    return made.eval()


def freeze(model: nn.Module) -> torch.jit.ScriptModule:
    """The module as TorchScript for serving: parameters become constants, and what hangs on nothing else is folded."""
    packed = [name for name, part in model.named_modules() if getattr(part, "lays_out", False)]
    alone = script(model)
    with quiet():
        # Freezing keeps `forward` alone, and leaves calls of arms within arms in it unless they are inlined first.
        graph: Any = alone.graph
        for _ in range(DEEPEST):  # each time one call deep; a custom module's call of an interface stays
            if not any(graph.findAllNodes(kind) for kind in ("prim::CallMethod", "prim::CallFunction")):
                break
            torch._C._jit_pass_inline(graph)
        # Its own folding changes the weight of a linear before a batch norm, whoever else reads that linear.
        frozen = torch.jit.freeze(alone, preserved_attrs=packed, optimize_numerics=False)
        # Freezing leaves now and then what could be worked out, by the order of addresses in memory; this finishes it.
        torch._C._jit_pass_constant_propagation(frozen.graph)
        return frozen


def hollow(model: nn.Module) -> nn.Module:
    """A copy with tensors of no elements."""
    empty = {id(x): x.new_empty(0) for x in (*model.parameters(), *model.buffers())}
    for x in model.parameters():
        empty[id(x)] = nn.Parameter(empty[id(x)], requires_grad=False)
    return copy.deepcopy(model, empty).eval()


def _renumbered(content: bytes) -> bytes:
    """A file of no weights with the numbers of its classes counted from 0, and without its record of the source.

    Freezing keeps those numbers, and places in the source: neither may say what was compiled before.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = [name for name in archive.namelist() if not name.endswith(".debug_pkl")]
        entries = _first_without([(name.encode(), archive.read(name)) for name in names])
    mark = re.compile(rb"(?<=___torch_mangle_)\d+")
    numbers = sorted({int(n) for name, data in entries for text in (name, data) for n in mark.findall(text)})
    place = {b"%d" % number: b"%d" % i for i, number in enumerate(numbers)}
    count = re.compile(rb"(towerspec_generated_\w+_[0-9a-f]{16})_\d{9}")
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in entries:
            name, data = (mark.sub(lambda found: place[found[0]], count.sub(rb"\1", text)) for text in (name, data))
            archive.writestr(name.decode(), data)
    return made.getvalue()


def _first_without(entries: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The same with no number at the first class of each place: it has one where that place was seen before."""
    places = {name for name, _ in entries}
    firsts = []
    numbered = [found for name, _ in entries if (found := re.fullmatch(rb"(.+)/___torch_mangle_(\d+)\.py", name))]
    for found in sorted(numbered, key=lambda found: int(found[2])):
        if found[1] + b".py" not in places:
            places.add(found[1] + b".py")
            firsts.append(found[2])
    if not firsts:
        return entries
    mark = re.compile(rb"[./]___torch_mangle_(?:%s)(?=[.\n])" % b"|".join(firsts))
    return [(mark.sub(b"", name), mark.sub(b"", data)) for name, data in entries]


def store(scripted: torch.jit.ScriptModule, size: int) -> tuple[Content, torch.jit.ScriptModule]:
    """The content of a module's file, and the module that it holds; `size` is how many bytes its weights have.

    A large file is written to the system's temporary folder: in memory it would be there three times at once. Raises
    `SpecError` (T608) where there is no room for it.
    """
    if size < LARGE:
        content = to_bytes(scripted)
        return content, from_bytes(content)
    with quiet(), room_for(size) as folder:
        path = folder / "archive.pt"  # PyTorch calls what is inside after the file, and in memory so
        torch.jit.save(scripted, str(path))
        return read(path), torch.jit.load(str(path), map_location="cpu")


def to_bytes(scripted: torch.jit.ScriptModule) -> bytes:
    """The file's content."""
    buffer = io.BytesIO()
    with quiet():
        torch.jit.save(scripted, buffer)
    return buffer.getvalue()


def from_bytes(content: bytes) -> torch.jit.ScriptModule:
    """A scripted module from a file's content."""
    with quiet():
        return torch.jit.load(io.BytesIO(content), map_location="cpu")
