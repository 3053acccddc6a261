"""How a guard's verdicts hold when a text is written otherwise: perturbed, rewritten, or adversarial."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from wizloop.loop.context import seed_of
from wizloop.loop.evaluation.answered_rows import AnsweredRow, BenchmarkRow
from wizloop.loop.evaluation.flips import AnyJudge, Flips, Tell, ask_perturbed, flips, with_control
from wizloop.loop.evaluation.origins import Origin
from wizloop.loop.evaluation.rewrites import Contrasts, Pairs, ask_pairs, contrasts, pairs
from wizloop.loop.evaluation.scoring import Interval, Reliability, ScoredRow, calibration, reliability
from wizloop.loop.words import TASKS, Task

PAIRS: Final = "pairs"
"""The name that asks for the rewrites that the data itself has."""


@dataclass(frozen=True)
class Calibrated:
    """Calibration of P(positive) on the adversarial or the plain rows, or on those of one group."""

    benchmark: str
    task: Task
    by: str
    """What the rows have in common: "style", or the column."""
    value: str
    n: int
    """Rows with a probability."""
    ece: Interval
    brier: Interval
    auroc: Interval
    reliability: Sequence[Reliability]


@dataclass(frozen=True)
class Robustness:
    """What is known of one benchmark."""

    flips: Sequence[Flips] = ()
    pairs: Sequence[Pairs] = ()
    contrasts: Sequence[Contrasts] = ()
    calibrated: Sequence[Calibrated] = ()
    asked: int = 0
    """Texts that the guard was asked about for this."""


def to_json(found: Sequence[Robustness]) -> dict[str, Any]:
    """Return the figures of all benchmarks; empty where there are none."""
    lists = {
        "perturbations": [one.to_json() for each in found for one in each.flips],
        "pairs": [asdict(one) for each in found for one in each.pairs],
        "contrasts": [asdict(one) for each in found for one in each.contrasts],
        "calibration": [asdict(one) for each in found for one in each.calibrated],
    }
    return {"robustness": lists} if any(lists.values()) else {}


def measure(
    judge: AnyJudge,
    benchmark: str,
    rows: Sequence[BenchmarkRow],
    answered: Sequence[AnsweredRow],
    origins: Sequence[Origin],
    wanted: Sequence[str],
    by: str | None,
    *,
    seed: int,
    tell: Tell,
) -> tuple[Robustness, Sequence[AnsweredRow]]:
    """Ask a guard again for what is `wanted`; return the figures, and the answered rows with the new answers.

    `by` is the column of the origins' groups. Calibration apart asks nothing, so it is always there.
    """
    names = with_control(judge, [name for name in wanted if name != PAIRS])
    if names:
        answered = ask_perturbed(judge, benchmark, rows, answered, names, seed=seed, tell=tell)
    found = ask_pairs(judge, benchmark, rows, origins, seed=seed, tell=tell) if PAIRS in wanted else []
    twins = contrasts(answered, [one.contrast for one in origins]) if PAIRS in wanted else []

    def rng(*parts: str) -> np.random.Generator:
        return np.random.default_rng(seed_of(seed, 0, "evaluate", "robustness", benchmark, *parts))

    labeled = [task for task in TASKS if any(task in row.labels for row in answered)]
    apart = calibrated(answered, [one.style for one in origins], "style", rng=rng("style"))
    if by is not None:
        apart += calibrated(answered, [one.group for one in origins], by, rng=rng("group"))
    found_flips = [one for task in labeled for one in flips(answered, task, names, seed=seed)]
    texts = {text for one in found for text in (one.prompt, one.rewrite)}
    asked = len(texts) + sum(len(row.perturbed or ()) for row in answered)
    return Robustness(found_flips, pairs(benchmark, found), twins, apart, asked), answered


def calibrated(
    answered: Sequence[AnsweredRow],
    values: Sequence[str | None],
    by: str,
    *,
    rng: np.random.Generator,
    resamples: int = 500,
) -> list[Calibrated]:
    """Return the calibration of each task on the rows of each value; none where all rows have one value or no p."""
    if len(set(values)) < 2:
        return []
    return [
        one
        for task in TASKS
        for value in sorted({value for value in values if value is not None})
        if (
            one := _calibrated(
                [row for row, each in zip(answered, values, strict=True) if each == value],
                task,
                by,
                value,
                rng,
                resamples,
            )
        ).n
    ]


def _calibrated(
    rows: Sequence[AnsweredRow], task: Task, by: str, value: str, rng: np.random.Generator, resamples: int
) -> Calibrated:
    scored = [
        ScoredRow(row.prompt, row.labels[task], row.verdict.get(task), row.probability[task])
        for row in rows
        if task in row.labels and task in row.probability
    ]
    declared = rows[0].declared
    figures = calibration(scored, task, rng, resamples, declared)
    bins = reliability(scored, task, declared)
    return Calibrated(rows[0].benchmark, task, by, value, len(scored), **figures, reliability=bins)
