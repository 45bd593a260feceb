"""The plot of the serving benchmark: each variant's time against the floor, by candidates."""

from __future__ import annotations

from pathlib import Path

from benchmarks.results import Result, Row

SHOWN = {
    "unified eager": "#b8b8b8",
    "unified TorchScript": "#8a8a8a",
    "slice -O0": "#d98c4a",
    "slice -O2": "#1f6fb5",
    "slice -O3": "#14b8a6",
    "expert": "#b5352f",
}


def plot(result: Result, folder: Path) -> bool:
    """Writes `NAME.svg`; false without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = result.name
    import matplotlib.pyplot as plt

    cases: list[Row] = [row for row in result.raw["cases"] if row["requests"] == 1]
    threads = sorted({row["threads"] for row in cases})
    figure, axes = plt.subplots(1, len(threads), figsize=(5.2 * len(threads), 4), sharey=True, squeeze=False)
    for axis, count in zip(axes[0], threads, strict=True):
        rows = [row for row in cases if row["threads"] == count]
        sizes = [row["candidates"] for row in rows]
        for name, colour in SHOWN.items():
            if name in rows[0]["times"]:
                axis.plot(sizes, [row["times"][name]["median"] for row in rows], "o-", ms=3, label=name, color=colour)
        axis.plot(sizes, [row["floor"] for row in rows], "k--", lw=1, label="floor")
        axis.set(xscale="log", yscale="log", xlabel="candidates", title=f"{count} thread{'s' if count > 1 else ''}")
    axes[0][0].set_ylabel("ms a call, median")
    axes[0][0].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(folder / f"{result.name}.svg", metadata={"Date": None})
    plt.close(figure)
    return True
