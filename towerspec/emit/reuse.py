"""What a compile takes over from the build that it replaces: surfaces that nothing has changed for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from towerspec import __version__
from towerspec.emit.contents import Content, digest, read
from towerspec.ir.graph import Graph
from towerspec.ir.primitives import Opaque
from towerspec.ir.printer import print_op


@dataclass(frozen=True)
class Kept:
    """A file of an earlier build, and what its manifest says of it."""

    content: Content
    entry: Mapping[str, Any]


@dataclass(frozen=True)
class Earlier:
    """The build in a folder, as far as it can be read: none, or a damaged one, has nothing to give."""

    folder: Path
    entries: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def read(folder: Path) -> Earlier:
        try:
            document = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return Earlier(folder)
        surfaces = document.get("surfaces") if isinstance(document, dict) else None
        entries = {**surfaces, "": document.get("unified")} if isinstance(surfaces, dict) else {}
        return Earlier(folder, {name: e for name, e in entries.items() if isinstance(e, dict)})

    def find(self, surface: str, key: str, *inside: str) -> Kept | None:
        """The file of a surface (or of all, as ``""``) that was made from the same things, if it is whole.

        `inside` leads from the surface's entry in the manifest to that of another of its files.
        """
        entry = self.entries.get(surface, {})
        if not key or entry.get("key") != key:
            return None
        for word in inside:
            entry = entry.get(word, {})
        try:
            content = read(self.folder / entry["file"])
        except (OSError, KeyError):
            return None
        return Kept(content, entry) if digest(content) == entry.get("sha256") else None


class Keys:
    """What a file is made from, in one digest: code, parameters, options and versions."""

    def __init__(self, weights: Mapping[str, Tensor], options: Mapping[str, Any]) -> None:
        self._weights, self._digests = weights, dict[str, str]()
        versions = {"towerspec": __version__, "torch": torch.__version__}
        self._common = json.dumps({"options": options, "versions": versions}, sort_keys=True)

    def of(self, graphs: Collection[Graph], source: str, parameters: Collection[str]) -> str:
        """The digest; an empty one where the graph holds a user's module, whose code may change unseen."""
        if any(isinstance(op.prim, Opaque) for graph in graphs for op in graph.ops):
            return ""
        whole = hashlib.sha256()
        for part in (self._common, source, *map(_text, graphs)):
            whole.update(f"{len(part)}:{part}".encode())
        for path in sorted(parameters):
            whole.update(f"{path}={self._digest(path)}\n".encode())
        return whole.hexdigest()

    def _digest(self, path: str) -> str:
        if path not in self._digests:
            self._digests[path] = tensor_digest(self._weights[path])
        return self._digests[path]


def tensor_digest(x: Tensor) -> str:
    """SHA-256 of all of a tensor's bytes, in hex; they are read where they lie."""
    flat = x.detach().contiguous().reshape(-1)
    return hashlib.sha256(flat.view(torch.uint8).numpy().data).hexdigest()


def _text(graph: Graph) -> str:
    """The graph without the places of its statements: a spec is the same wherever its file lies."""
    return "\n".join([*map(print_op, graph.ops), *map(repr, graph.outputs)])
