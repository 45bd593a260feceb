"""What a build's files hold before they are written: small ones in memory, large ones on the disk, and mapped."""

from __future__ import annotations

import hashlib
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Union

from towerspec.diagnostics import Diagnostic, SpecError

Content = Union[bytes, mmap.mmap]
LARGE = 2**28  # bytes from which a file isn't copied into memory


def read(path: Path) -> Content:
    """A file's content, which stays as it is when the file is removed."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size < LARGE:
            return file.read()
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


@contextmanager
def room_for(size: int) -> Iterator[Path]:
    """A temporary folder for a file of so many bytes. Raises `SpecError` (T608) where there is too little room."""
    with tempfile.TemporaryDirectory() as name:
        free = shutil.disk_usage(name).free
        if free < size:
            raise SpecError(
                Diagnostic(
                    "T608",
                    f"a file of {size:,} bytes can't be written to the temporary folder `{tempfile.gettempdir()}`",
                    notes=(f"{free:,} bytes are free there",),
                    help="let `TMPDIR` name a folder with more room",
                )
            )
        yield Path(name)


def digest(content: Content) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()
