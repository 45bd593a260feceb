"""Towers beside other ways to rank several surfaces, on the same rows of KuaiRand: train to 2 May, calibrate on 3 May,
test on 4 May.

python examples/kuairand/compare.py --data DIR --out DIR
"""

from __future__ import annotations

import argparse
import functools
import json
import shutil
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from boosting import choose_rounds, fit_boosting
from epochs import best_epochs
from measures import mean_auc, measures
from methods import TASKS, Method
from prepare import DATA, REPO, SPEC, prepare, read
from rechub import fit_rechub, mmoe, ple
from table import markdown
from towers import choose_separate, fit_separate, fit_spec

from towerspec.check import check
from towerspec.train.files import write_text

HERE = Path(__file__).resolve().parent
VALID = 20220502  # the day on which the number of epochs is chosen, by models that were fitted to the days before
Tables = dict[str, pa.Table]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Compares ways to rank several surfaces on KuaiRand.")
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of the raw files; KUAIRAND_DIR by default")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="where results.json and results.md go")
    parser.add_argument(
        "--work",
        type=Path,
        default=REPO / "build" / "kuairand_compare",
        help="where runs go, and what is finished already",
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="only these")
    args = parser.parse_args()
    torch.set_num_threads(1)
    tables = make_tables(args.data, args.work / "data")
    methods = [m for m in all_methods(args.data) if args.methods is None or m.name in args.methods]
    results = list(compare(methods, tables, range(args.seeds), args.work))
    write_text(args.out / "results.json", json.dumps(results, indent=1) + "\n")
    write_text(args.out / "results.md", markdown(results, {m.name: m.title for m in methods}))
    print(markdown(results, {m.name: m.title for m in methods}))


def make_tables(data: Path, folder: Path) -> Tables:
    """The splits of `prepare.py`, with a column `place` that says the surface to those that have one model for all."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("train", "calibrate", "test")
    if not all((folder / f"{name}.parquet").is_file() for name in names):
        model, _ = check(SPEC).sound()
        for name, table in prepare(data, model):
            pq.write_table(table.append_column("place", table["surface"]), folder / f"{name}.parquet")
    return {name: pq.read_table(folder / f"{name}.parquet") for name in names}


def all_methods(data: Path) -> list[Method]:
    """What is compared, in the order of the table."""
    others, _ = check(HERE / "star.tower").sound()  # the spec's features, and the `train` block of all other methods
    videos = read(data).videos
    author = np.zeros(int(videos["video_id"].to_numpy().max()) + 1, dtype=np.int64)
    author[videos["video_id"].to_numpy()] = videos["author"].to_numpy()

    def spec(path: Path) -> Any:
        return functools.partial(fit_spec, path)

    return [
        Method("towerspec", "towerspec: specs/kuairand.tower", spec(SPEC), functools.partial(own_epochs, SPEC)),
        Method(
            "separate",
            "a separate model for each surface",
            functools.partial(fit_separate, SPEC),
            functools.partial(choose_separate, SPEC),
        ),
        Method("shared", "one shared model, no towers", spec(HERE / "shared.tower")),
        Method("star", "STAR, as a spec", spec(HERE / "star.tower")),
        Method("pepnet", "PEPNet, as a spec", spec(HERE / "pepnet.tower")),
        Method("mmoe", "torch-rechub MMoE", functools.partial(fit_rechub, mmoe, others)),
        Method("ple", "torch-rechub PLE", functools.partial(fit_rechub, ple, others)),
        Method(
            "boosting",
            "gradient boosting",
            functools.partial(fit_boosting, author),
            functools.partial(choose_rounds, author),
        ),
    ]


def compare(methods: Sequence[Method], tables: Tables, seeds: Iterable[int], work: Path) -> list[dict[str, Any]]:
    """A result for each seed and method; what `work` has already is not done again."""
    results = []
    for seed in seeds:
        for method in methods:
            path = work / f"{method.name}-{seed}.json"
            if not path.is_file():
                epochs = chosen(method, tables["train"], work)
                write_text(path, json.dumps(run(method, tables, seed, epochs, work), indent=1) + "\n")
            results.append(json.loads(path.read_text(encoding="utf-8")))
    return results


def run(method: Method, tables: Tables, seed: int, epochs: Any, work: Path) -> dict[str, Any]:
    """Fits a method to the training rows, calibrates it on 3 May, and measures it on 4 May."""
    folder = fresh(work / "runs" / f"{method.name}-{seed}")
    cpu, wall = time.process_time(), time.perf_counter()
    fitted = method.fit(tables["train"], seed, epochs, folder)
    seconds = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
    fitted.calibrate(tables["calibrate"])
    found = measures(tables["test"], *fitted.predict(tables["test"]))
    print(f"{method.name} {seed}:", *(f"{task} {mean_auc(found, task):.4f}" for task in TASKS), flush=True)
    return {"method": method.name, "seed": seed, "epochs": epochs, "seconds": seconds, "surfaces": found}


def fresh(folder: Path) -> Path:
    """An empty folder: what an interrupted run left there is thrown away."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


# ---- epochs ------------------------------------------------------------------------------------


def chosen(method: Method, train: pa.Table, work: Path) -> Any:
    """How long a method is fitted: what is best on 2 May of what was fitted to the days before."""
    path = work / f"{method.name}-epochs.json"
    if not path.is_file():
        date = train["date"].to_numpy()
        before, valid = (train.filter(pa.array(rows)) for rows in (date < VALID, date == VALID))
        folder = fresh(work / "runs" / f"{method.name}-epochs")
        found = (method.choose or functools.partial(choose_epochs, method))(before, valid, folder)
        write_text(path, json.dumps(found) + "\n")
    return json.loads(path.read_text(encoding="utf-8"))


def own_epochs(path: Path, train: pa.Table, valid: pa.Table, folder: Path) -> int:
    """The number that a spec's `train` block says: the spec was chosen with it, on more days than the validation's."""
    model, _ = check(path).sound()
    return model.train.epochs


def choose_epochs(method: Method, train: pa.Table, valid: pa.Table, folder: Path) -> int:
    """The number of epochs of a method that is trained on all rows at once."""
    return best_epochs(lambda epochs, own: method.fit(train, 0, epochs, fresh(own)), valid, folder)


if __name__ == "__main__":
    main()
