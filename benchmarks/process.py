"""A measurement in a process of its own: fresh memory, its own number of threads, nothing warm."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parent.parent


def apart(module: str, *arguments: object, environment: Mapping[str, str] = os.environ) -> Any:
    """What `python -m benchmarks.MODULE ARGUMENTS` prints as its last line, a JSON value."""
    command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.{module}", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def cpp_program(name: str) -> Path | None:
    """One of the C++ programs of `benchmarks/cpp`, built; none without a compiler."""
    if not (shutil.which("cmake") and any(shutil.which(name) for name in ("c++", "g++", "clang++"))):
        return None
    folder = ROOT / "build" / "benchmarks"
    prefix = f"-DCMAKE_PREFIX_PATH={torch.utils.cmake_prefix_path}"
    configure = ["cmake", "-S", ROOT / "benchmarks" / "cpp", "-B", folder, "-DCMAKE_BUILD_TYPE=Release", prefix]
    for command in (configure, ["cmake", "--build", folder, "--target", name]):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / name
