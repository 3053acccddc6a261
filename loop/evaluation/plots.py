"""Plot an evaluation: reliability, risk against coverage, confusion. PNG files, without a display."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wizloop.loop.evaluation.scoring import BenchmarkResult, ScoredRow, reliability
from wizloop.loop.words import DEFAULT, Declaration, Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(
    folder: Path, number: int, one: BenchmarkResult, rows: Sequence[ScoredRow], declared: Declaration = DEFAULT
) -> dict[str, Path]:
    """Draw the plots of one benchmark and return their files by heading; all but confusion need probabilities."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    given = [row for row in rows if row.probability is not None]
    paths: dict[str, Path] = {}
    for name, paint in _PLOTS.items():
        if name != "confusion" and not given:
            continue
        figure = Figure(figsize=(5, 4), layout="constrained")
        FigureCanvasAgg(figure)
        paint(figure.add_subplot(), rows if name == "confusion" else given, one.task, declared)
        path = folder / f"{number:02d}-{name}.png"
        figure.savefig(path, dpi=120)
        paths[f"{one.name}, {one.task}: {name}"] = path
    return paths


def _confusion(axes: "Axes", rows: Sequence[ScoredRow], task: Task, declared: Declaration) -> None:
    labels = declared[task]
    columns = [*labels, "unparsed"]
    counts = np.array(
        [
            [sum(row.label == label and (row.verdict or "unparsed") == verdict for row in rows) for verdict in columns]
            for label in labels
        ]
    )
    axes.imshow(counts, cmap="Greys", vmin=0, vmax=max(int(counts.max()) * 2, 1))
    for (y, x), count in np.ndenumerate(counts):
        axes.text(x, y, f"{count:,}", ha="center", va="center")
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel("verdict")
    axes.set_ylabel("label")


def _reliability(axes: "Axes", rows: Sequence[ScoredRow], task: Task, declared: Declaration) -> None:
    bins = reliability(rows, task, declared)
    axes.plot([0, 1], [0, 1], linestyle=":", color="gray")
    axes.plot([one.mean for one in bins], [one.positive for one in bins], marker="o", color="black")
    for one in bins:
        axes.annotate(f"{one.n:,}", (one.mean, one.positive), textcoords="offset points", xytext=(4, -10), fontsize=7)
    axes.set_xlabel(f"P({declared.positive(task)})")
    axes.set_ylabel(f"share that is {declared.positive(task)}")


def _risk_coverage(axes: "Axes", rows: Sequence[ScoredRow], task: Task, declared: Declaration) -> None:
    p = np.array([row.probability for row in rows], dtype=np.float64)
    wrong = np.array([row.verdict != row.label for row in rows], dtype=np.float64)
    surest_first = np.argsort(-np.abs(p - 0.5), kind="stable")
    kept = np.arange(1, len(rows) + 1)
    axes.plot(kept / len(rows), np.cumsum(wrong[surest_first]) / kept, color="black")
    axes.set_xlabel("coverage: share of rows answered, most confident first")
    axes.set_ylabel(f"risk: share of wrong {task} verdicts")
    axes.set_ylim(bottom=0)


_PLOTS = {"confusion": _confusion, "reliability": _reliability, "risk-coverage": _risk_coverage}
