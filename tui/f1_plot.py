"""F1 by round as a plot with its intervals. The figures are the store's; nothing is computed but places on a grid."""

import json
from collections.abc import Sequence

from textual.app import RenderResult
from textual_plotext import PlotextPlot

from wizloop.console.words import TASKS
from wizloop.store.display import shown
from wizloop.store.overview import RoundSummary

_MARKS = dict(zip(TASKS, "ox+", strict=True))
"""Each task with its mark, so that colour is not the only signal."""
_CELLS = 30
"""About so many places lie between the first and the last round."""
_COLOURS = dict(zip(TASKS, ("cyan", "orange", "green"), strict=True))


class F1Plot(PlotextPlot):
    """The plot: a mark for each task and round, and its 95 % interval as a line."""

    _rounds: Sequence[RoundSummary] | None = None
    _drawn: tuple[object, RenderResult] | None = None
    """The picture, and what it was made for: building one takes longer than a key may."""

    def render(self) -> RenderResult:
        """The picture of before, unless the plot, its size or the theme is another."""
        made_for = (self.size, self.app.theme)
        if self._drawn is None or self._drawn[0] != made_for:
            self._drawn = (made_for, super().render())
        return self._drawn[1]

    def show(self, rounds: Sequence[RoundSummary]) -> None:
        """Draw test, or dev where nothing else was measured; nothing where these rounds are drawn already."""
        if rounds == self._rounds:
            return
        self._rounds, self._drawn = rounds, None
        plt = self.plt
        plt.clear_figure()
        benchmark = _benchmark(rounds)
        plt.title(f"F1 on {shown(benchmark, 40)}, 95 % intervals" if benchmark else "F1 by round: nothing measured yet")
        # Side by side, so that without colour too an interval is seen to be one task's.
        aside = max(len(rounds) - 1, 1) / _CELLS
        for place, (task, mark) in enumerate(_MARKS.items(), start=-1):
            points = points_of(rounds, benchmark, task)
            if points:
                numbers, middles, spans = zip(*points, strict=True)
                xs = [number + place * aside for number in numbers]
                plt.error(xs, middles, yerr=spans, color=_COLOURS[task])
                plt.scatter(xs, middles, marker=mark, color=_COLOURS[task])
        # Not a legend, which would stand on the first round.
        plt.xlabel("  ".join(f"{mark} {task}" for task, mark in _MARKS.items()) if benchmark else "")
        plt.xticks([summary.round.number for summary in rounds] or [0])
        plt.ylim(0, 100)
        self.refresh()


def points_of(rounds: Sequence[RoundSummary], benchmark: str, task: str) -> list[tuple[int, float, float]]:
    """(round, middle of the interval, its length) in points of 100, for what was measured."""
    points = []
    for summary in rounds:
        for row in summary.evaluations:
            figures = json.loads(row.metrics_json)
            if (row.benchmark, row.task) == (benchmark, task) and figures.get("f1") is not None:
                low, high = figures.get("low"), figures.get("high")
                span = 0.0 if low is None or high is None else 100 * (high - low)
                points.append((summary.round.number, 100 * figures["f1"], span))
    return points


def _benchmark(rounds: Sequence[RoundSummary]) -> str:
    names = sorted({row.benchmark for summary in rounds for row in summary.evaluations})
    named = [name for name in names if name not in ("dev", "test")]
    return "test" if "test" in names else (named or names or [""])[0]
