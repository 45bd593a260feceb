"""The comparison's tables, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from measures import mean_auc
from methods import SURFACES, TASKS

Result = dict[str, Any]
LARGE, LOW, HIGH = 5000, 0.01, 0.02  # rows from which an ECE is held to `LOW`, and over `HIGH` to its half


def markdown(results: Sequence[Result], titles: Mapping[str, str]) -> str:
    """All tables: the mean over seeds, and the spread as the standard deviation between them."""
    by = {name: [r for r in results if r["method"] == name] for name in titles}
    by = {titles[name]: runs for name, runs in by.items() if runs}
    first = next(iter(by))
    return (
        "\n\n".join(
            [
                "Mean AUC of the five surfaces.\n\n" + overview(by),
                *(f"`{task}`: AUC by surface.\n\n{by_surface(by, task)}" for task in TASKS),
                "Log loss after calibration, and the mean ECE over surfaces before and after.\n\n" + calibration(by),
                f"ECE before → after calibration of {first}.\n\n" + errors(by[first]),
                f"Calibration error of {first}, before → after, without what chance adds.\n\n" + unbiased(by[first]),
            ]
        )
        + "\n"
    )


def overview(by: Mapping[str, Sequence[Result]]) -> str:
    """A line for each method: the mean per-surface AUC of each task, seeds, epochs, and seconds of training."""
    lines = []
    for title, runs in by.items():
        means = [spread([mean_auc(run["surfaces"], task) for run in runs]) for task in TASKS]
        seconds = f"{np.mean([run['seconds']['cpu'] for run in runs]):.0f}"
        lines.append([title, *means, str(len(runs)), passes(runs[0]["epochs"]), seconds])
    return table(["", *(f"`{task}`" for task in TASKS), "seeds", "epochs", "CPU seconds"], lines)


def passes(epochs: Any) -> str:
    """How long a method was trained: in epochs, by surface where each has its own model, or in trees by task.

    >>> passes(2), passes({"tab_0": 4, "tab_1": 8}), passes({"is_click": 100})
    ('2', '4, 8', '100 trees')
    """
    if not isinstance(epochs, dict):
        return str(epochs)
    return ", ".join(str(n) for n in epochs.values()) + (" trees" if TASKS[0] in epochs else "")


def by_surface(by: Mapping[str, Sequence[Result]], task: str) -> str:
    """A line for each method: one task's AUC on each surface."""
    first = next(iter(by.values()))[0]["surfaces"]
    heads = [f"{s} ({first[s][task]['positives']:,} of {first[s][task]['rows']:,})" for s in SURFACES]
    lines = [[title, *(_over(runs, s, lambda m: m[task]["auc"]) for s in SURFACES)] for title, runs in by.items()]
    return table(["", *heads], lines)


def calibration(by: Mapping[str, Sequence[Result]]) -> str:
    """A line for each method: the mean over surfaces of log loss and ECE, by task."""

    def mean(runs: Sequence[Result], task: str, name: str) -> float:
        return float(np.mean([run["surfaces"][s][task][name] for run in runs for s in SURFACES]))

    lines = [
        [
            title,
            *(f"{mean(runs, task, 'log_loss_after'):.4f}" for task in TASKS),
            *(f"{mean(runs, task, 'ece_before'):.4f} → {mean(runs, task, 'ece_after'):.4f}" for task in TASKS),
        ]
        for title, runs in by.items()
    ]
    return table(["", *(f"`{t}` log loss" for t in TASKS), *(f"`{t}` ECE" for t in TASKS)], lines)


def errors(runs: Sequence[Result]) -> str:
    """Of one method, the ECE by surface and task, and what perfect predictions would have by chance."""
    lines = []
    for surface in SURFACES:
        cells = []
        for task in TASKS:
            found = [run["surfaces"][surface][task] for run in runs]
            before, after, chance = (
                float(np.mean([m[k] for m in found])) for k in ("ece_before", "ece_after", "ece_by_chance")
            )
            rows = found[0]["rows"]
            met = "" if meets(rows, before, after) else " **missed**"
            cells.append(f"{before:.4f} → {after:.4f} ({chance:.4f}){met}")
        lines.append([f"{surface} ({rows:,} rows)", *cells])
    return table(["", *(f"`{task}` (by chance)" for task in TASKS)], lines)


def unbiased(runs: Sequence[Result]) -> str:
    """Of one method, the root of the mean squared calibration error over seeds, by surface and task; 0 where chance
    explains it all.
    """

    def root(surface: str, task: str, when: str) -> float:
        return float(np.sqrt(max(0.0, np.mean([run["surfaces"][surface][task][f"squared_{when}"] for run in runs]))))

    lines = [[s, *(f"{root(s, t, 'before'):.4f} → {root(s, t, 'after'):.4f}" for t in TASKS)] for s in SURFACES]
    return table(["", *(f"`{task}`" for task in TASKS)], lines)


def meets(rows: int, before: float, after: float) -> bool:
    """Whether an ECE is as low as is aimed at.

    >>> [meets(9000, 0.03, 0.012), meets(9000, 0.012, 0.009), meets(500, 0.03, 0.014), meets(500, 0.019, 0.02)]
    [False, True, True, True]
    """
    return (rows < LARGE or after < LOW) and (before <= HIGH or after <= before / 2)


def spread(values: Iterable[float]) -> str:
    """Mean and standard deviation.

    >>> spread([0.7, 0.72])
    '0.7100 ± 0.0141'
    """
    found = list(values)
    return f"{np.mean(found):.4f}" + (f" ± {np.std(found, ddof=1):.4f}" if len(found) > 1 else "")


def _over(runs: Sequence[Result], surface: str, of: Callable[[Any], float | None]) -> str:
    values = [x for run in runs if (x := of(run["surfaces"][surface])) is not None]
    return spread(values) if values else "undefined"


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose first column is text."""
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, rule, *lines])
