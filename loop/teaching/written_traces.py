"""Read reasoning that is written as one text: its steps by task, and the verdicts that it ends in.

Known are GuardReasoner's headings (`# Task 1`, `## Reasoning Step 1`), our own traces, thoughts between `<think>` tags,
and plain prose or numbered lines, which are about no task in particular. Guesses no verdict.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from wizloop.loop.data.records import RowRefused
from wizloop.loop.guard import free_form, grammar
from wizloop.loop.words import DEFAULT, TASKS, Declaration, Task

Steps = dict[Task, tuple[str, ...]]

LONGEST: Final = 600
"""Characters of a step, as in a teacher's answer."""
_THOUGHT: Final = re.compile(r"<think(?:ing)?>(.*?)(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
_ANSWERS: Final = re.compile(r"^[ \t]*#{0,6}[ \t*_`]{0,4}(?:final )?answers?[ \t*_`]{0,4}:?[ \t*_`]{0,4}$", re.I | re.M)
_TASK: Final = re.compile(r"^[ \t]*#{1,3}[ \t]*Task[ \t]*([123])\b[^\n]*$", re.IGNORECASE | re.MULTILINE)
_HEADING: Final = re.compile(
    r"^[ \t]*#{1,6}[ \t]*(?:(?:reasoning )?step[ \t]*\d*|(?:final )?conclusion)\b(?:[ \t]+for task \d)?"
    r"[ \t]*[:.\-]?[ \t]*(?P<title>[^\n]*)$",
    re.IGNORECASE | re.MULTILINE,
)
_RULE: Final = re.compile(r"^[ \t]*(?:-{3,}|\*{3,}|={3,})[ \t]*$", re.MULTILINE)
_FIELD: Final = re.compile(r"^[ \t*_]*(?:request|completion|response)[ \t*_]*:[ \t*_]*[\w/-]+[ \t*_.]*$", re.I | re.M)
_NUMBER: Final = re.compile(
    r"(?:(?:^|(?<=[.!?]))[ \t]*\**step[ \t]*\d+[ \t]*\**[ \t]*[:.)\-]\**|^[ \t]*\**\d{1,2}[.)]\**)[ \t]*",
    re.IGNORECASE | re.MULTILINE,
)
_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True)
class Written:
    """The reasoning of a text and its verdicts."""

    steps: Steps
    """Its own steps, of the tasks that it reasons about; what is about no task in particular is the first task's."""
    verdict: Mapping[Task, str | None]


def read(text: str, tasks: Sequence[Task], judged: Sequence[str], declared: Declaration = DEFAULT) -> Written:
    """Read a text that reasons and ends in an answer block for the tasks that apply.

    `judged` are the texts of the sample, which an answer may quote. Raises RowRefused without a verdict on each task,
    or if the text states two.
    """
    verdict = ending(text, tasks, judged, declared)
    if verdict is None:
        raise RowRefused(_no_verdict(text))
    missing = [task for task in tasks if verdict[task] is None]
    if missing:
        raise RowRefused(f"no verdict on the {missing[0]}: its answer says None")
    return Written(steps_of(text, tasks), verdict)


def ending(
    text: str, tasks: Sequence[Task], judged: Sequence[str], declared: Declaration = DEFAULT
) -> dict[Task, str | None] | None:
    """Return the verdicts of the answer block that a text ends in, or None if it has none or states two."""
    said = free_form.parse(text, tasks, judged, declared)
    return None if said is None else {task: said[task].label for task in tasks}


def steps_of(text: str, tasks: Sequence[Task]) -> Steps:
    """Return the steps of a reasoning, by task, without its answer; those of tasks that do not apply are left out."""
    parts = _TASK.split(_without_answer(text))
    found: Steps = {}
    for task, part in _by_task(parts):
        if task in tasks and (steps := tuple(_steps(part))):
            found[task] = found.get(task, ()) + steps
    return found


def lines_of(prose: str) -> tuple[str, ...]:
    """Divide a text into steps: its numbered lines, or else its paragraphs; a long one at its sentences."""
    numbered = [piece for piece in _NUMBER.split(prose) if piece.strip()]
    pieces = numbered if len(_NUMBER.findall(prose)) > 1 else re.split(r"\n[ \t]*\n", prose)
    return tuple(short for piece in pieces for short in _short(" ".join(piece.split())))


def packed(steps: Sequence[str]) -> tuple[str, ...]:
    """Join neighbors, the shortest first, until there are as few steps as a trace may have, if that is possible."""
    found = list(steps)
    if sum(map(len, found)) > grammar.MOST_STEPS * LONGEST:
        return tuple(found)
    while len(found) > grammar.MOST_STEPS:
        at = min(range(len(found) - 1), key=lambda at: len(found[at]) + len(found[at + 1]))
        if len(found[at]) + len(found[at + 1]) >= LONGEST:
            break
        found[at : at + 2] = [f"{found[at]} {found[at + 1]}"]
    return tuple(found)


def _by_task(parts: Sequence[str]) -> Iterator[tuple[Task, str]]:
    """Yield the texts below the headings of tasks; what stands above the first is about the first task."""
    yield TASKS[0], parts[0]
    for number, part in zip(parts[1::2], parts[2::2], strict=True):
        yield TASKS[int(number) - 1], part


def _steps(part: str) -> Iterator[str]:
    """Yield the steps of one task's text. A conclusion that only repeats the answer's line is none."""
    part = _RULE.sub("", part)
    if _HEADING.search(part) is None:
        yield from packed(lines_of(_FIELD.sub("", part)))
        return
    starts = [*_HEADING.finditer(part)]
    chunks = [("", part[: starts[0].start()])]
    chunks += [
        (heading["title"], part[heading.end() : following.start() if following else None])
        for heading, following in zip(starts, [*starts[1:], None], strict=True)
    ]
    for title, chunk in chunks:
        text = " ".join(_FIELD.sub("", chunk).split())
        name = title.strip(" *_:")
        if step := f"{name.rstrip('.')}: {text}" if name and text else text or name:
            yield step


def _without_answer(text: str) -> str:
    """Return the reasoning alone: the thoughts, if there are any, and what stands before the answer."""
    headings = [*_ANSWERS.finditer(text)]
    body = text[: headings[-1].start()] if headings else _FIELD.sub("", text)
    body = body.removeprefix(grammar.REASONING)
    return _THOUGHT.sub(lambda found: f"{found[1]}\n\n", body)


def _no_verdict(text: str) -> str:
    """Return why no verdict can be read from a text."""
    if _ANSWERS.search(text) is None and _FIELD.search(text) is None:
        return "no verdict: its text has no answer block"
    return "no verdict: its answer is not at the end, is incomplete, or contradicts the text before it"


def _short(piece: str) -> Iterator[str]:
    """Yield a piece of a text, divided at its sentences if it is too long for one step."""
    if len(piece) <= LONGEST:
        if piece:
            yield piece
        return
    held = ""
    for sentence in _SENTENCE.split(piece):
        if held and len(held) + 1 + len(sentence) > LONGEST:
            yield held
            held = sentence
        else:
            held = f"{held} {sentence}".strip()
    yield held
