"""Parse the verdicts in any model's output, task by task. Our own guard's traces are read more strictly, by `grammar`.

A trace may quote the text that it judges. So only the last lines count, up to the heading `Answers`, and only white
space may follow them: text above that heading, or after an answer that the model never gave, is not read. A task that
cannot be parsed does not affect the others.
"""

import re
from typing import Final

from wizloop.loop.words import DEFAULT, FIELD, NONE, Declaration, Task

_MOST_LINES: Final = 12
"""An answer block is four lines; blank ones and a model's role marker may be between them."""
_HEADING = re.compile(r"#{0,6}[ \t]*Answers[ \t]*:?[ \t]*")
_EMPTY = re.compile(r"[ \t]*|<\|[a-z_]{1,20}\|>")
_FIELD = re.compile(rf"(?P<name>{'|'.join(FIELD.values())})(?P<rest>\b.*)")
_NEXT_FIELD = re.compile(rf",[ \t]*(?=(?:{'|'.join(FIELD.values())})\b)")
_TASK_OF: Final[dict[str, Task]] = {name: task for task, name in FIELD.items()}


def parse_verdicts(text: str, declared: Declaration = DEFAULT) -> dict[Task, str | None]:
    """Return the verdict of each task that was parsed; None if the text says that there is nothing to judge.

    A task without a key is unparsed: its line is missing, occurs twice, or has another word than the task's labels (any
    case) or, but for the request, `None`. Without an answer block no task has a key.
    """
    words: dict[Task, list[str | None]] = {}
    # Fields may share a line, with commas between them.
    for part in (part for line in _block(text) for part in _NEXT_FIELD.split(line)):
        if field := _FIELD.match(part):
            task = _TASK_OF[field["name"]]
            words.setdefault(task, []).append(_word(field["rest"], task, declared))
    once = {task: found[0] for task, found in words.items() if len(found) == 1}
    return {task: None if word == NONE else word for task, word in once.items() if word is not None}


def _block(text: str) -> list[str]:
    """Return the lines below the heading of the answer block at the very end; none if the text does not end in one.

    A text that is only an answer block needs no heading.
    """
    lines = text.rstrip().splitlines()
    for at in range(len(lines) - 1, max(len(lines) - 1 - _MOST_LINES, -1), -1):
        if _HEADING.fullmatch(lines[at]):
            return lines[at + 1 :]
        if not (_FIELD.match(lines[at]) or _EMPTY.fullmatch(lines[at])):
            return []
    return lines if len(lines) <= _MOST_LINES else []


def _word(rest: str, task: Task, declared: Declaration) -> str | None:
    """Return the label after the colon, or `None` as a word; None for anything else."""
    if not rest.lstrip().startswith(":"):
        return None
    given = rest.lstrip()[1:].strip(" \t*`.").casefold()
    words = declared[task] if task == "request" else (*declared[task], NONE)
    return next((word for word in words if word.casefold() == given), None)
