"""Flips, from answers that are given here; asking is tested in the command."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import pytest
from statsmodels.stats.contingency_tables import mcnemar as referee

from tests.loop.evaluation.answers import FINE, HARM, row
from tests.loop.stand_in import StandInGuard
from wizloop.backends.guard_types import Encoded, Sampled, Sampling
from wizloop.loop.evaluation import benchmark_guard
from wizloop.loop.evaluation.answered_rows import AGAIN, BenchmarkRow, Perturbed
from wizloop.loop.evaluation.flips import ask_perturbed, flips, with_control
from wizloop.loop.guard.judge import Judge, Limits
from wizloop.loop.guard.rendering import Renderer
from wizloop.loop.measures.calibration import Calibration
from wizloop.recipes import schema


def test_flips_are_counted_by_direction_among_rows_that_were_read_twice() -> None:
    rows = [
        row(HARM, HARM, FINE, 0),
        row(HARM, HARM, FINE, 1),
        row(HARM, HARM, HARM, 2),
        row(FINE, FINE, HARM, 3),
        row(FINE, FINE, FINE, 4),
        row(HARM, HARM, None, 5),
        row(HARM, None, HARM, 6),
        row(HARM, HARM, "same", 7),
    ]
    (found,) = flips(rows, "request", ["upper"], seed=1)
    assert (found.n, found.changed, found.flipped.k, found.flipped.n) == (8, 7, 3, 5)
    assert (found.to_passed, found.to_blocked, found.unparsed, found.cut) == (2, 1, 1, 3)
    # Right before: all but row 6; right after: 2, 4, 6, 7.
    assert found.paired.mcnemar == pytest.approx(referee([[3, 4], [1, 0]], exact=True).pvalue)
    f1 = found.to_json()["f1"]
    assert (f1["before"], f1["after"]) == (pytest.approx(10 / 11), pytest.approx(6 / 10))
    assert f1["low"] < f1["difference"] < f1["high"]
    assert [one.flips for one in rows] == [1, 1, 0, 1, 0, 0, 0, 0]


def test_the_control_is_no_flip_of_a_row() -> None:
    again = Perturbed("a", None, {"request": FINE}, {}, cut=False)
    assert replace(row(HARM, HARM, HARM), perturbed={AGAIN: again}).flips == 0


class Seeded(StandInGuard):
    """A stand-in that remembers with which seeds its traces were drawn."""

    def __init__(self) -> None:
        super().__init__(0.5, [])
        self.seeds: list[int] = []

    def sample(self, prompts: Sequence[Encoded], sampling: Sampling) -> list[list[Sampled]]:
        self.seeds.append(sampling.seed)
        return super().sample(prompts, sampling)


def judged(guard: StandInGuard, source: Literal["direct", "traces"]) -> Judge:
    recipe = schema.load("demo")
    return Judge(guard, Renderer("Judge this."), Calibration(source={"request": source}), Limits.of(recipe))


def test_drawn_verdicts_have_a_control_that_asks_the_same_texts_with_other_draws() -> None:
    guard = Seeded()
    assert with_control(judged(guard, "direct"), ["upper"]) == ("upper",)
    judge = judged(guard, "traces")
    assert with_control(judge, []) == ()
    names = with_control(judge, ["lower", "upper"])
    assert names == (AGAIN, "lower", "upper")
    rows = [BenchmarkRow(f"a bomb of kind {at}", None, {"request": HARM}, None) for at in range(4)]
    _, before = benchmark_guard.evaluate(judge, "mine", rows, seed=1)
    told: list[str] = []
    after = ask_perturbed(judge, "mine", rows, before, names, seed=1, tell=told.append)
    assert told == ["mine: again, 4 rows", "mine: lower, 0 rows", "mine: upper, 4 rows"]
    assert [[one.prompt for one in (row.perturbed or {}).values()] for row in after] == [
        [row.prompt, row.prompt.upper()] for row in rows
    ]
    measured, again, last = guard.seeds
    assert (again == measured, last == measured) == (False, True)
    found, lower, upper = flips(after, "request", names, seed=1)
    assert (found.family, found.changed, lower.changed, upper.changed) == ("control", 4, 0, 4)
    # The unchanged rows have no difference to test.
    assert (lower.paired.p, lower.flipped.n, lower.paired.f1.difference) == (1.0, 0, 0.0)
