"""A log made from the spec itself, whose true probabilities are known.

DIR/train.parquet, calibrate.parquet, test.parquet   the log by time: the last day is the test's, the one before the
                                                     calibration's
DIR/truth_*.parquet                                  the true probability of each task, row by row
DIR/truth.json                                       the best log loss and AUC that any model can reach
DIR/teacher/                                         the hidden model: its weights and vocabularies, for `compile`
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from towerspec.check import Checked
from towerspec.check.model import Model
from towerspec.diagnostics import Diagnostic, SpecError
from towerspec.emit.torchscript import tensors
from towerspec.layers.heads import Product
from towerspec.train.best import Best
from towerspec.train.encode import Array
from towerspec.train.files import write_text, write_weights
from towerspec.train.lookup import Vocabulary
from towerspec.train.population import MISSING, Population, vocabulary, written
from towerspec.train.reader import Raw
from towerspec.train.rows import Columns, Encoder
from towerspec.train.teacher import Teacher

CHUNK = 8_192  # requests that are made together
SAMPLE = 512  # requests that the teacher is set by
DAY = 86_400
START = 1_767_225_600  # 2026-01-01, in seconds
SPLITS = ("train", "calibrate", "test")


@dataclass(frozen=True)
class Options:
    """How large a log is made: so many `rows` over so many `days`, or so many `requests` where that is given."""

    rows: int = 50_000
    requests: int | None = None
    days: int = 10
    seed: int = 0


DEFAULT = Options()


def simulate(checked: Checked, out: Path, options: Options = DEFAULT) -> dict[str, Any]:
    """Makes a log in the folder `out`, and returns what truth.json says.

    The same spec, options and versions give the same log. It takes the place of an earlier simulation there, once all
    of it is written.

    Raises:
        SpecError: the spec has errors, or `out` holds a log of another kind or can't be written to (T009).
    """
    model, _ = checked.sound()
    taken = next((path for split in SPLITS if (path := out / f"{split}.parquet").exists()), None)
    if taken is not None and not (out / "truth.json").is_file():
        raise SpecError(
            Diagnostic("T009", f"`{taken}` exists already, and was not simulated", help="give a new folder")
        )
    simulation = _Simulation(checked, model, options)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".simulated-", dir=out) as name:
            fresh = Path(name)
            best = simulation.write(fresh)
            write_weights(fresh / "teacher" / "weights.safetensors", tensors(simulation.teacher.module))
            write_text(fresh / "teacher" / "vocabularies.json", json.dumps(simulation.vocabularies) + "\n")
            (out / "teacher").mkdir(exist_ok=True)
            for path in (path for path in fresh.rglob("*") if path.is_file()):
                path.replace(out / path.relative_to(fresh))
        write_text(out / "truth.json", json.dumps(best, indent=2) + "\n")
    except OSError as error:
        raise SpecError(Diagnostic("T009", f"`{out}` can't be written: {error.strerror or error}")) from error
    return best


@dataclass(frozen=True)
class Requests:
    """Some requests in the order of time: who asked, when, where, and how many candidates were shown."""

    number: Array
    user: Array
    time: Array
    surface: Array
    counts: Array


class _Simulation:
    def __init__(self, checked: Checked, model: Model, options: Options) -> None:
        self.options, self.model = options, model
        plain = Encoder(model, Columns(), {})
        codings = {f.coding.table: f.coding for of in plain.features.values() for f in of if f.coding}
        self.vocabularies = {path: vocabulary(c) for path, c in codings.items() if c.mode == "fitted"}
        self.encoder = Encoder(model, Columns(), {path: Vocabulary(ids) for path, ids in self.vocabularies.items()})
        self.counts = self._candidates()
        levels = {feature.name: feature.level for feature in model.features.values()}
        users = max(20, len(self.counts) // 5)
        self.population = Population(self.encoder, levels, users, max(50, users), options.seed)
        self.teacher = Teacher(checked, self.encoder, options.seed)
        (sample,) = self._requests(min(SAMPLE, len(self.counts)), seed=1)
        self.teacher.fit(self.encoder.encode(self._raw(sample, self._features(sample, np.random.default_rng(0)))))

    def _candidates(self) -> Array:
        """How many candidates each request has: most have a few, some up to twelve."""
        rng = np.random.default_rng([self.options.seed, 1])
        if self.options.requests is not None:
            return rng.geometric(0.3, self.options.requests).clip(max=12)
        counts = rng.geometric(0.3, max(1, self.options.rows)).clip(max=12)
        ends = np.cumsum(counts)
        last = int(np.searchsorted(ends, self.options.rows))
        counts = counts[: last + 1]
        counts[-1] -= int(ends[last]) - self.options.rows
        return counts

    def _requests(self, chunk: int, seed: int = 2) -> Iterator[Requests]:
        """The requests in the order of time, some at a time; with another seed than 2, a first chunk of others."""
        rng = np.random.default_rng([self.options.seed, seed])
        total, surfaces = len(self.counts), len(self.encoder.surfaces)
        share = np.arange(1, surfaces + 1) ** -0.5
        times = np.sort(rng.random(total)) * self.options.days * DAY + START
        for start in range(0, total, chunk):
            size = min(chunk, total - start)
            users = len(self.population.users)
            yield Requests(
                np.arange(start, start + size),
                (users * rng.random(size) ** 1.5).astype(np.int64),  # some come more often
                times[start : start + size].astype(np.int64),
                rng.choice(surfaces, size, p=share / share.sum()),
                self.counts[start : start + size],
            )
            if seed != 2:
                return

    def _features(self, requests: Requests, rng: np.random.Generator) -> dict[str, pa.Array]:
        drawn = self.population.draw(requests.user, requests.counts, rng)
        surface = np.repeat(requests.surface, requests.counts)
        for name, of in self.encoder.features.items():
            has = pa.array(np.isin(surface, [s for feature in of for s in feature.surfaces]))
            drawn[name] = pc.if_else(has, drawn[name], pa.scalar(None, drawn[name].type))
        return drawn

    def _raw(self, requests: Requests, features: dict[str, pa.Array]) -> Raw:
        names = np.array(self.encoder.surfaces, dtype=object)[np.repeat(requests.surface, requests.counts)]
        columns = {
            "surface": pa.array(names, pa.string()).dictionary_encode(),
            "request": pa.array(np.repeat(requests.number, requests.counts)),
            "time": pa.array(np.repeat(requests.time, requests.counts), pa.timestamp("s")),
            **features,
        }
        return Raw("simulated", np.arange(len(names)), columns, {})

    # ---- writing -------------------------------------------------------------------------------

    def write(self, out: Path) -> dict[str, Any]:
        """Writes the log and the truth; returns the best that can be reached, by split, surface and task."""
        rng = np.random.default_rng([self.options.seed, 3])
        best = {split: Best(self.encoder) for split in SPLITS}
        writers: dict[str, pq.ParquetWriter] = {}
        try:
            for requests in self._requests(CHUNK):
                raw = self._raw(requests, self._features(requests, rng))
                rows = self.encoder.encode(raw)
                truth = self.teacher.truth(rows)
                labels = self._labels(truth, rng)
                log = pa.table({**raw.columns, **{name: self._written(name, x) for name, x in labels.items()}})
                known = pa.table({name: _column(x) for name, x in truth.items()})
                for split, here in self._splits(np.repeat(requests.time, requests.counts)):
                    self._append(writers, out / f"{split}.parquet", log[here])
                    self._append(writers, out / f"truth_{split}.parquet", known[here])
                    part = ({name: x[here] for name, x in of.items()} for of in (truth, labels))
                    best[split].add(rows.surface[here], *part)
        finally:
            for writer in writers.values():
                writer.close()
        return {split: found.result() for split, found in best.items()}

    def _labels(self, truth: dict[str, Array], rng: np.random.Generator) -> dict[str, Array]:
        """Labels, some of them missing."""
        labels = self.teacher.labels(truth, rng)
        for name, parts in self.products().items():
            labels[name] = np.where(np.isnan(truth[name]), np.nan, np.prod([labels[part] for part in parts], axis=0))
        kept = {name: rng.random(len(x)) >= MISSING for name, x in labels.items()}
        return {name: np.where(kept[name], x, np.nan) for name, x in labels.items()}

    def _written(self, name: str, labels: Array) -> pa.Array:
        """A task's labels as the log holds them: a head's values, if it has any."""
        gone, values = np.isnan(labels), getattr(self.encoder.labels[name].kind, "values", None)
        if values:
            return written(values, np.where(gone, -1, labels).astype(np.int64))
        return pa.array(labels.astype(np.float32), mask=gone)

    def products(self) -> dict[str, tuple[str, ...]]:
        """The heads that each product multiplies."""
        return {
            head.name: head.parts
            for surface in self.model.surfaces.values()
            for path in surface.tower.walk()
            for head in path.heads
            if isinstance(head.kind, Product)
        }

    def _splits(self, times: Array) -> Iterator[tuple[str, slice]]:
        """Which rows, in the order of time, are whose; those of a split may be none."""
        test = START + (self.options.days - 1) * DAY
        bounds = np.searchsorted(times, [0, test - DAY, test, np.iinfo(np.int64).max])
        for split, start, stop in zip(SPLITS, bounds, bounds[1:], strict=False):
            yield split, slice(int(start), int(stop))

    @staticmethod
    def _append(writers: dict[str, pq.ParquetWriter], path: Path, table: pa.Table) -> None:
        if path.name not in writers:
            writers[path.name] = pq.ParquetWriter(path, table.schema, compression="zstd")
        if len(table):
            writers[path.name].write_table(table)


def _column(x: Array) -> pa.Array:
    if x.ndim == 1:
        return pa.array(x, mask=np.isnan(x))
    return pa.array(list(x), pa.list_(pa.float64()), mask=np.isnan(x).any(1))
