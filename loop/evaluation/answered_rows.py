"""Rows that a guard answered, beside their labels: what `--rows` writes, and the errors among them.

An error is of a task: a false positive, a false negative, or an answer that cannot be read. Its effect is on the row: a
benign one is refused, or a harmful one is let through.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, Protocol, TextIO

from wizloop.loop.evaluation.scoring import ScoredRow
from wizloop.loop.measures.promised_error import Decision
from wizloop.loop.stored_samples import labels_of
from wizloop.loop.words import DEFAULT, TASKS, Declaration, Task, by_task
from wizloop.store.samples import Sample

Error = Literal["false_positive", "false_negative", "unparsed"]
Effect = Literal["over_refusal", "let_through"]
KINDS = ("false_positive", "false_negative", "unparsed", "over_refusal", "let_through")
"""The order in which errors are listed."""
NO_POLICY = ""
AGAIN = "again"
"""The unchanged text, asked with other draws: what flips without any perturbation, where traces are drawn."""


@dataclass(frozen=True, slots=True)
class BenchmarkRow:
    """One row of a benchmark."""

    prompt: str
    response: str | None
    labels: Mapping[Task, str]
    group: str | None
    """Policy or attack of the row."""
    row: str = ""
    """File name and row number of the source."""
    sample: int | None = None
    """Id in the workspace."""
    categories: Sequence[str] | None = None
    """As its source names them; None where it does not say."""


class _Answer(Protocol):
    """A guard's answer to a row, given now or stored."""

    @property
    def verdict(self) -> Mapping[str, str | None]: ...
    @property
    def probability(self) -> Mapping[str, float]: ...
    @property
    def confidence(self) -> float | None: ...
    @property
    def cell(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Perturbed:
    """A guard's answer on a perturbed row."""

    prompt: str
    response: str | None
    verdict: Mapping[str, str | None]
    probability: Mapping[str, float]
    cut: bool
    """Whether the text was cut to the guard's limit."""

    def to_json(self, *, texts: bool) -> dict[str, Any]:
        """Return the answer, with its texts if asked."""
        found = {"verdict": by_task(self.verdict), "probability": by_task(self.probability), "cut": self.cut}
        return found | {"prompt": self.prompt, "response": self.response} if texts else found


@dataclass(frozen=True, slots=True)
class AnsweredRow:
    """One row of a benchmark with the guard's answer."""

    benchmark: str
    row: str
    """File name and row number of the source."""
    sample: int | None
    """Id in the workspace; None for a row of a file."""
    prompt: str
    response: str | None
    main: Task
    """The task that decides whether the row is allowed."""
    labels: Mapping[Task, str]
    """Known labels of the tasks that the guard judges."""
    verdict: Mapping[str, str | None]
    probability: Mapping[str, float]
    confidence: float | None
    cell: str | None
    policy: str | None
    perturbed: Mapping[str, Perturbed] | None = None
    """Answers by perturbation, of those that change the row; None if it was not asked again."""
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    """What is done with the row by task; empty without a promise."""
    declared: Declaration = DEFAULT
    """The label words of its labels and verdicts."""
    source_categories: Sequence[str] | None = None
    """The row's categories as its source names them; None where it does not say."""
    true_categories: Sequence[str] | None = None
    """Of the guard's categories those that the row is in; None where its labels do not say."""
    categories: Sequence[str] | None = None
    """Those that the guard names; None for a guard without categories, and where they cannot be read."""
    names: Sequence[str] = ()
    """The guard's categories; empty for a guard without."""
    category_p: Mapping[str, float] = field(default_factory=dict)
    """P(the row is in it) by category."""

    def error(self, task: Task) -> Error | None:
        """Return what is wrong about the verdict on a task; None if it is right, or without a label."""
        label, verdict = self.labels.get(task), self.verdict.get(task)
        if label is None or verdict == label:
            return None
        if verdict is None:
            return "unparsed"
        words = self.declared[task]
        return "false_positive" if words.index(verdict) < words.index(label) else "false_negative"

    @property
    def effect(self) -> Effect | None:
        """What the error on the main task does; None if it changes nothing, or if no verdict can be read."""
        if self.error(self.main) in (None, "unparsed"):
            return None
        passes = self.declared.passes(self.main, self.labels[self.main])
        if passes == self.declared.passes(self.main, self.verdict.get(self.main)):
            return None
        return "over_refusal" if passes else "let_through"

    @property
    def known_categories(self) -> Sequence[str]:
        """Those that it is known to be in: of the guard's categories, or for a guard without as its source says."""
        return (self.true_categories if self.names else self.source_categories) or ()

    @property
    def right(self) -> bool | None:
        """Whether every labeled task is right; None without a label."""
        return all(self.error(task) is None for task in self.labels) if self.labels else None

    @property
    def flips(self) -> int:
        """Number of perturbations that change the verdict on the main task to another one."""
        before = self.verdict.get(self.main)
        now = [one.verdict.get(self.main) for name, one in (self.perturbed or {}).items() if name != AGAIN]
        return sum(before is not None and each is not None and each != before for each in now)

    def to_json(self, *, texts: bool = False) -> dict[str, Any]:
        """Return the row as `--rows` writes it; every row has the same keys, with prompt and response if asked."""
        row: dict[str, Any] = {
            "benchmark": self.benchmark,
            "row": self.row,
            "sample": self.sample,
            "policy": self.policy,
            "label": by_task(self.labels),
            "verdict": by_task(self.verdict),
            "probability": by_task(self.probability),
            "confidence": self.confidence,
            "cell": self.cell,
            "right": self.right,
            "error": {task: self.error(task) for task in TASKS},
            "effect": self.effect,
        }
        if self.perturbed is not None:
            row["flips"] = self.flips
            row["perturbed"] = {name: one.to_json(texts=texts) for name, one in self.perturbed.items()}
        if self.decisions:
            row["decision"] = self.decisions.get(self.main)
        if self.names:
            row |= {"categories": _listed(self.categories), "category_labels": _listed(self.true_categories)}
            row["category_probability"] = {name: self.category_p.get(name) for name in self.names}
        return row | {"prompt": self.prompt, "response": self.response} if texts else row


def _listed(names: Sequence[str] | None) -> list[str] | None:
    return None if names is None else list(names)


def of_sample(one: Sample, declared: Declaration) -> BenchmarkRow:
    """Return a sample of the workspace as a row."""
    return BenchmarkRow(one.prompt, one.response, labels_of(one, declared), one.policy, one.row_ref, one.id)


def answered_row(
    benchmark: str,
    row: BenchmarkRow,
    found: _Answer,
    tasks: Collection[str] = TASKS,
    decisions: Mapping[str, Decision] = MappingProxyType({}),
    declared: Declaration = DEFAULT,
) -> AnsweredRow:
    """Return a row with a guard's answer; labels of other tasks than `tasks` are left out."""
    return AnsweredRow(
        benchmark=benchmark,
        row=row.row,
        sample=row.sample,
        prompt=row.prompt,
        response=row.response,
        main=declared.main_task(row),
        labels={task: label for task, label in row.labels.items() if task in tasks},
        verdict=found.verdict,
        probability=found.probability,
        confidence=found.confidence,
        cell=found.cell,
        policy=row.group,
        source_categories=row.categories,
        decisions=decisions,
        declared=declared,
    )


def write(file: TextIO, rows: Iterable[AnsweredRow], *, texts: bool) -> None:
    """Write rows as JSON Lines."""
    for row in rows:
        file.write(json.dumps(row.to_json(texts=texts)) + "\n")


def scored(rows: Sequence[AnsweredRow], task: Task) -> list[ScoredRow]:
    """Return the rows with a label for a task, as `scoring` takes them."""
    return [
        ScoredRow(
            row.prompt,
            row.labels[task],
            row.verdict.get(task),
            row.probability.get(task),
            row.policy,
            row.decisions.get(task),
            row.known_categories,
        )
        for row in rows
        if task in row.labels
    ]


@dataclass(frozen=True, slots=True)
class ErrorCount:
    """The errors of one kind on one task of a benchmark."""

    benchmark: str
    task: Task
    kind: str
    n: int
    of: int
    """Rows on which this error was possible."""
    by_policy: Mapping[str, int]
    """Errors by policy, most first; those of rows without a policy under the empty name."""


def count_errors(rows: Iterable[AnsweredRow]) -> list[ErrorCount]:
    """Count errors by benchmark, task and kind; a kind that did not occur is left out."""
    found: dict[tuple[str, Task, str], Counter[str]] = {}
    possible: Counter[tuple[str, Task, str]] = Counter()
    for row in rows:
        for task, label in row.labels.items():
            possible.update((row.benchmark, task, kind) for kind in _possible(row, task, label))
            for kind in (row.error(task), row.effect if task == row.main else None):
                if kind is not None:
                    found.setdefault((row.benchmark, task, kind), Counter())[row.policy or NO_POLICY] += 1
    order = sorted(found, key=lambda key: (key[0], TASKS.index(key[1]), KINDS.index(key[2])))
    return [ErrorCount(*key, found[key].total(), possible[key], dict(found[key].most_common())) for key in order]


def _possible(row: AnsweredRow, task: Task, label: str) -> Iterable[str]:
    yield "unparsed"
    words = row.declared[task]
    if label != words[-1]:
        yield "false_negative"
    if label != words[0]:
        yield "false_positive"
    if task == row.main:
        yield "over_refusal" if row.declared.passes(task, label) else "let_through"
