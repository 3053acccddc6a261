"""F1 by round as a plot with intervals. Computes only positions on a grid."""

from collections.abc import Sequence

from textual.app import RenderResult
from textual_plotext import PlotextPlot

from wizloop.console.words import TASKS
from wizloop.store.display import shown
from wizloop.store.overview import RoundSummary

_MARKS = dict(zip(TASKS, "ox+", strict=True))
"""A mark for each task, so that color is not the only signal."""
_CELLS = 30
"""Approximate columns between the first and the last round."""
_COLORS = dict(zip(TASKS, ("cyan", "orange", "green"), strict=True))


class F1Plot(PlotextPlot):
    """The plot: a mark for each task and round, and its 95 % interval as a line."""

    _rounds: Sequence[RoundSummary] | None = None
    _drawn: tuple[object, RenderResult] | None = None
    """The cached picture and what it was drawn for: drawing takes longer than the response to a key may."""

    def render(self) -> RenderResult:
        """Return the cached picture, unless the rounds, the size or the theme has changed."""
        drawn_for = (self.size, self.app.theme)
        if self._drawn is None or self._drawn[0] != drawn_for:
            self._drawn = (drawn_for, super().render())
        return self._drawn[1]

    def show(self, rounds: Sequence[RoundSummary]) -> None:
        """Draw test, or another benchmark if there is no test; do nothing if these rounds are shown already."""
        if rounds == self._rounds:
            return
        self._rounds, self._drawn = rounds, None
        plt = self.plt
        plt.clear_figure()
        benchmark = _benchmark(rounds)
        plt.title(f"F1 on {shown(benchmark, 40)}, 95 % intervals" if benchmark else "F1 by round: nothing measured yet")
        # Side by side, so that an interval belongs visibly to one task without color too.
        shift = max(len(rounds) - 1, 1) / _CELLS
        for place, (task, mark) in enumerate(_MARKS.items(), start=-1):
            if points := _points(rounds, benchmark, task):
                measured, middles, spans = zip(*points, strict=True)
                xs = [number + place * shift for number in measured]
                plt.error(xs, middles, yerr=spans, color=_COLORS[task])
                plt.scatter(xs, middles, marker=mark, color=_COLORS[task])
        # Not a legend, which would cover the first round.
        plt.xlabel("  ".join(f"{mark} {task}" for task, mark in _MARKS.items()) if benchmark else "")
        numbers: list[float] = [summary.round.number for summary in rounds] or [0]
        plt.xticks(numbers)
        # Where one task is measured, its marks alone would leave the last round's tick outside.
        plt.xlim(numbers[0] - shift, numbers[-1] + shift)
        plt.ylim(0, 100)
        self.refresh()


def _points(rounds: Sequence[RoundSummary], benchmark: str, task: str) -> list[tuple[int, float, float]]:
    """Return (round, F1, length of its interval) in percent for each measured round."""
    points = []
    for summary in rounds:
        for row in summary.evaluations:
            f1, low, high = (row.metrics.get(name) for name in ("f1", "low", "high"))
            if (row.benchmark, row.task) == (benchmark, task) and f1 is not None:
                span = 0.0 if low is None or high is None else 100 * (high - low)
                points.append((summary.round.number, 100 * f1, span))
    return points


def _benchmark(rounds: Sequence[RoundSummary]) -> str:
    names = sorted({row.benchmark for summary in rounds for row in summary.evaluations})
    named = [name for name in names if name not in ("dev", "test")]
    return "test" if "test" in names else (named or names or [""])[0]
