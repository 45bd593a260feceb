"""Which kinds of CPU `-O3` tells apart, and which of them this machine is."""

from __future__ import annotations

import functools
import re
from pathlib import Path

# The best first: each with the instructions, in Linux's names, that a CPU of it has.
KINDS: dict[str, frozenset[str]] = {
    "amx": frozenset({"amx_tile", "amx_bf16", "avx512bw", "avx512vl", "avx512dq"}),
    # `sse4a` is AMD's alone: on Intel's CPUs, bfloat16 without tiles takes longer than float32 does.
    "avx512_bf16": frozenset({"avx512_bf16", "sse4a", "avx512bw", "avx512vl", "avx512dq"}),
    "avx512_vnni": frozenset({"avx512_vnni", "avx512bw", "avx512vl", "avx512dq"}),
    "any": frozenset(),
}
_CPUINFO = Path("/proc/cpuinfo")


def kind_of(cpuinfo: str) -> str:
    """The best kind that a CPU is, from Linux's description of it.

    >>> kind_of("model name: some\\nflags\\t\\t: fpu sse avx512bw avx512vl avx512dq avx512_vnni")
    'avx512_vnni'
    """
    line = re.search(r"^flags\s*:(.*)$", cpuinfo, re.M)
    has = set(line[1].split()) if line else set()
    return next(kind for kind, needs in KINDS.items() if needs <= has)


@functools.cache
def this_cpu() -> str:
    """This machine's kind; `any` where the system doesn't say."""
    try:
        return kind_of(_CPUINFO.read_text(encoding="ascii", errors="replace"))
    except OSError:
        return "any"
