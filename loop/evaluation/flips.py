"""How a guard's verdicts change when a text is perturbed: it is asked again about each perturbed row.

Flips have Wilson's interval, which treats rows as independent, and F1's change a bootstrap paired by prompt.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from wizloop.loop.context import seed_of
from wizloop.loop.data.similarity import normalize
from wizloop.loop.evaluation.answered_rows import AGAIN, AnsweredRow, BenchmarkRow, Perturbed
from wizloop.loop.evaluation.perturbations import PERTURBATIONS, perturbed
from wizloop.loop.evaluation.scoring import Rate, rate
from wizloop.loop.guard.judge import BATCH, Judge
from wizloop.loop.guard.published.judge import PublishedJudge
from wizloop.loop.guard.rendering import InputText
from wizloop.loop.measures.classes import REST, against_rest
from wizloop.loop.measures.paired import Pair, Paired, compare
from wizloop.loop.words import Declaration, Task

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
    paired: Paired
    """After (ours) against before (theirs) over all labeled rows; Holm is over the perturbations of the task."""

    def to_json(self) -> dict[str, Any]:
        """Return the figures; those of F1 as before and after."""
        row, f1 = asdict(self), self.paired.f1
        tests = {name: row["paired"][name] for name in ("p", "holm", "mcnemar", "mcnemar_holm", "conclusion")}
        del row["paired"]
        change = {"difference": f1.difference, "low": f1.low, "high": f1.high, "detectable": f1.detectable}
        return row | {"f1": {"before": f1.theirs, "after": f1.ours, **change}} | tests


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


def flips(answered: Sequence[AnsweredRow], task: Task, names: Sequence[str], *, seed: int) -> list[Flips]:
    """Compare the verdicts on a task before and after each perturbation, over the labeled rows; there must be one."""
    rows = [row for row in answered if task in row.labels]
    prompts = [normalize(row.prompt) for row in rows]
    labels, before = [row.labels[task] for row in rows], [row.verdict.get(task) for row in rows]
    after = {name: [(row.perturbed or {}).get(name, row).verdict.get(task) for row in rows] for name in names}
    pairs = [_pair(rows[0].declared, task, labels, now, before, prompts) for now in after.values()]
    found = compare(pairs, seed=seed)
    return [_flips(rows, task, name, paired) for name, paired in zip(names, found, strict=True)]


def _pair(
    declared: Declaration,
    task: Task,
    labels: Sequence[str],
    ours: Sequence[str | None],
    theirs: Sequence[str | None],
    prompts: Sequence[str],
) -> Pair:
    """Return what is compared; of more than two labels the first is held against all others."""
    positive = declared.positive(task)
    if not declared.classes(task):
        return Pair(positive, labels, ours, theirs, prompts)
    held = [label or REST for label in against_rest(labels, positive)]
    return Pair(positive, held, against_rest(ours, positive), against_rest(theirs, positive), prompts)


def _flips(rows: Sequence[AnsweredRow], task: Task, name: str, paired: Paired) -> Flips:
    asked = [(row.verdict.get(task), row.perturbed[name]) for row in rows if row.perturbed and name in row.perturbed]
    now = [(old, one.verdict.get(task)) for old, one in asked]
    read = [(old, new) for old, new in now if old is not None and new is not None]
    declared = rows[0].declared
    passed = [(declared.passes(task, old), declared.passes(task, new)) for old, new in read]
    return Flips(
        benchmark=rows[0].benchmark,
        task=task,
        perturbation=name,
        family=PERTURBATIONS[name].family if name in PERTURBATIONS else "control",
        n=len(rows),
        changed=len(asked),
        flipped=rate(old != new for old, new in read),
        to_passed=sum(new and not old for old, new in passed),
        to_blocked=sum(old and not new for old, new in passed),
        unparsed=sum(old is not None and new is None for old, new in now),
        cut=sum(one.cut for _, one in asked),
        paired=paired,
    )
