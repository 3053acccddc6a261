"""How a guard's verdicts hold when a text is written otherwise: perturbed, jailbroken, translated, or adversarial.

The guard is asked again about each perturbed row, and about both texts of each pair; the figures are pure functions of
the answers. Flips and pairs have Wilson's intervals, which treat rows as independent, and F1's change a bootstrap
paired by prompt.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np

from wizloop.loop.context import seed_of
from wizloop.loop.data.similarity import normalize
from wizloop.loop.evaluation.answered_rows import AGAIN, AnsweredRow, BenchmarkRow, Perturbed
from wizloop.loop.evaluation.origins import Kind, Origin, is_rewritten
from wizloop.loop.evaluation.perturbations import PERTURBATIONS, perturbed
from wizloop.loop.evaluation.scoring import Interval, Rate, Reliability, ScoredRow, calibration, rate, reliability
from wizloop.loop.guard.judge import BATCH, Judge
from wizloop.loop.guard.published.judge import PublishedJudge
from wizloop.loop.guard.rendering import InputText
from wizloop.loop.measures.promotion import Difference, LabeledVerdicts, compare_f1
from wizloop.loop.words import LETS_THROUGH, TASKS, Task

PAIRS: Final = "pairs"
"""The name that asks for the rewrites that the data itself has."""

AnyJudge = Judge | PublishedJudge
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Flips:
    """One task of one benchmark under one perturbation."""

    benchmark: str
    task: Task
    perturbation: str
    family: str
    n: int
    """Labeled rows."""
    changed: int
    """Of these, the rows whose text the perturbation changes."""
    flipped: Rate
    """Changed verdicts, of the changed rows that were read before and after."""
    to_passed: int
    """Flips from a verdict that blocks to the one that lets through."""
    to_blocked: int
    unparsed: int
    """Changed rows that were read before and not after."""
    cut: int
    """Changed rows whose text was cut to the guard's limit."""
    f1: Difference
    """F1 of the positive label over all labeled rows: champion is before, challenger after."""
    p: float
    """Exact McNemar test of being right before and after, two-sided."""


@dataclass(frozen=True)
class Pairs:
    """The pairs of one kind and request label in a benchmark, both texts asked as prompts alone."""

    benchmark: str
    kind: Kind
    label: str | None
    n: int
    prompts: int
    """Distinct plain texts."""
    unparsed: int
    """Pairs with a verdict that could not be read, which are left out below."""
    plain: Rate
    """Pairs whose plain text is blocked."""
    rewritten: Rate
    both: Rate
    attack_success: Rate
    """Rewritten texts that are let through, of the pairs whose plain text is blocked."""
    p: float
    """Exact McNemar test of being blocked as plain and as rewritten, two-sided."""


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
    calibrated: Sequence[Calibrated] = ()


class Pair(NamedTuple):
    """Verdicts on both texts of a pair, on the task `request`."""

    kind: Kind
    label: str | None
    prompt: str
    """The plain text."""
    plain: str | None
    rewritten: str | None


def to_json(found: Sequence[Robustness]) -> dict[str, Any]:
    """Return the figures of all benchmarks; empty where there are none."""
    lists = {
        "perturbations": [_flips_json(one) for each in found for one in each.flips],
        "pairs": [asdict(one) for each in found for one in each.pairs],
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

    def rng(*parts: str) -> np.random.Generator:
        return np.random.default_rng(seed_of(seed, 0, "evaluate", "robustness", benchmark, *parts))

    labeled = [task for task in TASKS if any(task in row.labels for row in answered)]
    apart = calibrated(answered, [one.style for one in origins], "style", rng=rng("style"))
    if by is not None:
        apart += calibrated(answered, [one.group for one in origins], by, rng=rng("group"))
    each = [flips(answered, task, name, rng=rng(task, name)) for task in labeled for name in names]
    return Robustness(each, pairs(benchmark, found), apart), answered


def ask_perturbed(
    judge: AnyJudge,
    benchmark: str,
    rows: Sequence[BenchmarkRow],
    answered: Sequence[AnsweredRow],
    names: Sequence[str],
    *,
    seed: int,
    tell: Tell,
) -> list[AnsweredRow]:
    """Ask a guard about every row that a perturbation changes; return the answered rows with these answers."""
    found: list[dict[str, Perturbed]] = [{} for _ in rows]
    for name in names:
        texts = [_perturbed(name, row, seed) for row in rows]
        asked = [
            at for at, (row, text) in enumerate(zip(rows, texts, strict=True)) if name == AGAIN or differs(row, text)
        ]
        tell(f"{benchmark}: {name}, {len(asked):,} rows")
        draws = seed_of(seed, 0, "evaluate", "again" if name == AGAIN else "evaluate", benchmark)
        for at, answer in zip(asked, answers(judge, [texts[at] for at in asked], draws), strict=True):
            found[at][name] = answer
    return [replace(row, perturbed=each) for row, each in zip(answered, found, strict=True)]


def differs(row: BenchmarkRow, text: InputText) -> bool:
    """Return whether a perturbation changed a row."""
    return (row.prompt, row.response) != (text.prompt, text.response)


def _perturbed(name: str, row: BenchmarkRow, seed: int) -> InputText:
    if name == AGAIN:
        return InputText(row.prompt, row.response)
    return InputText(
        perturbed(name, row.prompt, seed), None if row.response is None else perturbed(name, row.response, seed)
    )


def answers(judge: AnyJudge, texts: Sequence[InputText], seed: int) -> Iterator[Perturbed]:
    """Yield a guard's answers on texts."""
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        for text, one in zip(batch, judge.answers(batch, seed=seed), strict=True):
            said = one.judgement
            yield Perturbed(text.prompt, text.response, said.verdict, said.probability, one.direct.cut > 0)


def with_control(judge: AnyJudge, names: Sequence[str]) -> tuple[str, ...]:
    """Return the perturbations, with the control before them where a verdict is the vote of drawn traces."""
    drawn = isinstance(judge, Judge) and judge.calibration.votes
    return (AGAIN, *names) if names and drawn else tuple(names)


def flips(
    answered: Sequence[AnsweredRow], task: Task, name: str, *, rng: np.random.Generator, resamples: int = 1000
) -> Flips:
    """Compare the verdicts on a task before and after a perturbation, over the labeled rows; there must be one."""
    rows = [row for row in answered if task in row.labels]
    asked = [(row.verdict.get(task), row.perturbed[name]) for row in rows if row.perturbed and name in row.perturbed]
    now = [(old, one.verdict.get(task)) for old, one in asked]
    read = [(old, new) for old, new in now if old is not None and new is not None]
    passes = LETS_THROUGH[task]
    before, after = _verdicts(rows, task), _verdicts(rows, task, name)
    right = [
        (x == label, y == label) for x, y, label in zip(before.verdicts, after.verdicts, before.labels, strict=True)
    ]
    return Flips(
        benchmark=rows[0].benchmark,
        task=task,
        perturbation=name,
        family=PERTURBATIONS[name].family if name in PERTURBATIONS else "control",
        n=len(rows),
        changed=len(asked),
        flipped=rate(old != new for old, new in read),
        to_passed=sum(new == passes != old for old, new in read),
        to_blocked=sum(old == passes != new for old, new in read),
        unparsed=sum(old is not None and new is None for old, new in now),
        cut=sum(one.cut for _, one in asked),
        f1=compare_f1(before, after, task, rng, resamples),
        p=_p(right),
    )


def _verdicts(rows: Sequence[AnsweredRow], task: Task, name: str | None = None) -> LabeledVerdicts:
    """Return the verdicts as they are, or after a perturbation; a row that it does not change keeps its own."""
    answers: list[AnsweredRow | Perturbed] = [(row.perturbed or {}).get(name or "", row) for row in rows]
    labels, verdicts = [row.labels[task] for row in rows], [one.verdict.get(task) for one in answers]
    return LabeledVerdicts(range(len(rows)), labels, verdicts, [normalize(row.prompt) for row in rows])


def _p(pairs: Sequence[tuple[bool, bool]]) -> float:
    return mcnemar(sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs))


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the two-sided p of McNemar's exact test from the two counts of discordant rows; 1 without any."""
    from scipy.stats import binomtest

    n = only_first + only_second
    return float(binomtest(only_first, n, 0.5).pvalue) if n else 1.0


def ask_pairs(
    judge: AnyJudge, benchmark: str, rows: Sequence[BenchmarkRow], origins: Sequence[Origin], *, seed: int, tell: Tell
) -> list[Pair]:
    """Ask a guard about the plain and the rewritten text of each row that has both, as prompts alone."""
    paired = [
        (row, origin.original)
        for row, origin in zip(rows, origins, strict=True)
        if origin.original is not None and is_rewritten(row.prompt, origin.original)
    ]
    if not paired or "request" not in judge.tasks:
        return []
    texts = list(dict.fromkeys(text for row, original in paired for text in (original.text, row.prompt)))
    tell(f"{benchmark}: {len(paired):,} pairs, {len(texts):,} texts")
    draws = seed_of(seed, 0, "evaluate", "evaluate", benchmark)
    said = answers(judge, [InputText(text) for text in texts], draws)
    verdict = {text: one.verdict.get("request") for text, one in zip(texts, said, strict=True)}
    return [
        Pair(original.kind, row.labels.get("request"), original.text, verdict[original.text], verdict[row.prompt])
        for row, original in paired
    ]


def pairs(benchmark: str, found: Sequence[Pair]) -> list[Pairs]:
    """Count what is blocked, by kind and request label."""
    keys = dict.fromkeys((one.kind, one.label) for one in found)
    return [_pairs(benchmark, [one for one in found if (one.kind, one.label) == key]) for key in keys]


def _pairs(benchmark: str, found: Sequence[Pair]) -> Pairs:
    passes = LETS_THROUGH["request"]
    read = [(one.plain != passes, one.rewritten != passes) for one in found if one.plain and one.rewritten]
    return Pairs(
        benchmark=benchmark,
        kind=found[0].kind,
        label=found[0].label,
        n=len(found),
        prompts=len({normalize(one.prompt) for one in found}),
        unparsed=len(found) - len(read),
        plain=rate(a for a, _ in read),
        rewritten=rate(b for _, b in read),
        both=rate(a and b for a, b in read),
        attack_success=rate(not b for a, b in read if a),
        p=_p(read),
    )


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
    figures = calibration(scored, task, rng, resamples)
    return Calibrated(rows[0].benchmark, task, by, value, len(scored), **figures, reliability=reliability(scored, task))


def _flips_json(one: Flips) -> dict[str, Any]:
    f1 = one.f1
    change = {
        "before": f1.champion,
        "after": f1.challenger,
        "difference": f1.difference,
        "low": f1.low,
        "high": f1.high,
    }
    return asdict(one) | {"f1": change}
