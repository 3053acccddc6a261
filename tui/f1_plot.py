"""F1 of the base and of each round as a plot with intervals. Computes only positions on a grid."""

from collections.abc import Mapping, Sequence

from textual.app import RenderResult
from textual_plotext import PlotextPlot

from wizloop.console.standing import heading
from wizloop.console.words import TASKS
from wizloop.store.display import shown
from wizloop.store.overview import BaseSummary, RoundSummary, Summary

_MARKS = dict(zip(TASKS, "ox+", strict=True))
"""A mark for each task, so that color is not the only signal."""
_BASELINE_MARKS = {"all_harmful": "-", "tfidf": "t"}
_AXIS = 5
"""Columns of the y axis's figures."""
_CELLS = 30
"""Approximate columns between the first and the last round."""
_COLORS = dict(zip(TASKS, ("cyan", "orange", "green"), strict=True))


class F1Plot(PlotextPlot):
    """The plot: a mark for each task and round, and its 95 % interval as a line."""

    _rounds: Sequence[Summary] | None = None
    _marks: tuple[Mapping[str, str], Mapping[str, str]] = ({}, {})
    """By name: those of the tasks, and all."""
    _drawn: tuple[object, RenderResult] | None = None
    """The cached picture and what it was drawn for: drawing takes longer than the response to a key may."""

    def render(self) -> RenderResult:
        """Return the cached picture, unless the rounds, the size or the theme has changed."""
        drawn_for = (self.size, self.app.theme)
        if self._drawn is None or self._drawn[0] != drawn_for:
            self.plt.xlabel(self._legend())
            self._drawn = (drawn_for, super().render())
        return self._drawn[1]

    def _legend(self) -> str:
        """Name the marks below the plot, where no round can be covered; the baselines only if they fit.

        A line that is too long is not drawn at all.
        """
        tasks, every = ("  ".join(f"{mark} {name}" for name, mark in marks.items()) for marks in self._marks)
        return every if len(every) <= self.size.width - _AXIS else tasks

    def show(self, base: BaseSummary | None, of_rounds: Sequence[RoundSummary]) -> None:
        """Draw test, or another benchmark if there is no test; do nothing if these rounds are shown already.

        The baselines are drawn for requests, without intervals.
        """
        rounds: list[Summary] = [*([] if base is None else [base]), *of_rounds]
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
        numbers: list[float] = [_place(summary) for summary in rounds] or [0]
        baselines = _baselines(rounds, benchmark)
        tasks = _MARKS if benchmark else {}
        names = {baseline: _heading(rounds, baseline, benchmark) for baseline in baselines}
        self._marks = (tasks, tasks | {names[baseline]: mark for baseline, (mark, _) in baselines.items()})
        for mark, by_place in baselines.values():
            # Under the marks of requests, which they belong to.
            plt.scatter([at - shift for at in by_place], [*by_place.values()], marker=mark, color="gray")
        plt.xticks(numbers, [summary.name for summary in rounds] or ["0"])
        # Where one task is measured, its marks alone would leave the last round's tick outside.
        plt.xlim(numbers[0] - shift, numbers[-1] + shift)
        plt.ylim(0, 100)
        self.refresh()


def _place(summary: Summary) -> int:
    """Return a round's place on the x axis: the base is left of round 0."""
    return -1 if isinstance(summary, BaseSummary) else summary.round.number


def _baselines(rounds: Sequence[Summary], benchmark: str) -> dict[str, tuple[str, dict[int, float]]]:
    """Return each baseline's mark, and its F1 on requests in percent by place."""
    found = {}
    for baseline, mark in _BASELINE_MARKS.items():
        by_place = {
            _place(summary): 100 * f1
            for summary in rounds
            if (f1 := _figures(summary, baseline, benchmark).get("f1")) is not None
        }
        if by_place:
            found[baseline] = (mark, by_place)
    return found


def _figures(summary: Summary, baseline: str, benchmark: str) -> Mapping[str, float | None]:
    figures: Mapping[str, float | None] = (
        summary.record.get("baselines", {}).get(baseline, {}).get(benchmark, {}).get("request", {})
    )
    return figures


def _heading(rounds: Sequence[Summary], baseline: str, benchmark: str) -> str:
    found = (_figures(summary, baseline, benchmark) for summary in rounds)
    return heading(baseline, {"request": next((one for one in found if one), {})})


def _points(rounds: Sequence[Summary], benchmark: str, task: str) -> list[tuple[int, float, float]]:
    """Return (round, F1, length of its interval) in percent for each measured round."""
    points = []
    for summary in rounds:
        for row in summary.evaluations:
            f1, low, high = (row.metrics.get(name) for name in ("f1", "low", "high"))
            if (row.benchmark, row.task) == (benchmark, task) and f1 is not None:
                span = 0.0 if low is None or high is None else 100 * (high - low)
                points.append((_place(summary), 100 * f1, span))
    return points


def _benchmark(rounds: Sequence[Summary]) -> str:
    names = sorted({row.benchmark for summary in rounds for row in summary.evaluations})
    named = [name for name in names if name not in ("dev", "test")]
    return "test" if "test" in names else (named or names or [""])[0]
