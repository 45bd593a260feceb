"""The wheel, installed into an environment of its own and used from another folder, with no checkout in reach."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", out, ROOT]
    subprocess.run(command, check=True, capture_output=True)
    (made,) = out.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def program(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command in a fresh environment that holds the wheel; what it depends on is lent by this one."""
    home = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", home], check=True, capture_output=True)
    python = home / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", wheel], check=True, capture_output=True)
    (site,) = (home / "lib").glob("python*/site-packages")
    (site / "lent.pth").write_text(
        sysconfig.get_paths()["purelib"]
    )  # its own .pth files, and so the checkout, stay out
    where = [python, "-c", "import towerspec; print(towerspec.__file__)"]
    found = subprocess.run(where, check=True, capture_output=True, text=True, cwd=home).stdout
    assert found.startswith(str(site))
    return home / "bin" / "towerspec"


def test_it_asks_for_six_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (archive.read(n).decode() for n in archive.namelist() if n.endswith("/METADATA"))
        names = archive.namelist()
    needed = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert sorted(re.split("[<>=!~]", line.split()[1])[0] for line in needed) == [
        "click", "jinja2", "lark", "networkx", "pydantic", "torch"
    ]  # fmt: skip
    assert "Requires-Python: >=3.10" in metadata
    assert {name.split("/")[0] for name in names} == {"towerspec", f"towerspec-{wheel.name.split('-')[1]}.dist-info"}
    for name in (
        "syntax/tower.lark",
        "starter.tower",
        "py.typed",
        "emit/templates/module.py.j2",
        "explanations/T203.md",
    ):
        assert f"towerspec/{name}" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_every_verb_works_from_another_folder(program: Path, tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}

    def run(*words: str) -> str:
        done = subprocess.run([program, *words], cwd=tmp_path, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    assert "wrote model.tower" in run("init")
    assert "is sound" in run("check", "model.tower")
    assert run("fmt", "--check", "model.tower") == ""
    assert "T203" in run("explain", "T203")
    assert "FLOPs/candidate" in run("explain", "model.tower")
    assert run("graph", "model.tower").lstrip().startswith("<svg")
    assert "equals the float64 reference" in run("compile", "model.tower", "-o", "build")
    score = (
        "import towerspec; s = next(iter(towerspec.load('build').surfaces.values())); "
        "print({k: tuple(v.shape) for k, v in s(s.sample_inputs(candidates=3)).items()})"
    )
    python = program.parent / "python"
    done = subprocess.run([python, "-c", score], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert "(3,)" in done.stdout, done.stderr
