"""TorchScript: loads generated source, scripts it, and freezes what is served.

TorchScript is deprecated upstream; it is one emitter among several, and its warning is silenced here.
"""

from __future__ import annotations

import copy
import hashlib
import io
import linecache
import re
import sys
import types
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import reduce

import torch
from torch import Tensor, nn
from torch.jit._fuser import optimized_execution

GENERATED = "towerspec_generated"  # what the names of generated modules begin with


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


def load_source(source: str, name: str) -> types.ModuleType:
    """A generated file as a module, without writing it anywhere.

    TorchScript asks for the source of what it compiles, and keeps the file's name: a fixed one, so that
    a compile gives the same bytes wherever it runs. Two sources of one name stay apart by their digest.
    """
    digest = hashlib.sha256(source.encode()).hexdigest()[:16]
    filename = f"<towerspec {digest}>/{name}.py"
    module = types.ModuleType(f"{GENERATED}_{name}_{digest}")
    module.__file__ = filename
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    sys.modules[module.__name__] = module
    exec(compile(source, filename, "exec"), module.__dict__)
    return module


def fill(model: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """Gives a generated module its parameters and buffers by name."""
    with torch.no_grad():
        for name, target in [*model.named_parameters(), *model.named_buffers()]:
            target.copy_(weights[name] if name in weights else weights[name.removesuffix(".weight")])  # a packed one
    return model


def instance(source: str, cls: str, name: str, weights: Mapping[str, Tensor]) -> nn.Module:
    """A generated class's module with its weights, for serving."""
    return fill(getattr(load_source(source, name), cls)(), weights).eval().requires_grad_(False)


def script(model: nn.Module) -> torch.jit.ScriptModule:
    """The module as TorchScript, unfrozen."""
    with quiet():
        return torch.jit.script(model)


def freeze(model: nn.Module) -> torch.jit.ScriptModule:
    """The module as TorchScript for serving: parameters become constants, and what hangs on nothing else is folded.

    TorchScript numbers the classes that it makes through a whole process, and its files hold the numbers. A loaded
    module has a numbering of its own, so it is loaded, without its weights, before it is frozen: a surface's file is
    then the same whatever was compiled before it.
    """
    weights = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with quiet():
        empty = to_bytes(torch.jit.script(hollow(model)))
        packed = [name for name, part in model.named_modules() if getattr(part, "lays_out", False)]
        alone = from_bytes(_renumbered(empty) if packed else empty)
        for path, tensor in weights.items():
            *parts, name = path.split(".")
            # By TorchScript's own look-up: in Python's, a part named `save` is a method.
            reduce(lambda module, part: module.getattr(part), parts, alone._c).setattr(name, tensor)
        # Freezing keeps `forward` alone, and leaves calls of arms within arms in it unless they are inlined first.
        torch._C._jit_pass_inline(alone.graph)
        return torch.jit.freeze(alone.eval(), preserved_attrs=packed)


def hollow(model: nn.Module) -> nn.Module:
    """A copy with tensors of no elements."""
    empty = {id(x): x.new_empty(0) for x in (*model.parameters(), *model.buffers())}
    for x in model.parameters():
        empty[id(x)] = nn.Parameter(empty[id(x)], requires_grad=False)
    return copy.deepcopy(model, empty).eval()


def _renumbered(content: bytes) -> bytes:
    """A file of no weights with the numbers of its classes counted from 0: freezing keeps those of packed weights."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = [(name.encode(), archive.read(name)) for name in archive.namelist()]
    mark = re.compile(rb"(?<=___torch_mangle_)\d+")
    numbers = sorted({int(n) for name, data in entries for text in (name, data) for n in mark.findall(text)})
    place = {b"%d" % number: b"%d" % i for i, number in enumerate(numbers)}
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in entries:
            # What a debugger shows has lengths beside its texts, and no names of classes in them.
            kept = data if name.endswith(b".debug_pkl") else mark.sub(lambda found: place[found[0]], data)
            archive.writestr(mark.sub(lambda found: place[found[0]], name).decode(), kept)
    return made.getvalue()


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
