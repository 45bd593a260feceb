"""How many candidates each request has: any counts at all are summed or refused, and never lead beyond the rows.

At the boundary, and in the files alone, which a server may load without it: source, TorchScript, the unified model's
methods, torch.export's program and AOTInductor's package.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import Tensor

import towerspec
from tests.test_aoti import build  # noqa: F401  (its small spec, compiled once for all tests that ask)
from towerspec.check import check
from towerspec.diagnostics import SpecError
from towerspec.emit import aoti
from towerspec.emit.build import compile_spec
from towerspec.emit.helpers import row_map
from towerspec.emit.traceable_helpers import row_map as traceable_row_map
from towerspec.runtime.samples import COUNTS

LARGE = 2**62
SPEC = """model small
request { age : number }
candidate { price : number }
trunk { both = mlp(concat(age, price), hidden: [4]) }
surface home { tower { head click : binary } }
surface asked { request { near : number } tower { layers: [4]  fuse near after 1 with concat  head click : binary } }
"""
ANY = st.one_of(
    st.integers(0, 4), st.integers(-2, 9), st.integers(-(2**63), 2**63 - 1), st.sampled_from([LARGE, -LARGE])
)
KNOWN: list[tuple[list[int], int]] = [
    ([LARGE] * 4 + [5], 5),
    ([5] + [-LARGE] * 4, 5),
    ([2**63 - 1, 2], 1),
    ([-1, 6], 5),
    ([999], 5),
    ([-1], 0),
    ([], 2),
    ([], 0),
    ([0, 0], 0),
    ([1], 1),
    ([3, 0, 2], 5),
]
Run = Callable[[Tensor, Tensor, "Tensor | None"], Sequence[Tensor]]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("counts")
    (folder / "small.tower").write_text(SPEC)
    compile_spec(check(folder / "small.tower"), folder / "build")
    return folder / "build"


@pytest.fixture(scope="module")
def runs(small: Path) -> dict[str, Run]:
    """The surface `home` in each form, as tensors in and tensors out."""
    bundle = towerspec.load(small)
    surface, unified = bundle.surfaces["home"], bundle.unified()
    script = torch.jit.load(str(small / "surfaces" / "home.pt"))

    def called(age: Tensor, price: Tensor, counts: Tensor | None) -> list[Tensor]:
        inputs = {"age": age, "price": price} | ({} if counts is None else {COUNTS: counts})
        return list(surface(inputs).values())

    return {"called": called, "script": script, "unified": unified.home}


def cases(test: Callable[..., None]) -> Callable[..., None]:
    """Counts of any requests and candidates; what the sum's wrapping let through comes first."""
    for counts, n in KNOWN:
        test = example(counts=counts, n=n)(test)
    test = given(counts=st.lists(ANY, max_size=6), n=st.integers(0, 6))(test)
    return settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])(test)


def fits(counts: Sequence[int], n: int) -> bool:
    return all(0 <= count <= n for count in counts) and sum(counts) == n


def rows(counts: Sequence[int], n: int) -> tuple[Tensor, Tensor, Tensor]:
    return torch.arange(1.0, len(counts) + 1), torch.arange(float(n)), torch.tensor(counts, dtype=torch.int64)


@cases
def test_rows_of_requests(counts: list[int], n: int) -> None:
    _, price, given_ = rows(counts, n)
    wanted = [request for request, count in enumerate(counts) for _ in range(count)] if fits(counts, n) else None
    for find in (row_map, traceable_row_map):
        if wanted is None:
            with pytest.raises((ValueError, RuntimeError), match=COUNTS):
                find(len(counts), n, given_, price)
        else:
            assert find(len(counts), n, given_, price).tolist() == wanted


@cases
def test_every_form_refuses_what_doesnt_fit(runs: dict[str, Run], counts: list[int], n: int) -> None:
    age, price, given_ = rows(counts, n)
    for name, run in runs.items():
        if not fits(counts, n):
            with torch.no_grad(), pytest.raises((SpecError, RuntimeError, torch.jit.Error), match=f"T706|{COUNTS}"):
                run(age, price, given_)
            continue
        with torch.no_grad():
            (found,) = run(age, price, given_)
            alone = [run(age[i : i + 1], price[sum(counts[:i]) :][:count], None)[0] for i, count in enumerate(counts)]
        assert torch.allclose(found, torch.cat(alone) if alone else torch.empty(0), atol=1e-6), name


@cases
def test_the_boundary_says_what_is_true(runs: dict[str, Run], counts: list[int], n: int) -> None:
    if fits(counts, n):
        return
    with pytest.raises(SpecError) as raised:
        runs["called"](*rows(counts, n))
    (said,) = raised.value.diagnostics
    bad = next((i for i, count in enumerate(counts) if not 0 <= count <= n), None)
    if not counts:
        wanted = f"there are {n} candidates and no request"
    elif bad is not None:
        wanted = f"`{COUNTS}` holds {counts[bad]} in row {bad}, and there are {n} candidates"
    else:
        wanted = f"`{COUNTS}` adds up to {sum(counts)}, and there are {n} candidates"
    assert (said.code, said.message) == ("T706", f"surface `home`: {wanted}")


@pytest.mark.parametrize("counts", [[[3]], [1, 2, 0], [[1], [2]], [], 3])
def test_counts_of_another_shape(runs: dict[str, Run], counts: object) -> None:
    for run in runs.values():
        with torch.no_grad(), pytest.raises((SpecError, RuntimeError, torch.jit.Error), match=f"T70[56]|{COUNTS}"):
            run(torch.ones(2), torch.ones(3), torch.tensor(counts, dtype=torch.int64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.complex64, torch.int8, torch.uint8])
def test_counts_of_another_type(runs: dict[str, Run], dtype: torch.dtype) -> None:
    """Alone, a file takes int64 and int32; whatever it makes of others, it ends in an error or in the same scores."""
    age, price, counts = rows([1, 1], 2)
    with torch.no_grad():
        (wanted,) = runs["script"](age, price, counts)
        for run in runs.values():
            try:
                (found,) = run(age, price, counts.to(dtype))
            except (SpecError, RuntimeError, torch.jit.Error):
                continue
            assert torch.equal(found, wanted)


def test_surfaces_of_one_level_take_no_counts(tmp_path: Path) -> None:
    for level, axis in (("request", "R"), ("candidate", "N")):
        spec = tmp_path / f"{level}.tower"
        features = f"{level} {{ x : number }}\ntrunk {{ y = linear(x, width: 2) }}"
        spec.write_text(f"model m\n{features}\nsurface home {{ tower {{ head click : binary }} }}\n")
        compile_spec(check(spec), tmp_path / level)
        surface = towerspec.load(tmp_path / level).surfaces["home"]
        assert [e["shape"] for e in surface.inputs] == [[axis]]
        for n in (0, 1, 3):
            assert len(surface({"x": [1.0] * n})["click"]) == n
        with pytest.raises(SpecError, match="T703"):
            surface({"x": [1.0], COUNTS: [1]})


# ---- ahead of time -----------------------------------------------------------------------------


def test_a_package_alone_refuses_what_doesnt_fit(build: Path) -> None:  # noqa: F811
    surface = towerspec.load(build).surfaces["home"]
    entry = surface.entry["targets"]["aoti"]
    program = torch.export.load(io.BytesIO((build / entry["program"]["file"]).read_bytes())).module()
    package = torch._inductor.aoti_load_package(str(build / entry["file"]))
    of_request = [e["name"] for e in surface.inputs if e["level"] == "request"]
    for counts, n in (*KNOWN, ([2, 2, 2], 5), ([0, 0], 3), ([1, 3, 1], 5)):
        requests = surface.sample_inputs(1, len(counts), seed=2)
        inputs = surface.sample_inputs(n, 1, seed=1) | {name: requests[name] for name in of_request}
        inputs[COUNTS] = torch.tensor(counts, dtype=torch.int64)
        wanted = surface(inputs) if fits(counts, n) else None
        for run in (program, package):
            if wanted is None:
                with pytest.raises(RuntimeError, match=COUNTS):
                    run(*inputs.values())
            else:
                for x, y in zip(run(*inputs.values()), wanted.values(), strict=True):
                    assert torch.allclose(x, y, atol=1e-5, equal_nan=True)


def test_the_assertion_is_in_the_program() -> None:
    class Model(torch.nn.Module):
        def forward(self, age: Tensor, price: Tensor, counts: Tensor) -> tuple[Tensor]:
            return (age[traceable_row_map(age.size(0), price.size(0), counts, price)] + price,)

    entries = [{"shape": ["R"]}, {"shape": ["N"]}, {"shape": ["R"]}]
    program = aoti.export(Model(), entries, rows([2, 0, 3], 5)).module()
    for counts, n in KNOWN:
        if fits(counts, n):
            assert len(program(*rows(counts, n))[0]) == n
        else:
            with pytest.raises(RuntimeError, match=COUNTS):
                program(*rows(counts, n))
