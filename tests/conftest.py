"""Options and fixtures of all tests."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
collect_ignore = ["golden"]  # generated sources, to compare with


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--refresh", action="store_true", help="rewrite expected outputs with what comes out now")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(5400))


@pytest.fixture
def refresh(request: pytest.FixtureRequest) -> bool:
    """Whether expected outputs are to be rewritten."""
    return bool(request.config.getoption("--refresh"))


def built(source: Path, name: str) -> Path:
    """A folder's C++ program, built by CMake against the installed torch; tests that run at once build it once."""
    if not any(shutil.which(name) for name in ("c++", "g++", "clang++")):
        pytest.skip("there is no C++ compiler")
    folder = ROOT / "build" / name
    folder.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        prefix = f"-DCMAKE_PREFIX_PATH={torch.utils.cmake_prefix_path}"
        for command in (["cmake", "-S", source, "-B", folder, prefix], ["cmake", "--build", folder]):
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="session")
def cpp_program() -> Path:
    """The C++ reader's example program."""
    return built(ROOT / "cpp", "cpp") / "towerspec_score"
