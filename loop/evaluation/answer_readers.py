"""The verdicts in what any model wrote, task by task. Our own guard's traces are read more strictly, by `grammar`.

A trace may quote the text that it judges. So only the last lines count, up to the heading `Answers`, and nothing but
white space may follow them: whatever stands above that heading, or after an answer that the model never gave, is not
read. What cannot be read is unparsed for its own task and leaves the other tasks alone.
"""

import re
from typing import Final

from wizloop.loop.words import FIELD, LABELS, NONE, Task

_MOST_LINES: Final = 12
"""An answer block is four lines; blank ones and a model's role marker may stand between."""
_HEADING = re.compile(r"#{0,6}[ \t]*Answers[ \t]*:?[ \t]*")
_EMPTY = re.compile(r"[ \t]*|<\|[a-z_]{1,20}\|>")
_FIELD = re.compile(rf"(?P<name>{'|'.join(FIELD.values())})(?P<rest>\b.*)")
_NEXT_FIELD = re.compile(rf",[ \t]*(?=(?:{'|'.join(FIELD.values())})\b)")
_TASK_OF: Final[dict[str, Task]] = {name: task for task, name in FIELD.items()}


def read(text: str) -> dict[Task, str | None]:
    """The verdict of each task that was read; None where the text says that there is nothing to judge.

    A task that is not a key is unparsed: its line is missing, stands twice, or has another word than the task's labels
    (any case) or, but for the request, `None`. Without an answer block no task is a key.
    """
    lines = _block(text)
    said: dict[Task, list[str | None]] = {}
    for name, rest in _fields(lines):
        task = _TASK_OF[name]
        said.setdefault(task, []).append(_word(rest, task))
    once = {task: words[0] for task, words in said.items() if len(words) == 1}
    return {task: None if word == NONE else word for task, word in once.items() if word is not None}


def _block(text: str) -> list[str]:
    """The lines of the answer block at the very end, from below its heading; none where the text does not end in one.

    A text that is nothing but an answer block needs no heading.
    """
    lines = text.rstrip().splitlines()
    for at in range(len(lines) - 1, max(len(lines) - 1 - _MOST_LINES, -1), -1):
        if _HEADING.fullmatch(lines[at]):
            return lines[at + 1 :]
        if not (_FIELD.match(lines[at]) or _EMPTY.fullmatch(lines[at])):
            return []
    return lines if len(lines) <= _MOST_LINES else []


def _fields(lines: list[str]) -> list[tuple[str, str]]:
    """Name and rest of each field, in order; fields may share a line, with commas between them."""
    parts = [part for line in lines for part in _NEXT_FIELD.split(line)]
    return [(match["name"], match["rest"]) for part in parts if (match := _FIELD.match(part))]


def _word(rest: str, task: Task) -> str | None:
    """The label after the colon, or `None` as a word; None for anything else."""
    if not rest.lstrip().startswith(":"):
        return None
    said = rest.lstrip()[1:].strip(" \t*`.").casefold()
    words = LABELS[task] if task == "request" else (*LABELS[task], NONE)
    return next((word for word in words if word.casefold() == said), None)
