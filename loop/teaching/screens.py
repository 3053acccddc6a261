"""Screens of a reasoning before a person or a rule decides on it: steps, length, label, contradiction, risky.

For any trace, whoever wrote it. What fails waits for a person; nothing is approved or rejected here.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, get_args

from wizloop.loop.guard.grammar import MOST_STEPS
from wizloop.loop.guard.rendering import Text
from wizloop.loop.teaching import conclusions, risk_flags
from wizloop.loop.words import DEFAULT, TASKS, Declaration, Task, Verdict
from wizloop.recipes.sections import Review, Screen
from wizloop.store.teacher_calls import TeacherTrace

SCREENS: Final[tuple[Screen, ...]] = get_args(Screen)
LONGEST: Final = 4000
"""Characters. GuardReasoner's recorded traces have 1,400 in the median, and those that do not end in a loop 3,300."""
SHORTEST: Final = 12
_GIVEN: Final = re.compile(
    r"\bground[- ]truth\b"
    r"|\b(?:given|provided|known|assigned|gold|annotated|supplied|expected|existing|shown) (?:harm )?"
    r"(?:label|annotation|verdict|classification)s?\b"
    r"|\b(?:label|annotation)s? (?:says?|states?|indicates?|shows?|confirms?|that people|given|provided)\b"
    r"|\b(?:according to|based on|because of|matches|match|agrees with|following|follows) the (?:human |dataset )?"
    r"(?:label|annotation)s?\b"
    r"|\b(?:people|humans|annotators|reviewers) (?:have |has )?(?:already )?(?:labell?ed|annotated|marked|given)\b"
    r"|\b(?:already|been) (?:labell?ed|annotated)\b",
    re.IGNORECASE,
)
_STEP_NUMBER: Final = re.compile(r"^(?:#+ *)?(?:(?:reasoning )?step )?\d{1,2}[.:)]? +", re.IGNORECASE)


@dataclass(frozen=True)
class Reasoning:
    """What is screened: a sample's text, and the reasoning and the verdict on it."""

    prompt: str
    response: str | None
    verdict: Verdict
    steps: Mapping[Task, Sequence[str]]
    explanation: str = ""
    """The decisive reason in a sentence, if there is one beside the steps."""
    notes: Sequence[str] = ()
    """Other parts, such as risk factors: they may name the harm and weigh uses, and conclude nothing."""
    declared: Declaration = DEFAULT
    """The labels of its verdict."""


@dataclass(frozen=True)
class Failed:
    """A screen that a reasoning failed, and why, as a clause for a reviewer."""

    screen: Screen
    why: str


def of_trace(sample: Text, trace: TeacherTrace, declared: Declaration = DEFAULT) -> Reasoning:
    """Return a stored trace as it is screened."""
    whole = json.loads(trace.trace_json)
    notes = [str(line) for value in whole.values() for line in (value if isinstance(value, list) else [value])]
    verdict: dict[Task, str | None] = {task: trace.verdict.get(task) for task in TASKS}
    steps = {task: given for task, given in json.loads(trace.steps_json).items() if given}
    return Reasoning(sample.prompt, sample.response, verdict, steps, trace.explanation, notes, declared)


def screen(
    reasoning: Reasoning,
    screens: Sequence[str] = SCREENS,
    *,
    most_steps: int = MOST_STEPS,
    longest: int = LONGEST,
) -> list[Failed]:
    """Return which of the named screens a reasoning fails; an empty list if none. `longest` is in characters."""
    found = [
        *_steps(reasoning, most_steps),
        *_length(reasoning, longest),
        *_label(reasoning),
        *_contradiction(reasoning),
        *_risky(reasoning),
    ]
    return [failed for failed in found if failed.screen in screens]


def screened(review: Review, sample: Text, trace: TeacherTrace, declared: Declaration = DEFAULT) -> list[Failed]:
    """Return which of a recipe's screens a stored trace fails."""
    return screen(
        of_trace(sample, trace, declared), review.screens, most_steps=review.most_steps, longest=review.longest
    )


def reason(failed: Sequence[Failed]) -> str | None:
    """Return the sentence that a reviewer is shown, or None if nothing failed."""
    return f"Screened: {'; '.join(one.why for one in failed)}." if failed else None


def flags(reasoning: Reasoning) -> risk_flags.Flags:
    """Return the six flags of risky reasoning."""
    return risk_flags.flags(
        _text(reasoning),
        f"{reasoning.prompt}\n{reasoning.response or ''}",
        beside="\n".join(reasoning.notes),
        harmful=_says_harm(reasoning),
        inconsistent=next(_contradiction(reasoning), None) is not None,
    )


def _says_harm(reasoning: Reasoning) -> bool:
    """Return whether the request or the response is blocked."""
    judged = {task: label for task, label in reasoning.verdict.items() if label is not None and task != "completion"}
    return any(not reasoning.declared.passes(task, label) for task, label in judged.items())


def _judged(reasoning: Reasoning) -> list[Task]:
    return [task for task in TASKS if reasoning.verdict.get(task) is not None]


def _text(reasoning: Reasoning) -> str:
    lines = [line for task in TASKS for line in reasoning.steps.get(task, ())]
    return "\n".join([*lines, reasoning.explanation])


def _steps(reasoning: Reasoning, most: int) -> Iterator[Failed]:
    counts = {task: len(reasoning.steps.get(task, ())) for task in _judged(reasoning)}
    if not any(counts.values()):
        yield Failed("steps", "it has no steps")
    for task, count in counts.items():
        if count > most:
            yield Failed("steps", f"{count} steps on the {task}, more than {most}")
        elif len({_plain(step) for step in reasoning.steps.get(task, ())}) < count:
            yield Failed("steps", f"a step on the {task} is there twice")


def _length(reasoning: Reasoning, longest: int) -> Iterator[Failed]:
    length = len(_text(reasoning).strip())
    if length > longest:
        yield Failed("length", f"{length:,} characters of reasoning, more than {longest:,}")
    elif length < SHORTEST:
        yield Failed("length", f"{length} characters of reasoning, fewer than {SHORTEST}")


def _label(reasoning: Reasoning) -> Iterator[Failed]:
    """Find a reasoning that points to a label that it was shown, or that says a label and no reason."""
    given = _GIVEN.search(_text(reasoning))
    if given is not None:
        yield Failed("label", f'it copies the label ("{given[0].casefold()}")')
        return
    if not conclusions.is_bare(reasoning.explanation):
        return
    # That the assistant refuses is a reason, that something is harmful is none.
    for task in _judged(reasoning):
        steps = reasoning.steps.get(task, ())
        if steps and task != "completion" and all(map(conclusions.is_bare, steps)):
            yield Failed("label", f"on the {task} it says the label and no reason")


def _contradiction(reasoning: Reasoning) -> Iterator[Failed]:
    # Steps that conclude something are found by the words for harm and refusals.
    for task in (each for each in _judged(reasoning) if reasoning.declared[each] == DEFAULT[each]):
        verdict = reasoning.verdict[task]
        said = conclusions.last_of(task, reasoning.steps.get(task, ()))
        if said is not None and said != verdict:
            yield Failed("contradiction", f"its steps conclude that the {task} is {said}, its verdict is {verdict}")


def _risky(reasoning: Reasoning) -> Iterator[Failed]:
    # Inconsistency is the contradiction above.
    names = [name for name in flags(reasoning).names() if name != "inconsistency"]
    if names:
        yield Failed("risky", f"risky reasoning: {', '.join(names)}")


def _plain(step: str) -> str:
    return " ".join(_STEP_NUMBER.sub("", step.strip()).casefold().split())
