"""Small specs that training is tested on, and files of data for them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from towerspec.check import Checked, check

from .memory import Memory, learnable

TINY = """model tiny

table items { rows: 60, dim: 8 }

request {
    user    : category { rows: 40, dim: 8 }
    history : sequence { of: items, length: 5 }
}

candidate {
    item  : category { table: items }
    price : number   { transform: log1p, normalize: standard }
}

trunk {
    recent = pooling(history)
    mixed  = batchnorm(concat(request, candidate, recent))
    shared = mmoe(mixed, experts: 2, hidden: [16], dropout: 0.2)
}

surface home {
    tower {
        layers: [8]
        dropout: 0.1
        head click : binary
        head dwell : regression { weight: 0.1 }
    }
    calibrate click with platt
}

surface search {
    weight: 2.0
    request {
        query : category { rows: 30, dim: 4 }
    }
    intent = mlp(query, hidden: [8])
    tower {
        layers: [8, 8]
        fuse intent after 1 with gate
        head click : binary
        head buy   : binary
        head order : product(click, buy)
    }
}
"""

# What doesn't depend on how a batch's rows are spread: no batch normalisation, no dropout.
PLAIN = TINY.replace("batchnorm(concat(request, candidate, recent))", "concat(request, candidate, recent)").replace(
    ", dropout: 0.2", ""
).replace("        dropout: 0.1\n", "")  # fmt: skip


def write_spec(folder: Path, text: str = TINY, name: str = "tiny.tower") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def write_log(path: Path, checked: Checked, log: Memory) -> Path:
    """The rows as a Parquet file, with the surface's name and a time that counts them."""
    held = log.held
    columns = {name: x.tolist() for name, x in {**held.features, **held.labels}.items()}
    columns["surface"] = [log.surfaces[i] for i in held.surface.tolist()]
    columns["time"] = list(range(len(held)))
    pq.write_table(pa.table(columns), path)
    return path


def tiny(folder: Path, rows: int = 600, text: str = TINY) -> tuple[Path, Path, Checked]:
    """A spec's file, its data's file, and the spec."""
    spec = write_spec(folder, text)
    checked = check(spec)
    return spec, write_log(folder / "log.parquet", checked, learnable(checked, rows)), checked
