"""A measurement in a process of its own: fresh memory, its own number of threads, nothing warm."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def apart(module: str, *arguments: object) -> Any:
    """What `python -m benchmarks.MODULE ARGUMENTS` prints as its last line, a JSON value."""
    command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.{module}", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])
