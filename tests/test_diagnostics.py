"""Every mistake in `tests/diagnostics` gives exactly the text beside it; `pytest --refresh` rewrites the texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from towerspec.check import check
from towerspec.diagnostics import SpecError, render

FOLDER = Path(__file__).parent / "diagnostics"
CASES = sorted(p.stem if p.suffix else p.name for p in FOLDER.iterdir() if p.suffix == ".tower" or p.is_dir())


def diagnose(case: str, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], str]:
    monkeypatch.chdir(FOLDER)
    folder = Path(case)
    try:
        found = list(check(folder / "main.tower" if folder.is_dir() else f"{case}.tower").report)
    except SpecError as error:
        found = list(error.diagnostics)
    return [d.code for d in found], "\n\n".join(render(d) for d in found) + "\n"


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_gives_its_text(case: str, refresh: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    codes, text = diagnose(case, monkeypatch)
    expected = FOLDER / f"{case}.txt"
    if refresh:
        expected.write_text(text, encoding="utf-8")
    assert text == expected.read_text(encoding="utf-8")
    if case[0] == "T":
        assert set(codes) == {case.split("_")[0]}, "a mistake brings no others with it"
