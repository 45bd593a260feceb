"""What loading needs of a manifest, checked: what passes has every key that the runtime reads, of the type it reads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

FORMAT = 1
TORCHSCRIPT = "torchscript"  # the target that every build has
UNIFIED, VOCABULARIES = "unified.pt", "vocabularies.json"
_WORDS: dict[type, str] = {str: "a text", dict: "an object", list: "a list"}


class Malformed(Exception):
    """What is wrong with a manifest."""


def parse(content: bytes) -> dict[str, Any]:
    """A manifest from its file's content. Raises `Malformed`."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Malformed("its manifest.json is not valid") from error
    known = document.get("format") if isinstance(document, dict) else None
    if type(known) is not int or known != FORMAT:  # True equals 1
        raise Malformed("its manifest has a format that this version of towerspec doesn't know")
    files: dict[str, Any] = _need(document, "files", dict, "")
    for name in files:
        _need(files, name, str, "files")
    surfaces: dict[str, Any] = _need(document, "surfaces", dict, "")
    for name in surfaces:
        _surface(_need(surfaces, name, dict, "surfaces"), f"surfaces.{name}")
    return dict(document)


def targets(manifest: Mapping[str, Any]) -> list[str]:
    """The targets that at least one surface has, sorted."""
    more = (target for entry in manifest["surfaces"].values() for target in entry.get("targets", {}))
    return sorted({TORCHSCRIPT, *more})


def files(manifest: Mapping[str, Any], target: str) -> Iterator[str]:
    """The files that a bundle of one target may read."""
    for entry in manifest["surfaces"].values():
        made = entry if target == TORCHSCRIPT else entry.get("targets", {}).get(target)
        if made is not None:
            yield made["file"]
    yield from (UNIFIED, VOCABULARIES)


def _surface(entry: dict[str, Any], where: str) -> None:
    _file(entry, where)
    _need(entry, "inputs", list, where)
    _outputs(entry, where)
    if "targets" in entry:
        made = _need(entry, "targets", dict, where)
        for target in made:
            _file(_need(made, target, dict, f"{where}.targets"), f"{where}.targets.{target}")
            if target != TORCHSCRIPT:
                _need(made[target], "cpu", str, f"{where}.targets.{target}")


def _file(entry: Mapping[str, Any], where: str) -> None:
    _need(entry, "file", str, where)
    _need(entry, "sha256", str, where)


def _outputs(entry: Mapping[str, Any], where: str) -> None:
    """Checks a list of objects, each with a name of its own."""
    outputs, names = _need(entry, "outputs", list, where), set[str]()
    for i, output in enumerate(outputs):
        if not isinstance(output, dict):
            raise Malformed(f"in its manifest, `{where}.outputs[{i}]` is not an object")
        names.add(_need(output, "name", str, f"{where}.outputs[{i}]"))
    if not names or len(names) < len(outputs):
        raise Malformed(f"in its manifest, `{where}.outputs` is empty, or has a name twice")


def _need(entry: Mapping[str, Any], key: str, kind: type, where: str) -> Any:
    """What an object holds under a key, which must be there and of a kind."""
    path = f"{where}.{key}" if where else key
    if key not in entry:
        raise Malformed(f"its manifest has no `{path}`")
    if not isinstance(entry[key], kind):
        raise Malformed(f"in its manifest, `{path}` is not {_WORDS[kind]}")
    return entry[key]
