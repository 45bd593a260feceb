"""Files of a run, each written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Has `write` make a file beside the path, then puts it there at once; a kill leaves the old file, or none.

    Raises:
        OSError: the system doesn't let us, or the disk is full.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(fresh)
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        fresh.replace(path)
    except (RuntimeError, SafetensorError) as error:  # what torch and safetensors make of a full disk
        raise OSError(errno.EIO, str(error).split("\n")[0], str(path)) from error
    finally:
        with contextlib.suppress(OSError):  # there may not even be a folder
            fresh.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """A text file, whole."""
    write_whole(path, lambda fresh: fresh.write_text(text, encoding="utf-8"))


def write_weights(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """A safetensors file, whole; names in order, so that the same tensors give the same bytes."""
    from safetensors.torch import save_file

    held = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    write_whole(path, lambda fresh: save_file(held, fresh))
