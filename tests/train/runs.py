"""A run folder without a training: weights of a seed, and a log of rows in a file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from towerspec.check import Checked, check
from towerspec.train.files import write_weights
from towerspec.train.module import build_module
from towerspec.train.run import Run

from .memory import Memory, learnable

SHOPS = [2, 0, 1]  # the raw ids of the rows 0, 1 and 2
CALIBRATED = """model calibrated

request {
    user   : category { rows: 40, dim: 8 }
    layout : category { values: [grid, closeup] }
    place  : category { values: [top, middle, "far down"] }
}

candidate {
    item  : category { rows: 60, dim: 8 }
    price : number
    kind  : category { rows: 5, dim: 4, ids: hash }
    shop  : category { rows: 3, dim: 4, ids: fitted }
}

trunk {
    mixed = mlp(concat(request, candidate), hidden: [16])
}

surface home {
    tower {
        branch by layout {
            closeup {
                layers: [8]
                head click : binary
                head save  : binary
            }
            else {
                head click : binary
            }
        }
    }
    calibrate click with platt by kind
    calibrate save with temperature
}

surface search {
    tower {
        layers: [8]
        head click  : binary
        head buy    : binary
        head order  : product(click, buy)
        head dwell  : regression
        head views  : count
        head mood   : multiclass { classes: 3 }
        head plain  : binary
        head share  : binary { negatives_kept: 0.5 }
    }
    calibrate click with isotonic { bins: 8 }
    calibrate buy with piecewise { bins: 5 } by place
    calibrate order with beta
    calibrate dwell with piecewise { bins: 4 }
    calibrate views with isotonic { bins: 4 }
    calibrate mood with temperature
    calibrate share with platt by shop
}
"""


def calibrated_spec(folder: Path, text: str = CALIBRATED) -> Path:
    path = folder / "calibrated.tower"
    path.write_text(text, encoding="utf-8")
    return path


def make_run(folder: Path, spec: Path, seed: int = 0, **record: Any) -> Run:
    """A run of a spec, as if trained; `learnable` draws labels from a model of other weights."""
    run = Run(folder)
    (folder / "spec").mkdir(parents=True)
    shutil.copyfile(spec, folder / "spec" / spec.name)
    write_weights(run.weights, build_module(check(spec), seed).state_dict())
    run.vocabularies.write_text(json.dumps({"features.shop": SHOPS}))
    record = {"format": 1, "spec": spec.name, "data": {"data": ["train.parquet"]}, **record}
    (folder / "run.json").write_text(json.dumps(record))
    return run


def write_rows(path: Path, log: Memory, per_request: int = 4) -> Path:
    """The rows as a Parquet file; those of one surface that follow each other share a request."""
    held = log.held
    columns: dict[str, Any] = {name: x.tolist() for name, x in {**held.features, **held.labels}.items()}
    columns["surface"] = [log.surfaces[i] for i in held.surface.tolist()]
    seen = np.zeros(len(log.surfaces), dtype=int)
    columns["request"] = []
    for i in held.surface.tolist():
        columns["request"].append(f"{i}/{seen[i] // per_request}")
        seen[i] += 1
    columns["time"] = list(range(len(held)))
    pq.write_table(pa.table(columns), path)
    return path


def rows(folder: Path, checked: Checked, count: int, seed: int, name: str) -> Path:
    """A file of rows that a model of other weights labelled."""
    return write_rows(folder / name, learnable(checked, count, seed))
