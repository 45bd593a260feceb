"""What ran a measurement: processor, versions, and how busy it was."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch

from towerspec import __version__


def processor() -> str:
    """The processor's name and the instruction sets that matter for products."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    flags = [f for f in ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16") if f in fields.get("flags", "")]
    family = f"family {fields.get('cpu family', '?')} model {fields.get('model', '?')}"
    return f"{fields.get('model name', platform.machine())} ({family}; {', '.join(flags)})"


def machine() -> dict[str, Any]:
    """The machine in words, for the head of every result."""
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "towerspec": __version__,
        "load": round(os.getloadavg()[0], 1),
    }


def peak_mib() -> float:
    """The most memory this process has held resident, in MiB."""
    return _status("VmHWM")


def resident_mib() -> float:
    """The memory this process holds resident now, in MiB."""
    return _status("VmRSS")


def _status(key: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    return float("nan")
