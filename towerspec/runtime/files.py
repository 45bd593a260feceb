"""A call's inputs from a file: JSON (`{"name": [...], ...}`, texts and ragged lists allowed) or safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from towerspec.diagnostics import Diagnostic, SpecError
from towerspec.runtime import json_text, safetensors


def read_inputs(path: str | Path) -> dict[str, Any]:
    """The inputs of a `.json` or `.safetensors` file by name, ready for a call: lists as JSON has them, or tensors.

    Raises:
        SpecError: the file can't be read, or is malformed (T704).
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unread(path, "can't be read") from error
    if path.suffix == ".safetensors":
        try:
            return dict(safetensors.parse(content))
        except safetensors.Malformed as error:
            raise _unread(path, str(error)) from None
    try:
        found = json_text.parse(content)
    except json_text.Malformed as error:
        raise _unread(path, f"is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise _unread(path, "holds no object: inputs are lists of rows by name")
    return found


def _unread(path: Path, why: str) -> SpecError:
    return SpecError(Diagnostic("T704", f"`{path}` {why}"))
