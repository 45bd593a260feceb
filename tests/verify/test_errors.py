"""What -O3 says of its error, on generated rows and on a log's, against scores that are compared here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

import towerspec
from towerspec.check import check
from towerspec.cli import cli
from towerspec.diagnostics import SpecError
from towerspec.emit.build import Options, compile_spec

SPECS = Path(__file__).parent.parent.parent / "specs"
SPEC = """model logged
request {
    user    : category { rows: 3000, dim: 16, ids: hash }
    country : category { values: [de, fr, it], dim: 4 }
    recent  : sequence { rows: 2000, dim: 16, length: 4 }
}
candidate {
    item  : category { rows: 5000, dim: 16 }
    price : number { transform: log1p }
    look  : number { width: 3 }
}
trunk { mixed = concat(request, candidate, pooling(recent)) }
surface home {
    tower {
        layers: [16]
        branch by country {
            de { layers: [8]  head click : binary  head watch : regression }
            else { head click : binary }
        }
    }
}
surface search { tower { head click : binary } }
"""


def apart(found: Tensor, wanted: Tensor) -> float:
    """The largest difference, relative where numbers are above 1; NaN is where a leaf lacks the head."""
    assert torch.equal(found.isnan(), wanted.isnan())
    return float(((found - wanted).abs() / wanted.abs().clamp(min=1)).nan_to_num(0).max())


def fresh(rounded: Path, exact: Path, surface: str, rows: int) -> float:
    """The largest difference of new samples, with seeds of their own."""
    found, wanted = (towerspec.load(build).surfaces[surface] for build in (rounded, exact))
    worst = 0.0
    for seed in range(1000, 1000 + rows // 500):
        inputs = found.sample_inputs(candidates=50, requests=10, seed=seed)
        theirs = wanted(inputs)
        worst = max(worst, *(apart(x, theirs[head]) for head, x in found(inputs).items()))
    return worst


def errors_hold(spec: Path, tmp_path: Path, rows: int, cpu: str, surfaces: tuple[str, ...] = ()) -> dict[str, Any]:
    exact, rounded, again = (tmp_path / name for name in ("exact", "rounded", "again"))
    compile_spec(check(spec), exact, Options(surfaces=surfaces))
    said = compile_spec(check(spec), rounded, Options(level=3, cpu=cpu, max_error=0.5, surfaces=surfaces))["surfaces"]
    stated = {name: entry["precision"]["largest_difference"] for name, entry in said.items()}
    for name, largest in stated.items():
        assert 0 < fresh(rounded, exact, name, rows) <= 1.25 * largest
    # The bound has room for what wasn't measured: a little more than the worst is too little.
    options = Options(level=3, cpu=cpu, max_error=1.2 * max(stated.values()), surfaces=surfaces)
    with pytest.raises(SpecError, match="T613"):
        compile_spec(check(spec), again, options)
    assert not again.exists()
    return said


def test_the_stated_error_holds_for_rows_that_were_not_measured(tmp_path: Path) -> None:
    said = errors_hold(SPECS / "view_types.tower", tmp_path, 20_000, "any")
    errors = said["app"]["precision"]["errors"]
    leaves = {e["leaf"] for e in errors}
    assert leaves == {"feed / autoplay", "feed / else", "closeup", "story / phone", "story / else", "else"}
    assert {e["head"] for e in errors if e["leaf"] == "closeup"} == {"click", "save"}
    for entry in errors:
        assert 0 < entry["p50"] <= entry["p99"] <= entry["max"]
        assert entry["rows"] == 2048 or entry["numbers"] == "searched"
    bounded = [e["max"] for e in errors if e["numbers"] != "wide"]
    assert said["app"]["precision"]["largest_difference"] >= max(bounded)
    assert all("leaf" not in e for e in said["mail"]["precision"]["errors"])


def test_a_bound_that_rows_of_a_leaf_exceed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="T613") as error:
        compile_spec(check(SPECS / "view_types.tower"), tmp_path / "b", Options(level=3, cpu="any", max_error=2e-4))
    assert "in leaf `" in error.value.diagnostics[0].notes[0]


@pytest.mark.slow
@pytest.mark.parametrize("cpu", ["any", "amx"])
def test_the_stated_error_of_a_large_spec_holds(cpu: str, tmp_path: Path) -> None:
    """Minutes: its rows take tens of millions of operations each."""
    errors_hold(SPECS / "ads_engagement.tower", tmp_path, 20_000, cpu, ("search",))


# ---- a log -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spec, and a log of its surfaces as Parquet: texts, nulls, lists that end early."""
    folder = tmp_path_factory.mktemp("log")
    (folder / "logged.tower").write_text(SPEC)
    n, generator = 700, torch.Generator().manual_seed(0)

    def draw(high: int, *shape: int) -> list[Any]:
        return torch.randint(0, high, (n, *shape), generator=generator).tolist()

    price = torch.randn(n, generator=generator).abs().mul(100).tolist()
    columns = {
        "surface": ["search" if i % 7 == 0 else "home" for i in range(n)],
        "user": [f"user {i}" for i in draw(9000)],
        "country": [(["de", "fr", "xx", None])[i] for i in draw(4)],
        "recent": [row[: i % 5] for i, row in enumerate(draw(2000, 4))],
        "item": draw(5200),
        "price": [None if i % 11 == 0 else x for i, x in enumerate(price)],
        "look": torch.randn(n, 3, generator=generator).tolist(),
    }
    pq.write_table(pa.table(columns), folder / "log.parquet")
    compile_spec(check(folder / "logged.tower"), folder / "exact")
    return folder


def test_a_logs_rows_are_measured(log: Path, tmp_path: Path) -> None:
    options = Options(level=3, cpu="any", max_error=0.1, samples=log / "log.parquet")
    said = compile_spec(check(log / "logged.tower"), tmp_path / "build", options)["surfaces"]
    table = pq.read_table(log / "log.parquet").to_pylist()
    bundles = [towerspec.load(build).surfaces for build in (tmp_path / "build", log / "exact")]
    for name in ("home", "search"):
        rows = [row for row in table if row["surface"] == name]
        inputs = {k: [float("nan") if k == "price" and r[k] is None else r[k] for r in rows] for k in rows[0]}
        del inputs["surface"]
        found, wanted = ({h: torch.tensor(x) for h, x in b[name](inputs).items()} for b in bundles)
        errors = said[name]["precision"]["errors"]
        assert {e["numbers"] for e in errors} == {"logged"}
        for head in found:
            mine = [e for e in errors if e["head"] == head]
            assert sum(e["rows"] for e in mine) == int((~wanted[head].isnan()).sum())
            assert max(e["max"] for e in mine) == pytest.approx(apart(found[head], wanted[head]), abs=1e-6)
    german = sum(row["country"] == "de" and row["surface"] == "home" for row in table)
    assert [e["rows"] for e in said["home"]["precision"]["errors"] if e.get("leaf") == "de"] == [german, german]


def test_the_command_shows_them(log: Path, tmp_path: Path) -> None:
    words = ["compile", str(log / "logged.tower"), "-o", str(tmp_path / "build"), "-O3", "--cpu", "any"]
    done = CliRunner().invoke(cli, [*words, "--samples", str(log / "log.parquet")])
    assert done.exit_code == 0, done.output
    lines = [line.split() for line in done.output.splitlines()]
    assert ["surface", "leaf", "head", "numbers", "rows", "p50", "p99", "max"] in lines
    assert sum(line[3:4] == ["logged"] for line in lines) == 4
    manifest = json.loads((tmp_path / "build" / "manifest.json").read_text())
    assert manifest["surfaces"]["home"]["precision"]["errors"][0]["numbers"] == "logged"
    wrong = CliRunner().invoke(cli, [*words[:4], "--samples", "log.parquet"])
    assert wrong.exit_code == 2
    assert "'--samples' is of -O3" in wrong.output


def test_another_log_is_measured_anew(log: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.parquet"
    pq.write_table(pq.read_table(log / "log.parquet").slice(0, 300), half)
    rows = []
    for samples in (log / "log.parquet", half, half):
        options = Options(level=3, cpu="any", max_error=0.1, samples=samples)
        said = compile_spec(check(log / "logged.tower"), tmp_path / "build", options)
        rows.append(sum(e["rows"] for e in said["surfaces"]["search"]["precision"]["errors"]))
    assert rows == [100, 43, 43]
