"""The kept tables: the trees that freshly made ones give, and made anew where they are missing, old or broken."""

from __future__ import annotations

import sys
from pathlib import Path

import lark
import pytest

from towerspec.syntax import grammar

SPECS = sorted((Path(__file__).parent.parent.parent / "specs").glob("*.tower"))


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's tables go."""
    monkeypatch.setattr(grammar, "_kept", lambda: tmp_path / "tables")
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    return tmp_path / "tables"


def again() -> lark.Lark:
    """The parser as the next process makes it."""
    grammar.parser.cache_clear()
    return grammar.parser()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The grammars that tables are computed from."""
    found: list[str] = []
    init = lark.Lark.__init__

    def noting(self: lark.Lark, text: str, **options: object) -> None:
        found.append(text)
        init(self, text, **options)

    monkeypatch.setattr(lark.Lark, "__init__", noting)
    return found


@pytest.mark.parametrize("spec", SPECS, ids=lambda p: p.stem)
def test_kept_tables_read_a_spec_as_fresh_ones_do(spec: Path, kept: Path, made: list[str]) -> None:
    text = spec.read_text(encoding="utf-8")
    fresh = again().parse(text)
    found = again().parse(text)
    assert found == fresh
    assert [(t.meta.start_pos, t.meta.end_pos) for t in found.iter_subtrees() if not t.meta.empty] == [
        (t.meta.start_pos, t.meta.end_pos) for t in fresh.iter_subtrees() if not t.meta.empty
    ]
    assert len(made) == 1
    assert [p.name for p in kept.parent.iterdir()] == ["tables"]


def test_tables_of_another_lark_or_grammar_are_made_anew(
    kept: Path, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    again()
    monkeypatch.setattr(lark, "__version__", "0.0")
    again()
    assert len(made) == 2
    monkeypatch.setitem(grammar._OPTIONS, "maybe_placeholders", True)
    again()
    assert len(made) == 3
    kept.write_bytes(kept.read_bytes().replace(b"surface", b"surfaces", 1))
    again()
    assert len(made) == 4
    again()
    assert len(made) == 4


@pytest.mark.parametrize("size", [0, 10, -1000, -1])
def test_a_cut_file_is_made_anew(kept: Path, made: list[str], size: int) -> None:
    again()
    kept.write_bytes(kept.read_bytes()[:size])
    again()
    again()
    assert len(made) == 2


def test_nothing_is_written_where_bytecode_is_not(kept: Path, made: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    again()
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(grammar, "_kept", lambda: kept / "no" / "folder")
    again()
    monkeypatch.setattr(grammar, "_kept", lambda: None)
    again()
    assert len(made) == 3
    assert not kept.exists()
