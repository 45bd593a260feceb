"""One grammar of JSON in Python and C++: the same values, bit for bit, or the same words at the same byte."""

from __future__ import annotations

import json
import math
import re
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from towerspec.diagnostics import SpecError
from towerspec.runtime import read_inputs
from towerspec.runtime.json_text import DEEPEST, Malformed, parse

from .conftest import Answers, Documented, said
from .test_values import NEUTRAL

GOOD: list[tuple[bytes, Any]] = [
    (b"null", None),
    (b" [ ] ", []),
    (b"{}", {}),
    (b'{"a": {"a": 1}}', {"a": {"a": 1}}),
    (b"[true,\tfalse\r\n]", [True, False]),
    (b"0", 0),
    (b"-0", -0.0),
    (b"-0.0", -0.0),
    (b"[1, -0]", [1, -0.0]),
    (b"1E+2", 100.0),
    (b"1e-999", 0.0),
    (b"-1e-999", -0.0),
    (b"5e-324", 5e-324),
    (b"0." + b"0" * 400, 0.0),
    (b"0." + b"0" * 400 + b"1", 0.0),
    (b"0." + b"0" * 400 + b"1e400", 0.1),
    (b"1" + b"0" * 309 + b"e-9", 1e300),
    (b"0e999999999999999999999", 0.0),
    (b"1e-999999999999999999999", 0.0),
    (b"9007199254740993", 9007199254740993),
    (b"123456789012345678901234567890", 123456789012345678901234567890),
    (b"1.7976931348623158e308", 1.7976931348623157e308),
    (b"2.2250738585072011e-308", 2.2250738585072011e-308),
    (b'"\\u00e9\\"\\\\\\/\\b\\f\\n\\r\\t\\u0000"', 'é"\\/\b\f\n\r\t\0'),
    (b'"\\uD83D\\uDE00"', "😀"),
    (b'"\\udbff\\udfff"', "\U0010ffff"),
    ('"é\U0010ffff\x7f"'.encode(), "é\U0010ffff\x7f"),
]
SURROGATES = ["\\ud83d", "\\udc00", "\\ud83d\\u0041", "\\ud83d\\ud83d", "\\ud83dA", "\\udc00\\ud83d", "\\ud83d\\n"]
NO_UTF8 = [
    "ff",
    "80",
    "c080",
    "c1bf",
    "e08080",
    "eda080",
    "f0808080",
    "f4908080",
    "f5808080",
    "c3",
    "e282",
    "f09f98",
    "e228a1",
]
BAD: list[tuple[str, int, list[bytes]]] = [  # what is wrong, and at which byte of which texts
    ("a value was expected", 0, [b"", b"\0", b"\xef\xbb\xbf1", b"NaN", b"'a'", b"tru", b"/**/1", b"\xc2\xa01", b"]"]),
    ("a value was expected", 1, [b"[,1]", b"[Infinity]", b" "]),
    ("a value was expected", 3, [b"[1,]", b"[1,"]),
    ("a value was expected", 5, [b'{"a":}']),
    ("`,` or `]` was expected", 3, [b"[1 2]", b"[1 }"]),
    ("`,` or `]` was expected", 5, [b"[truex]"]),
    ("`:` was expected", 5, [b'{"a" 1}']),
    ("`:` was expected", 4, [b'{"a"']),
    ("`,` or `}` was expected", 7, [b'{"a":1 "b":2}', b'{"a":1 ']),
    ("a name was expected", 1, [b"{a:1}", b"{1:1}", b"{"]),
    ("a name was expected", 7, [b'{"a":1,}']),
    ("a name is there twice", 7, [b'{"a":1,"\\u0061":2}']),
    ("a name is there twice", 8, [b'{"\xc3\xa9":1,"\xc3\xa9":2}']),
    ("there is more after the value", 4, [b"[1] 2", b"null1"]),
    ("there is more after the value", 1, [b"1\0"]),
    ("a number is not written as JSON has it", 0, [b"01", b".5", b"+1", b"-", b"-01", b"1.", b"1.e5", b"1e", b"1e+"]),
    ("a number is not written as JSON has it", 0, [b"1e5.5", b"1e999-5", b"--1", b"1-1", b"-Infinity", b"0e"]),
    ("a number is too large", 0, [b"-1e309", b"1" + b"0" * 400, b"1e999999999999999999999", b"0.0000001e400"]),
    ("a number is too large", 0, [b"1.7976931348623159e308"]),
    ("a number is too large", 4, [b"[1, " + b"9" * 5000 + b"]", b"[1, 1e999]"]),
    ("a text is not closed", 2, [b'"a']),
    ("a text is not closed", 1, [b'"']),
    ("a control character stands in a text", 2, [b'"a\nb"', b'"a\x1f"']),
    ("an escape is unknown", 1, [b'"\\x41"', b'"\\', b'"\\U0041"']),
    ("four hexadecimal digits were expected", 1, [b'"\\u12g4"', b'"\\u+123"', b'"\\u12']),
    ("four hexadecimal digits were expected", 7, [b'"\\ud83d\\u12"']),
    ("half of a surrogate pair stands alone", 1, [f'"{half}"'.encode() for half in SURROGATES]),
    ("the text is not UTF-8", 2, [b'"a' + bytes.fromhex(part) + b'"' for part in NO_UTF8]),
    ("brackets are nested too deeply", DEEPEST, [b"[" * (DEEPEST + 1), b"[" * 100_000]),
    ("brackets are nested too deeply", 5 * DEEPEST, [b'{"a":' * 100_000]),
]


def shown(value: Any) -> Any:
    """As `answers.cpp` prints it."""
    if isinstance(value, str):
        return value.encode().decode("latin-1")
    if isinstance(value, list):
        return ["array", *map(shown, value)]
    if isinstance(value, dict):
        return ["object", *([shown(name), shown(member)] for name, member in value.items())]
    if value is None or isinstance(value, bool):
        return value
    return ["number", struct.unpack("<Q", struct.pack("<d", float(value)))[0]]


def both(answers: Answers, content: bytes, folder: Path) -> Any:
    """What Python makes of a text, as C++ does."""
    (folder / "text.json").write_bytes(content)
    theirs = answers.ask("json", folder / "text.json")
    try:
        ours = parse(content)
    except Malformed as error:
        ours = error
    if isinstance(ours, Malformed):
        assert said(theirs) == str(ours)
    else:
        assert theirs == shown(ours)
    return ours


@pytest.mark.parametrize(("content", "value"), GOOD, ids=ascii)
def test_what_json_is(answers: Answers, content: bytes, value: Any, tmp_path: Path) -> None:
    assert shown(both(answers, content, tmp_path)) == shown(value)


def test_brackets_within_the_bound(answers: Answers, tmp_path: Path) -> None:
    assert isinstance(both(answers, b"[" * DEEPEST + b"]" * DEEPEST, tmp_path), list)


@pytest.mark.parametrize(("why", "at", "contents"), BAD)
def test_what_is_not_json(answers: Answers, why: str, at: int, contents: list[bytes], tmp_path: Path) -> None:
    for content in contents:
        assert str(both(answers, content, tmp_path)) == f"{why} at byte {at}", content[:40]


NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,30})?([eE][-+]?[0-9]{1,3})?", re.ASCII)
NUMBERS = st.from_regex(NUMBER, fullmatch=True)


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(number=NUMBERS)
def test_numbers_are_pythons(answers: Answers, number: str, tmp_path: Path) -> None:
    found = both(answers, number.encode(), tmp_path)
    if isinstance(found, Malformed):
        assert math.isinf(float(number))
    else:
        assert struct.pack("<d", float(found)) == struct.pack("<d", float(number))


DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=DOCUMENTS, ascii_=st.booleans())
def test_what_another_writes_is_read(answers: Answers, document: Any, ascii_: bool, tmp_path: Path) -> None:
    text = json.dumps(document, ensure_ascii=ascii_)
    assert both(answers, text.encode(), tmp_path) == json.loads(text)


SPOILT = b'[]{},:"\\0123456789eE+-. \n\x00\x1ftrufalsn\xc3\xa9\xed\xa0\x80\xf4'


@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=DOCUMENTS, place=st.integers(0, 10_000), byte=st.sampled_from(SPOILT), cut=st.integers(0, 2))
def test_spoilt_texts_end_alike(
    answers: Answers, document: Any, place: int, byte: int, cut: int, tmp_path: Path
) -> None:
    text = json.dumps(document, ensure_ascii=False).encode()
    at = place % (len(text) + 1)
    both(answers, text[:at] + bytes([byte]) + text[at + cut :], tmp_path)


@pytest.mark.parametrize("content", [b"[1]", b"3", b'"x"', b"null"])
def test_inputs_are_an_object(answers: Answers, documented: Documented, content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "inputs.json"
    file.write_bytes(content)
    theirs = said(answers.ask("inputs", documented.build, "home", file))
    with pytest.raises(SpecError) as raised:
        read_inputs(file)
    assert theirs == f"error[T704]: {raised.value.diagnostics[0].message}"
    assert theirs.endswith("holds no object: inputs are lists of rows by name")


def test_a_file_that_is_not_there(answers: Answers, documented: Documented, tmp_path: Path) -> None:
    file = tmp_path / "none.json"
    with pytest.raises(SpecError) as raised:
        read_inputs(file)
    assert said(answers.ask("inputs", documented.build, "home", file)) == str(raised.value).strip()


@pytest.mark.parametrize("name", ["price", "vector", "recent", "pin", "tags"])
def test_deep_lists_ask_for_no_memory(answers: Answers, documented: Documented, name: str, tmp_path: Path) -> None:
    """30 KB that would be 10^17 numbers, were the first row's shape believed."""
    row: Any = [0] * 2000
    for _ in range(5):
        row = [row, *[0] * 2000]
    file = tmp_path / "inputs.json"
    given_: dict[str, Any] = {k: [] for k in NEUTRAL}
    file.write_text(json.dumps({**given_, name: row}))
    theirs = said(answers.ask("inputs", documented.build, "home", file))
    with pytest.raises(SpecError) as raised:
        documented.bundle.surfaces["home"](read_inputs(file))
    assert theirs.split("\n")[0] == str(raised.value).split("\n")[0]
    assert "T705" in theirs
