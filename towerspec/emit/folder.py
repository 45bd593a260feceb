"""A build's folder: written whole or not at all, in place of the one before it.

No file is ever changed in place: whoever has opened the build before keeps it as it was.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
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
    """Writes all files beside the target, then puts the folder in its place at once.

    The files are on the disk before that, so that a crash of the machine, too, leaves one of the two builds whole.
    Raises `SpecError` (T608) where the system refuses, as a full disk does.
    """
    out = out.resolve()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with _workplace(out) as fresh:
            for name, content in files.items():
                _write(fresh / name, content)
            for folder in {fresh, *((fresh / name).parent for name in files)}:
                _settle(folder)
            fresh.chmod(0o755)
            check_target(out)  # once more: a compile takes a while
            _swap(fresh, out)
            _settle(out.parent)
    except OSError as error:
        raise _unwritable(out, error.strerror or str(error)) from error


def _write(path: Path, content: Content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _settle(folder: Path) -> None:
    """Puts a folder's list of files on the disk, where the file system can be asked to."""
    with _opened(folder) as descriptor:
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _workplace(out: Path) -> Iterator[Path]:
    """A new folder beside `out`, removed at the end with what is in it then.

    Its owner holds a lock on it, which the system lifts when the owner ends, however it does: a folder that can be
    locked is one that a killed compile has left.
    """
    _clear(out)
    with contextlib.ExitStack() as held:
        fresh = None
        while fresh is None:
            fresh = _claim(Path(tempfile.mkdtemp(prefix=_prefix(out), dir=out.parent)), held)
        yield fresh


def _claim(fresh: Path, held: contextlib.ExitStack) -> Path | None:
    """The folder, locked; none where another compile has taken it for left, since it wasn't locked yet."""
    try:
        descriptor = held.enter_context(_opened(fresh))
        _lock(descriptor, fcntl.LOCK_EX)
        if not os.path.samestat(os.fstat(descriptor), fresh.stat()):
            return None
    except FileNotFoundError:
        return None
    held.callback(shutil.rmtree, fresh, ignore_errors=True)
    return fresh


def _prefix(out: Path) -> str:
    return f".{out.name}.towerspec-"


def _lock(descriptor: int, how: int) -> bool:
    """Whether a lock was had; a file system may have none, and then nothing that was left can be told from the rest."""
    try:
        fcntl.flock(descriptor, how)
    except OSError:
        return False
    return True


def _clear(out: Path) -> None:
    """Removes what killed compiles have left; a build that one of them had moved aside comes back to its place."""
    left = re.compile(re.escape(_prefix(out)) + r"\w{8}(\.old)?")
    for path in out.parent.iterdir():
        if not left.fullmatch(path.name) or path.is_symlink():
            continue
        with contextlib.suppress(OSError), _opened(path) as descriptor:  # another compile may remove it at once
            if not _lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB):
                continue
            if path.suffix == ".old" and not out.exists():
                path.rename(out)
            else:
                shutil.rmtree(path, ignore_errors=True)


def _swap(fresh: Path, out: Path) -> None:
    """Moves the new folder to its place; where an old one stands there, the two change places in one step."""
    try:
        fresh.rename(out)  # where none stands there, or an empty one
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        if not _exchange(fresh, out):
            old = fresh.with_name(f"{fresh.name}.old")
            with _opened(out) as descriptor:
                _lock(descriptor, fcntl.LOCK_EX)  # so that no other compile puts it back
                out.rename(old)
                fresh.rename(out)
                shutil.rmtree(old, ignore_errors=True)


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
