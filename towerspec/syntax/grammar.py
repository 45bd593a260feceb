"""Lark's parser of grammar/tower.lark, its tables made once and kept beside this module's own bytecode.

Lark computes them from the grammar, which takes longer than all specs' parsing together. Like bytecode they follow
from a source, so they live where Python keeps that, and by the same rules: written where that folder can be written,
put in place at once so that another process never reads half a file, and made anew where the source is another one.
Who can write there can change the bytecode too, so a pickle adds no risk; Lark's own cache is in a folder for all.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import sys
from pathlib import Path

import lark

_HERE = Path(__file__).parent
_OPTIONS = {"parser": "lalr", "propagate_positions": True}


@functools.cache
def parser() -> lark.Lark:
    """The parser, made once a process."""
    installed, checkout = _HERE / "tower.lark", _HERE.parent.parent / "grammar" / "tower.lark"
    grammar = (installed if installed.is_file() else checkout).read_text(encoding="utf-8")
    made_of = f"{lark.__version__} {_OPTIONS}\n{grammar}\0".encode()
    kept = _kept()
    found = _load(kept, made_of) if kept else None
    if found is None:
        found = lark.Lark(grammar, **_OPTIONS)
        if kept and not sys.dont_write_bytecode:
            _keep(found, kept, made_of)
    return found


def _kept() -> Path | None:
    """Where the tables are kept, by version of Python; none where it keeps no bytecode."""
    bytecode = __spec__.cached if __spec__ else None
    return Path(bytecode).with_suffix(".tables") if bytecode else None


def _load(kept: Path, made_of: bytes) -> lark.Lark | None:
    try:
        with kept.open("rb") as file:
            return lark.Lark.load(file) if file.read(len(made_of)) == made_of else None
    except (OSError, EOFError, pickle.UnpicklingError):
        return None


def _keep(made: lark.Lark, kept: Path, made_of: bytes) -> None:
    fresh = kept.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):  # where it can't be written, the next process makes them again
        try:
            with fresh.open("wb") as file:
                file.write(made_of)
                made.save(file)
            fresh.replace(kept)
        finally:
            fresh.unlink(missing_ok=True)
