"""A build's folder: written whole or not at all, in place of the one before it."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from towerspec.diagnostics import Diagnostic, SpecError
from towerspec.emit.contents import Content


def check_target(out: Path) -> None:
    """Raises `SpecError` (T608) where `out` can't be written: only a build or an empty folder is replaced."""
    if out.is_symlink() or out.exists():
        if not out.is_dir():
            raise _unwritable(out, "it is not a folder")
        if any(out.iterdir()) and not (out / "manifest.json").is_file():
            raise _unwritable(out, "it holds other files and no build")
    parent = out.resolve().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise _unwritable(out, f"`{parent}` can't be written to")


def _unwritable(out: Path, why: str) -> SpecError:
    return SpecError(
        Diagnostic("T608", f"the build can't be written to `{out}`: {why}", help="give another folder with `-o`")
    )


def write(out: Path, files: Mapping[str, Content]) -> None:
    """Writes all files beside the target, then puts the folder in its place at once."""
    out = out.resolve()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise _unwritable(out, error.strerror or str(error)) from error
    try:
        for name, content in files.items():
            path = fresh / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        fresh.chmod(0o755)
        _swap(fresh, out)
    except OSError as error:
        raise _unwritable(out, error.strerror or str(error)) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _swap(fresh: Path, out: Path) -> None:
    """Moves the new folder to its place; where an old one stands there, the two change places in one step."""
    if not out.exists():
        fresh.rename(out)
    elif not _exchange(fresh, out):
        old = fresh.with_name(f"{fresh.name}.old")
        out.rename(old)
        fresh.rename(out)
        shutil.rmtree(old)


def _exchange(a: Path, b: Path) -> bool:
    """Linux's renameat2 with RENAME_EXCHANGE; false where the system has none."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if renameat2(here, os.fsencode(a), here, os.fsencode(b), exchange) == 0:
        return True
    if ctypes.get_errno() in (errno.ENOSYS, errno.EINVAL):
        return False
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
