"""Short texts that stand for much, and long ones full of mistakes: a check is bounded by what is in the file."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

from towerspec.check import check_text
from towerspec.diagnostics import MOST

SECONDS, BYTES = 60, 1 << 30  # guards, on a machine that has much else to do: it takes a few seconds and 250 MB
CHECK = """
import json, sys
from towerspec.check import check
from towerspec.diagnostics import SpecError, render
try:
    found = check(sys.argv[1]).report.diagnostics
except SpecError as error:
    found = error.diagnostics
print(json.dumps([[d.code for d in found], max([len(render(d)) for d in found], default=0)]))
"""


def checked(text: str, folder: Path) -> tuple[list[str], int]:
    """The codes that a check gives within bounds of time and memory, and the longest text of one."""
    (folder / "main.tower").write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", CHECK, "main.tower"],
        cwd=folder,
        capture_output=True,
        text=True,
        preexec_fn=lambda: [
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS)),
            resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES)),
        ],
    )
    assert done.returncode == 0, done.stderr[-2000:]
    codes, longest = json.loads(done.stdout)
    return codes, longest


def spec(trunk: str, top: str = "", candidate: str = "a : number", tower: str = "head b : binary") -> str:
    return f"model m\n{top}\ncandidate {{ {candidate} }}\ntrunk {{ {trunk} }}\nsurface s {{ tower {{ {tower} }} }}\n"


def many(make: Callable[[int], str], count: int) -> str:
    return "\n".join(map(make, range(count)))


def templates(make: Callable[[str], str], levels: int, params: str = "x") -> str:
    """Templates of which each calls the one before, in a body that `make` makes of its name."""
    first = f"template t0({params}) {{ y = linear(x, width: 4) }}\n"
    return first + "".join(f"template t{i}({params}) {{ {make(f't{i - 1}')} }}\n" for i in range(1, levels))


TEN = ", ".join(["1"] * 10)
GROWS = {
    "constants": spec(
        "z = mlp(a, hidden: c29)",
        f"const c0 = [{TEN}]\n" + many(lambda i: f"const c{i + 1} = [{', '.join([f'c{i}'] * 10)}]", 29),
    ),
    "constants that are used": spec(
        many(lambda i: f"z{i} = mlp(a, hidden: c)", 5000), f"const c = [{', '.join(['1'] * 5000)}]"
    ),
    "lists in lists": spec(
        "z = mlp(a, hidden: c2000)", "const c0 = 4\n" + many(lambda i: f"const c{i + 1} = [c{i}]", 2000)
    ),
    "templates": spec("z = t8(a)", templates(lambda t: many(lambda j: f"y{j} = {t}(x)", 10), 9)),
    "templates in calls": spec("z = t8(a)", templates(lambda t: f"y = concat({', '.join([f'{t}(x)'] * 10)})", 9)),
    "options of templates": spec(
        "z = t8(a, h: [1])", templates(lambda t: f"y = {t}(x, h: [{', '.join(['h'] * 10)}])", 9, "x, h: [1]")
    ),
    "options that must be given": spec(
        "z = t8(a, [1])",
        "template t0(x, h) { y = mlp(x, hidden: h) }\n"
        + "".join(f"template t{i}(x, h) {{ y = t{i - 1}(x, [{', '.join(['h'] * 10)}]) }}\n" for i in range(1, 9)),
    ),
    "a chain of templates": spec("z = t2999(a)", templates(lambda t: f"y = {t}(x)", 3000)),
    "deep calls in a chain": spec("z = t59(a)", templates(lambda t: f"y = {'concat(' * 30}{t}(x){')' * 30}", 60)),
    "surface templates": "model m\ntemplate surface p(h) { tower { layers: h "
    + many(lambda i: f"head h{i} : binary", 200)
    + " } }\ncandidate { a : number }\ntrunk { z = concat(a) }\n"
    + many(lambda i: f"surface s{i} = p(h: [8])", 1000),
    "experts": spec(f"z = ple(a, shared_experts: 1024, own_experts: 1024, levels: 16, hidden: [{'8, ' * 256}])"),
    "fields": spec(f"y = fm({'v, ' * 100} dim: 1)", candidate="v : number { width: 65536 }"),
    "surfaces times trunk": "model m\ncandidate { a : number }\ntrunk { z0 = gate(a, a) "
    + many(lambda i: f"z{i + 1} = linear(z{i}, width: 1)", 600)
    + " }\n"
    + many(lambda i: f"surface s{i} {{ tower {{ head b : binary }} }}", 600),
}


@pytest.mark.parametrize("name", GROWS)
def test_a_short_text_never_stands_for_too_much(name: str, tmp_path: Path) -> None:
    codes, _ = checked(GROWS[name], tmp_path)
    assert codes == ["T216"]


MISTAKES = {
    "unknown values": (
        "T201",
        spec(many(lambda i: f"z{i} = linear(g{i}, width: 4)", 4000), candidate=many(lambda i: f"f{i} : number", 2000)),
    ),
    "unknown layers": ("T202", spec(many(lambda i: f"z{i} = mpl(a)", 3000))),
    "unknown options": ("T207", spec(many(lambda i: f"z{i} = mlp(a, hiden: [4])", 3000))),
    "twice": ("T210", spec(many(lambda i: "z = concat(a)", 3000))),
    "cycles": ("T401", spec(many(lambda i: f"z{i} = linear(y{i}, width: 4) y{i} = linear(z{i}, width: 4)", 2000))),
    "unused": ("T403", spec("z = concat(f0)", candidate=many(lambda i: f"f{i} : number", 3000))),
    "arms": (
        "T409",
        "model m\nrequest { k : category { values: ["
        + ", ".join(f"v{i}" for i in range(2000))
        + "] } }\ncandidate { a : number }\ntrunk { z = concat(a, k) }\nsurface s { tower { branch by k { "
        + many(lambda i: f"w{i} {{ head b : binary }}", 2000)
        + " } } }",
    ),
    "declarations": ("T101", "model m\n" + "table x\n" * 60_000),
    "characters": ("T102", "model m\n" + "trunk { ; }\n" * 60_000),
    "escapes": ("T104", 'model m\nconst a = "' + "\\q" * 200_000 + '"'),
    "numbers": ("T106", f"model m\nconst a = [{'1x, ' * 20_000}]"),
    "brackets": ("T103", "model m\n" + ")]}\n" * 100_000),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_many_mistakes_end_the_check(name: str, tmp_path: Path) -> None:
    code, text = MISTAKES[name]
    codes, longest = checked(text, tmp_path)
    assert set(codes) == {code}
    assert len(codes) == MOST
    assert longest < 4000


LONG = {
    "name": ("T201", spec(f"z = linear({'n' * 900_000}, width: 4)")),
    "word": ("T301", spec(f"z = mlp(a, hidden: [4], activation: {'n' * 900_000})")),
    "text": ("T301", spec(f'z = mlp(a, hidden: [4], activation: "{"n" * 900_000}")')),
    "list": ("T301", spec(f"z = mlp(a, hidden: [{'x, ' * 20_000}])")),
    "cycle": ("T401", spec(many(lambda i: f"z{i} = linear(z{(i + 1) % 3000}, width: 4)", 3000))),
    "constants in a circle": (
        "T215",
        spec("z = linear(a, width: c0)", many(lambda i: f"const c{i} = c{(i + 1) % 5000}", 5000)),
    ),
}


@pytest.mark.parametrize("name", LONG)
def test_long_things_are_cut_where_they_are_shown(name: str, tmp_path: Path) -> None:
    code, text = LONG[name]
    codes, longest = checked(text, tmp_path)
    assert codes == [code]
    assert longest < 4000


SOUND = {
    "a chain of constants": spec(
        "z = linear(a, width: c9999)", "const c0 = 4\n" + many(lambda i: f"const c{i + 1} = c{i}", 9999)
    ),
    "sixty templates deep": spec("z = t59(a)", templates(lambda t: f"y = {t}(x)", 60)),
    "a template on each line": spec(
        many(lambda i: f"z{i} = t({'a' if i == 0 else f'z{i - 1}'}, h: c)", 1000),
        "const c = [8, 8]\ntemplate t(x, h: [4]) { y = mlp(x, hidden: h) }",
    ),
    "lines in reverse": spec(
        many(lambda i: f"z{i} = linear({f'z{i + 1}' if i < 999 else 'a'}, width: 4)", 1000) + " z = concat(z0)"
    ),
    "many heads and arms": "model m\nrequest { k : category { rows: 1200 } }\ncandidate { a : number }\n"
    "trunk { z = concat(a, k) }\nsurface s { tower { "
    + many(lambda i: f"head h{i} : binary", 600)
    + many(lambda i: f" head p{i} : product(h{i}, h0)", 600).replace("product(h0, h0)", "product(h0, h1)")
    + " branch by k { "
    + many(lambda i: f"{i} {{ head b : binary }}", 1200)
    + " } } }",
}


@pytest.mark.parametrize("name", SOUND)
def test_large_and_sound(name: str, tmp_path: Path) -> None:
    assert checked(SOUND[name], tmp_path)[0] == []


def test_files_are_bounded_together_and_in_depth(tmp_path: Path) -> None:
    for i in range(40):
        (tmp_path / f"deep{i}.tower").write_text(f'include "deep{i + 1}.tower"\n' if i < 39 else "")
    for i in range(8):
        (tmp_path / f"wide{i}.tower").write_text("#" * 1_000_000)
    assert checked(spec("z = concat(a)", 'include "deep0.tower"'), tmp_path)[0] == ["T007"]
    assert checked(spec("z = concat(a)", many(lambda i: f'include "wide{i}.tower"', 8)), tmp_path)[0] == ["T003"]


# ---- work --------------------------------------------------------------------------------------


def work(text: str) -> int:
    """How many lines of towerspec a check runs: what a clock shows, without the machine's moods."""
    count, ours = 0, dict[CodeType, bool]()

    def line(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        count += event == "line"
        return line

    def call(frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        if code not in ours:
            ours[code] = "towerspec" in code.co_filename
        return line if ours[code] else None

    sys.settrace(call)
    try:
        report = check_text(text).report
    finally:
        sys.settrace(None)
    assert not report.diagnostics, report.diagnostics
    return count


def names(count: int) -> Iterable[str]:
    return (f"{level}{i}" for level in "rc" for i in range(count // 2))


def features(layer: str, count: int, surfaces: int = 2) -> str:
    half = range(count // 2)
    return "\n".join(
        [
            "model m",
            f"request {{ {' '.join(f'r{i} : category {{ rows: 9, dim: 8 }}' for i in half)} }}",
            f"candidate {{ {' '.join(f'c{i} : category {{ rows: 9, dim: 8, on: [s0] }}' for i in half)} }}",
            f"trunk {{ y = {layer.format(all=', '.join(names(count)))} z = mmoe(y, experts: 2, hidden: [8]) }}",
            "template surface page(n) { request { q : bag { rows: 9 } } own = mlp(q, hidden: [n])",
            "tower { layers: [8] fuse own after 1 with gate head b : binary } calibrate b with platt }",
            *(f"surface s{i} = page(n: 4)" for i in range(surfaces)),
        ]
    )


LAYERS = [
    "concat(request, candidate)",
    "concat({all})",
    "sum({all})",
    "product({all})",
    "fm(request, candidate, dim: 8)",
    "fm({all})",
    "senet(request, candidate, dim: 8)",
    "autoint({all})",
    "bilinear(request, candidate, dim: 8)",
    "bilinear({all}, type: interaction)",
    "masknet({all}, hidden: [8])",
    "gate(candidate, {all})",
]


def exponent(small: int, large: int, times: int) -> float:
    """The power of the size that the work grows with."""
    power: float = (large / small - 1) / (times - 1)  # a line through both: what is left of a fixed cost makes it less
    return power


@pytest.mark.parametrize("layer", LAYERS)
def test_work_grows_with_the_features(layer: str) -> None:
    work(features(layer, 10))  # what is imported and built once
    assert exponent(work(features(layer, 100)), work(features(layer, 400)), 4) < 1.1


def test_work_grows_with_the_surfaces() -> None:
    layer = "concat(request, candidate)"
    work(features(layer, 10))
    assert exponent(work(features(layer, 40, 8)), work(features(layer, 40, 64)), 8) < 1.1


def test_a_surface_more_costs_what_is_its_own() -> None:
    """However many features and trunk values all share."""
    layer = "concat(request, candidate)"
    work(features(layer, 10))
    few, many_ = (work(features(layer, n, 24)) - work(features(layer, n, 4)) for n in (20, 400))
    assert many_ < 1.3 * few
