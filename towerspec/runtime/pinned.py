"""A build's files, pinned: they stay as they were opened, whatever becomes of the folder."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import mmap
import os
import stat
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, TypeVar

from towerspec.diagnostics import Diagnostic, SpecError

MANIFEST = "manifest.json"
TRIES = 100  # of opening a build while others are put in its place
_CHUNK = 1 << 28  # bytes; a single write takes less than 2 GiB
_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe would wait for its other end
Parsed = TypeVar("Parsed")


class Unreadable(Exception):
    """Why a file of a build can't be read."""


def no_build(folder: Path, why: str, help: str = "make one with `towerspec compile`") -> SpecError:
    """The error of a folder that holds no usable build, T701."""
    return SpecError(Diagnostic("T701", f"`{folder}` holds no usable build: {why}", help=help))


class Mapped:
    """A file's bytes, mapped: they outlive its name, and take neither a descriptor nor memory until they are read."""

    def __init__(self, descriptor: int) -> None:
        self._size = os.fstat(descriptor).st_size
        self._address = _map(descriptor, self._size) if self._size else 0
        if self._size:
            weakref.finalize(self, _libc().munmap, self._address, self._size).atexit = False

    def copy(self, file: IO[bytes]) -> None:
        """Writes the bytes to a file; raises `OSError`.

        The system reads them and not this process, which would end with SIGBUS where the file was cut short.
        """
        if self._size:
            view = memoryview((ctypes.c_char * self._size).from_address(self._address))
            done = 0
            while done < self._size:
                done += os.write(file.fileno(), view[done : done + _CHUNK])

    def content(self) -> bytes:
        """A copy of the bytes, which no one can change; raises `OSError`."""
        with _private_file() as file:
            self.copy(file)
            file.seek(0)
            return file.read()


def _map(descriptor: int, size: int) -> int:
    """Python's own `mmap` keeps a descriptor for each file, and a build may have more files than a process may open."""
    address = _libc().mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
    if address in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(address)


@functools.cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    numbers = (ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_ssize_t)
    libc.mmap.argtypes, libc.mmap.restype = (ctypes.c_void_p, ctypes.c_size_t, *numbers), ctypes.c_void_p
    libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    return libc


def _private_file() -> IO[bytes]:
    """A file without a name, in memory where the system has such."""
    if sys.platform == "linux":
        return open(os.memfd_create("towerspec"), "w+b", buffering=0)
    return tempfile.TemporaryFile(buffering=0)


class Folder:
    """An open folder: its files are found beneath it alone, also when another folder has taken its path."""

    def __init__(self, path: Path) -> None:
        """Raises `OSError` where there is none."""
        self.path = path
        self._folders = {"": os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)}

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._folders.values():
            os.close(descriptor)

    def map(self, name: str) -> Mapped:
        """A regular file by its path within the folder, which no link is part of. Raises `Unreadable`."""
        parts = name.split("/")
        if any(part in ("", ".", "..") for part in parts):
            raise Unreadable(f"`{name}` is no path within the build")
        try:
            descriptor = os.open(parts[-1], _OPEN, dir_fd=self._within(parts[:-1]))
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise Unreadable(f"`{name}` is no regular file")
                return Mapped(descriptor)
            finally:
                os.close(descriptor)
        except (OSError, ValueError) as error:  # a name that no file can have gives a ValueError
            raise Unreadable(f"`{name}` {self._why(parts)}") from error

    def replaced(self) -> bool:
        """Whether another folder, or none, is at the path by now."""
        try:
            return not os.path.samestat(os.stat(self.path), os.fstat(self._folders[""]))
        except OSError:
            return True

    def _within(self, parts: list[str]) -> int:
        at = ""
        for part in parts:
            above, at = at, f"{at}/{part}"
            if at not in self._folders:
                self._folders[at] = os.open(part, _OPEN | os.O_DIRECTORY, dir_fd=self._folders[above])
        return self._folders[at]

    def _why(self, parts: list[str]) -> str:
        """Without the system's words for a link, which speak of loops, or of what is no folder."""
        above = (os.path.join(self.path, *parts[:i]) for i in range(1, len(parts) + 1))
        if any(map(os.path.islink, above)):
            return "is or lies behind a link, and a build's files are its own"
        return "can't be read"


class Pinned:
    """The files of one build, held as they were when it was opened."""

    def __init__(self, folder: Path, files: Mapping[str, Mapped | Unreadable]) -> None:
        self.folder, self._files = folder, files

    def read(self, name: str, sha256: str | None) -> bytes:
        """A file's bytes, if they are those that the manifest names. Raises `SpecError` (T701)."""
        file = self._files[name]
        if isinstance(file, Unreadable):
            raise no_build(self.folder, str(file)) from file
        try:
            content = file.content()
        except OSError as error:
            raise no_build(self.folder, f"`{name}` can't be read: {error.strerror}") from error
        if hashlib.sha256(content).hexdigest() != sha256:
            raise no_build(self.folder, f"`{name}` is not the file that the manifest names")
        return content


def pin(
    folder: Path, parse: Callable[[bytes], Parsed], files_of: Callable[[Parsed], Iterable[str]]
) -> tuple[Parsed, Pinned]:
    """A build's manifest, as `parse` reads it, and the files that `files_of` names, all of one build.

    A build that is replaced meanwhile loses its files: then the one in its place is opened. A file that can't be
    opened is no error until it is read. Raises `SpecError` (T701), and what `parse` raises.
    """
    for _ in range(TRIES):
        try:
            opened = Folder(folder)
        except (OSError, ValueError) as error:
            raise no_build(folder, f"it has no {MANIFEST}") from error
        with opened:
            try:
                content = opened.map(MANIFEST).content()
            except (OSError, Unreadable) as error:
                if opened.replaced():
                    continue
                missing = isinstance(error.__cause__, FileNotFoundError)
                raise no_build(folder, f"it has no {MANIFEST}" if missing else str(error)) from error
            manifest = parse(content)
            files = {name: _mapped(opened, name) for name in files_of(manifest)}
            if not any(isinstance(file, Unreadable) for file in files.values()) or not opened.replaced():
                return manifest, Pinned(folder, files)
    raise no_build(folder, f"it was replaced {TRIES} times while it was opened", "load it again")


def _mapped(folder: Folder, name: str) -> Mapped | Unreadable:
    try:
        return folder.map(name)
    except Unreadable as error:
        return error
