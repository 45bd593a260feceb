"""Requests to the C++ reader under AddressSanitizer: hostile JSON texts, safetensors files and builds."""

from __future__ import annotations

import functools
import json
import math
import os
import selectors
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors.torch import save

from tests.fuzz.builds import ODD, copy, sound, spoil
from tests.fuzz.draw import Draw
from tests.fuzz.inputs import draw_call
from tests.fuzz.mutate import ROOT
from tests.fuzz.requests import bundle
from tests.fuzz.workers import Result

SECONDS = 60.0  # for one answer
FOLDER = ROOT / "build" / "fuzz-cpp"
PROJECT = """cmake_minimum_required(VERSION 3.24)
project(fuzz LANGUAGES CXX)
add_subdirectory("${TOWERSPEC}/cpp" towerspec)
add_executable(serve "${TOWERSPEC}/tests/fuzz/serve.cpp")
target_link_libraries(serve PRIVATE towerspec::towerspec)
target_compile_options(serve PRIVATE -fsanitize=address -fno-omit-frame-pointer -g1 -O1)
target_link_options(serve PRIVATE -fsanitize=address)
"""


def program() -> Path:
    """The program that answers, built where it isn't yet."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    lists = FOLDER / "CMakeLists.txt"
    if not lists.is_file() or lists.read_text() != PROJECT:
        lists.write_text(PROJECT)
    prefix = f"-DCMAKE_PREFIX_PATH={torch.utils.cmake_prefix_path}"
    cmake = shutil.which("cmake") or "cmake"
    for command in (
        [cmake, "-S", FOLDER, "-B", FOLDER / "build", prefix, f"-DTOWERSPEC={ROOT}"],
        [cmake, "--build", FOLDER / "build"],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)
    return FOLDER / "build" / "serve"


class Server:
    """The program as a process: it is started again after it has died."""

    def __init__(self) -> None:
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        # Torch's own allocations at exit are no leaks of ours; what is too large to allocate is an error to be caught.
        options = "detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=4096:detect_container_overflow=0"
        self.process = subprocess.Popen(
            [program()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, bufsize=1,
            env={**os.environ, "ASAN_OPTIONS": options, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def ask(self, build: Path, surface: str, file: Path | None) -> str:
        """What it says of a request; `died` with its last words, or `hangs`."""
        assert self.process.stdin
        assert self.process.stdout
        try:
            print(build, surface, file or "", sep="\t", file=self.process.stdin, flush=True)
        except BrokenPipeError:
            return self._died()
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if not selector.select(timeout=SECONDS):
                self.process.kill()
                return f"hangs: no answer in {SECONDS:g} seconds"
        return self.process.stdout.readline().strip() or self._died()

    def _died(self) -> str:
        code = self.process.wait()
        self.errors.seek(0)
        lines = [line for line in self.errors.read().decode(errors="replace").splitlines() if line.strip()]
        shown = [line for line in lines if "ERROR" in line or line.strip().startswith("#")][:12] or lines[-5:]
        return "\n".join([f"died: exit code {code}", *shown])


@functools.cache
def _servers() -> list[Server]:
    return []


def _server() -> Server:
    servers = _servers()
    if not servers or servers[0].process.poll() is not None:
        servers[:] = [Server()]
    return servers[0]


def asked(seed: int) -> Result:
    """One hostile request, or one spoilt build."""
    random = Random(seed)
    with tempfile.TemporaryDirectory(prefix="towerspec-cpp-") as name:
        folder = Path(name)
        surface = random.choice(["both", "items"])
        kind = random.choice(["json", "json", "safetensors", "build"])
        build, how = sound(), kind
        content = _json(random, surface) if kind != "safetensors" else _safetensors(random, surface)
        if kind == "build":
            build = copy(folder)
            how = f"build: {spoil(random, build)}"
            content = json.dumps(_request(random, surface)).encode()
        file = folder / f"inputs.{'safetensors' if kind == 'safetensors' else 'json'}"
        file.write_bytes(content)
        said = _server().ask(build, surface, file)
        if not said.startswith(("ok", "refused")):
            shown = (
                content.decode("latin-1") if kind != "build" else (build / "manifest.json").read_text(errors="replace")
            )
            return Result(
                seed, f"c++: {kind}: {said.splitlines()[0].split(':')[0][:60]}", f"{how}\n{said}\n{shown[:3000]}"
            )
    return Result(
        seed, "ok", note=f"{how.split(':')[0]} {' '.join(said.split()[: 2 if said.startswith('refused') else 1])}"
    )


def _request(random: Random, surface: str) -> dict[str, Any]:
    """A valid request as JSON has it."""
    call = draw_call(Draw(random.random()), bundle().surfaces[surface].inputs, wild=False)
    return {k: _plain(x.tolist()) for k, x in call.inputs.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# ---- JSON ------------------------------------------------------------------------------------

WORDS = (
    b"{", b"}", b"[", b"]", b",", b":", b'"', b"null", b"true", b"1e999", b"-1e999", b"1e999-5", b"01", b".5", b"-",
    b"-0", b"1.", b"1e", b"NaN", b"Infinity", b"\\ud800", b'"\\ud800\\ud800"', b'"\\u0000"', b"\x00", b"\xff\xfe",
    b"\xc0\xaf", b"9" * 400, b"0." + b"0" * 400 + b"1", b"1e-400", b"9223372036854775808", b"-9223372036854775809",
    b"18446744073709551616", b"[" * 2000, b"{\"a\":" * 500, b"[[[[[1]]]]]", b"/* */", b"'", b"\xef\xbb\xbf", b"1e400",
    b'"candidates_per_request"', b"[4611686018427387904]", b'"' + b"x" * 5000 + b'"', b"\n\t\r ", b"[[],[]]", b"{}",
)  # fmt: skip


def _json(random: Random, surface: str) -> bytes:
    document: Any = _request(random, surface)
    if random.random() < 0.4:
        name = random.choice(list(document))
        document[name] = random.choice([*ODD[:-1], [random.choice(ODD[:-1])] * 3, [[]] * 4, document[name] * 3])
    content = bytearray(json.dumps(document).encode())
    for _ in range(random.choice([0, 1, 1, 2, 6])):
        at, end = sorted(random.randrange(len(content) + 1) for _ in range(2))
        random.choice(
            [
                lambda at, end: content.__setitem__(slice(at, at + 1), random.choice(WORDS)),
                lambda at, end: content.__setitem__(slice(at, at), random.choice(WORDS)),
                lambda at, end: content.__delitem__(slice(at, min(end, at + 20))),
                lambda at, end: content.__delitem__(slice(end, None)),
                lambda at, end: content.__setitem__(slice(at, at), content[at:end][:2000]),
            ]
        )(at, end)
    return bytes(content)


# ---- safetensors -----------------------------------------------------------------------------

SIZES = (-1, 0, 1, 2, 3, 2**31, 2**62, 2**63 - 1, 2**64, -(2**63), 1.5, "1", None)
DTYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "U16", "U32", "U64", "BOOL", "F8_E5M2", "", 3)


def _safetensors(random: Random, surface: str) -> bytes:
    call = draw_call(Draw(random.random()), bundle().surfaces[surface].inputs, wild=False)
    content = save({k: x.contiguous() for k, x in call.inputs.items()})
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    for _ in range(random.choice([1, 1, 2, 4])):
        _spoil_entry(random, header, len(data))
    text = json.dumps(header).encode()
    if random.random() < 0.2:
        text = text[: random.randrange(len(text))]
    sizes = (len(text), len(text), len(text), len(text), 2**64 - 1, 2**63, len(text) + len(data) + 1, 0, len(text) - 1)
    made = struct.pack("<Q", max(0, random.choice(sizes))) + text + data
    return made[: random.randrange(len(made) + 1)] if random.random() < 0.15 else made


def _spoil_entry(random: Random, header: dict[str, Any], size: int) -> None:
    name = random.choice(list(header)) if header else "x"
    entry = header.get(name)
    if not isinstance(entry, dict) or not {"shape", "dtype", "data_offsets"} <= set(entry):
        return
    ways: list[Callable[[], None]] = [
        lambda: entry.update(shape=[random.choice(SIZES) for _ in range(random.randint(0, 4))]),
        lambda: entry["shape"].append(random.choice(SIZES)) if isinstance(entry["shape"], list) else None,
        lambda: entry.update(
            data_offsets=[random.choice([*SIZES, size, size + 1]) for _ in range(random.choice([1, 2, 2, 2, 3]))]
        ),
        lambda: entry.update(dtype=random.choice(DTYPES)),
        lambda: entry.pop(random.choice(list(entry))) and None,
        lambda: header.update({name: random.choice(ODD)}),
        lambda: header.update({random.choice(["__metadata__", "candidates_per_request", "", "x"]): dict(entry)}),
        lambda: header.pop(name) and None,
    ]
    random.choice(ways)()
