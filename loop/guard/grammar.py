"""The trace format: a body of reasoning, then the answer block.

Parsing is strict, because a trace may quote the text that it judges: only a complete answer block at the very end
counts. Anything else is unparsed, which is a state and never a label.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from wizloop.loop.words import DEFAULT, FIELD, NONE, TASKS, Declaration, Task, Verdict

REASONING: Final = "Reasoning:"
"""The opening of a trace."""
ANSWERS: Final = "Answers:"
"""The opening of a direct answer; also the first line of the answer block."""
MOST_STEPS: Final = 10


def _field_pattern(task: Task, words: Sequence[str]) -> str:
    words = words if task == "request" else (*words, NONE)
    return rf"{FIELD[task]}:[ \t]*(?P<{task}>{'|'.join(map(re.escape, words))})"


@lru_cache(maxsize=16)
def _block(declared: Declaration) -> re.Pattern[str]:
    # Anchored at the end of the text, so that a match is the last block and holds each field once.
    fields = r"[ \t]*\r?\n".join(_field_pattern(task, declared[task]) for task in declared.tasks)
    return re.compile(rf"^{ANSWERS}[ \t]*\r?\n{fields}\s*\Z", re.MULTILINE)


_MARKER = re.compile(rf"^(?=(?:> )*{ANSWERS})", re.MULTILINE)
_QUOTED_MARKER = re.compile(rf"^> (?=(?:> )*{ANSWERS})", re.MULTILINE)
_HEADING = re.compile(r"^(?=# Task |## Reasoning Step |---[ \t]*$)", re.MULTILINE)


@dataclass(frozen=True)
class Parsed:
    """A parsed trace."""

    verdict: dict[Task, str | None]
    """All tasks that are declared; None where the trace says `None`: nothing to judge."""
    body: str
    """The text before the answer block, as given to `render`."""


def parse(text: str, declared: Declaration = DEFAULT) -> Parsed | None:
    """Parse a trace; None if it is unparsed.

    The text must end in an answer block (trailing white space is allowed): `Answers:` at the start of a line, then the
    declared fields, each once, in order, on a line of its own, with one of the task's labels (or `None`, except for the
    request). Labels are case-sensitive. The caller must prepend an opening `Answers:` that the prompt contained.
    """
    block = _block(declared).search(text)
    if block is None:
        return None
    verdict = {task: None if block[task] == NONE else block[task] for task in declared.tasks}
    return Parsed(verdict, _QUOTED_MARKER.sub("", text[: block.start()].removesuffix("\n")))


def verdict_spans(text: str, declared: Declaration = DEFAULT) -> dict[Task, tuple[int, int]] | None:
    """Return the (start, end) of each verdict word of the answer block, in characters; None if unparsed."""
    block = _block(declared).search(text)
    return None if block is None else {task: block.span(task) for task in declared.tasks}


def answer_block(verdict: Verdict, declared: Declaration = DEFAULT) -> str:
    """Return the lines of the answer block, without a trailing newline; a missing task is `None`.

    Raises ValueError for a word that is not one of the task's labels.
    """
    return "\n".join([ANSWERS, *(f"{FIELD[task]}: {_word(verdict, task, declared)}" for task in declared.tasks)])


def render(body: str, verdict: Verdict, declared: Declaration = DEFAULT) -> str:
    """Return a trace that `parse` reads back as this body and verdict.

    A line of the body that starts like an answer block gets a prefix `> `, one more if it already has some, and `parse`
    removes one: a training text contains one block only. Raises ValueError for a wrong label or no verdict on the
    request.
    """
    if verdict.get("request") is None:
        words = " or ".join(declared.request)
        raise ValueError(f"the verdict has no label for the request: a trace must end in {words}")
    quoted, block = _MARKER.sub("> ", body), answer_block(verdict, declared)
    return f"{quoted}\n{block}" if body else block


def render_sentence(sentence: str, verdict: Verdict, declared: Declaration = DEFAULT) -> str:
    """Return the short trace: the sentence on one line, then the answer block. Raises ValueError for no sentence."""
    line = " ".join(sentence.split())
    if not line:
        raise ValueError("the rationale is empty: write one sentence")
    return render(line, verdict, declared)


def render_steps(steps_by_task: Mapping[Task, Sequence[str]], verdict: Verdict, declared: Declaration = DEFAULT) -> str:
    """Return the long trace (GuardReasoner, arXiv:2501.18492): numbered steps by task, a rule, the answer block.

    A task has 1 to 10 steps or, if another one has some, is omitted: reasoning that exists may be about one task only.
    A line of a step that looks like a heading gets a prefix `> `. Raises ValueError naming the task.
    """
    lines: list[str] = []
    for number, task in enumerate(TASKS, start=1):
        if task in steps_by_task or (not steps_by_task and verdict.get(task) is not None):
            lines += [f"# Task {number}", *_step_lines(task, steps_by_task.get(task, ()))]
    return render("\n".join([*lines, "---"]), verdict, declared)


def _step_lines(task: Task, steps: Sequence[str]) -> list[str]:
    if not 1 <= len(steps) <= MOST_STEPS:
        raise ValueError(f"task {task!r} has {len(steps)} steps: write 1 to {MOST_STEPS}")
    lines: list[str] = []
    for number, step in enumerate(steps, start=1):
        if not step.strip():
            raise ValueError(f"step {number} of task {task!r} is empty")
        lines += [f"## Reasoning Step {number}", _HEADING.sub("> ", step.strip())]
    return lines


def _word(verdict: Verdict, task: Task, declared: Declaration) -> str:
    label = verdict.get(task)
    if label is not None and label not in declared[task]:
        raise ValueError(f"{label!r} is not a label of task {task!r}: use {' or '.join(declared[task])}")
    return NONE if label is None else label
