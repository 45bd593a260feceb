"""The example's modules, and what they make of the real files; tests that need those skip where there are none."""

from __future__ import annotations

import csv
import gzip
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from towerspec.check import check
from towerspec.check.model import Model

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "kuairand"))

import prepare


@pytest.fixture(scope="session")
def model() -> Model:
    return check(prepare.SPEC).sound()[0]


@pytest.fixture(scope="session")
def data() -> Path:
    if not prepare.DATA.is_dir():
        pytest.skip(f"KuaiRand's files are not in {prepare.DATA}; KUAIRAND_DIR names another folder")
    return prepare.DATA


@pytest.fixture(scope="session")
def splits(data: Path, model: Model) -> dict[str, pa.Table]:
    return dict(prepare.prepare(data, model))


@pytest.fixture(scope="session")
def raw_log(data: Path) -> list[dict[str, str]]:
    """The log as the csv module reads it."""
    (path,) = data.glob("log_standard_*.csv.gz")
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="session")
def raw_tables(data: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Users and videos by id, as the csv module reads them."""
    found = []
    for pattern, key in (("user_features_*.csv", "user_id"), ("video_features_basic_*.csv", "video_id")):
        (path,) = data.glob(pattern)
        with path.open(encoding="utf-8", newline="") as file:
            found.append({row[key]: row for row in csv.DictReader(file)})
    return found[0], found[1]
