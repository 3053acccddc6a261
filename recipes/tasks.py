"""The section [tasks] of a recipe: the labels of each task, in one's own words."""

import json
from collections.abc import Collection, Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from wizloop.recipes.sections import Section

_NOTHING = ("none", "null", "n/a", "not applicable")
"""What an answer says where there is nothing to judge."""
MOST_CHARS = 40


def _plain(word: str) -> str:
    inside = word.replace(" ", "a").replace("-", "a").replace("_", "a")
    if word.casefold() in _NOTHING:
        raise ValueError(f"{word!r} means that there is nothing to judge: give another label")
    if not (inside.isalnum() and word[:1].isalnum() and word[-1:].isalnum() and len(word) <= MOST_CHARS):
        raise ValueError(
            f"a label has letters, digits and, between them, single characters of space, - and _, at most {MOST_CHARS} "
            "in all: it is one word of the answer"
        )
    return word


Word = Annotated[str, AfterValidator(_plain)]
Words = Annotated[tuple[Word, ...], Field(max_length=8)]


class Tasks(Section):
    """What the guard judges, and its labels: of each task the one that blocks first, the one that lets through last.

    Data, teachers, prompts, reports and exports all have these words, and a run keeps them. A tokenizer must tell the
    labels of a task apart at one token; phase prepare refuses those that it cannot.
    """

    request: Words = ("harmful", "unharmful")
    """Labels of the prompt, two or more, the positive one first. P(positive), thresholds and gates hold the first label
    against all others."""
    completion: Words = ("refusal", "compliance")
    """Labels of what the response does; [] leaves the task out."""
    response: Words = ("harmful", "unharmful")
    """Labels of the response; [] leaves the task out: then the request decides about a prompt with a response too."""
    blocks: Literal["first", "all but last"] = "first"
    """Which labels block where a task has more than two: "first" lets those in the middle through, "all but last"
    blocks them (Qwen3Guard's loose and strict reading of "controversial")."""

    def words(self) -> tuple[str, ...]:
        """Return every label, each once."""
        return tuple(dict.fromkeys((*self.request, *self.completion, *self.response)))

    def is_about_harm(self) -> bool:
        """Return whether each task that is judged has the default words."""
        usual = Tasks().model_dump(exclude={"blocks"})
        return all(getattr(self, task) in ((), words) for task, words in usual.items())

    @model_validator(mode="after")
    def _labels_differ(self) -> "Tasks":
        for task in ("request", "completion", "response"):
            words = getattr(self, task)
            if len(words) == 1 or (task == "request" and not words):
                leave = ": the request is always judged" if task == "request" else ", or [] to leave the task out"
                raise ValueError(f"{task} = {list(words)}: give two labels or more{leave}")
            if len({word.casefold() for word in words}) < len(words):
                raise ValueError(f"{task} = {list(words)}: a label is given twice (in whatever case)")
        return self


def refuse_labels(key: str, meant: Mapping[str, str], known: Collection[str]) -> None:
    """Raise ValueError for a file's word that stands for a label that [tasks] does not declare."""
    for word, label in meant.items():
        if label not in (*known, "none"):
            raise ValueError(f"{key}.{word} = {json.dumps(label)}: it must be {', '.join(known)} or none")
