"""Parts of the forms: the texts of a sample between trusted text, and answers that match one pattern as a whole."""

import re
from collections.abc import Mapping
from typing import Final

from wizloop.backends.guard_types import Part
from wizloop.plugins import GuardQuestion, Said

HARM: Final = ("harmful", "unharmful")
REFUSAL: Final = ("refusal", "compliance")
END: Final = r"\s*(?:\Z|<\|[a-z_]{1,20}\|>|</s>)"
"""The end of an answer. A model whose tokenizer does not stop at its end token writes the token, and then anything."""


def data(text: str, before: str = "", after: str = "") -> Part:
    r"""Return a text of the sample with the blanks around it.

    Blanks belong to the text's own tokens in the whole prompt (" How", "?\n\n"), so they are encoded with it.
    """
    return Part(f"{before}{text}{after}", data=True)


def read(pattern: re.Pattern[str], answer: str, question: GuardQuestion) -> dict[str, Said] | None:
    """Return what an answer says that begins with `pattern`, which has a group for each of the question's tasks.

    A word that is none of a task's words, such as n/a, says that there is nothing to judge.
    """
    match = pattern.match(answer)
    return None if match is None else {task: _said(match, task, words) for task, words in question.words.items()}


def _said(match: re.Match[str], task: str, words: Mapping[str, str]) -> Said:
    labels = {word.strip().casefold(): label for word, label in words.items()}
    return Said(labels.get(match[task].casefold()), match.start(task))
