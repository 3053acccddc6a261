"""How a guard's answer is read: strictly if it was trained here, tolerantly if it never was.

A reader never guesses: what it cannot read is unparsed, which is a state and never a label. The name of the reader in
use is on record with every figure.
"""

from typing import ClassVar, Final, NamedTuple, Protocol

from wizloop.loop.guard import free_form, grammar
from wizloop.loop.guard.rendering import Text
from wizloop.loop.words import DEFAULT, Declaration, Task


class Reading(NamedTuple):
    """The verdicts of an answer."""

    verdict: dict[Task, str | None]
    """The tasks that apply to the sample; None where the answer says that there is nothing to judge."""
    starts: dict[Task, int]
    """The character at which a label begins, for labels that are spelled as the guard's probabilities are watched."""


class Reader(Protocol):
    """Reads one answer to one sample."""

    @property
    def name(self) -> str:
        """Its name on record."""

    def read(self, text: str, sample: Text, declared: Declaration = DEFAULT) -> Reading | None:
        """Return the verdicts; None for an answer that is unparsed."""


class Strict:
    """The trace format that guards are taught here, to the character (see `grammar`)."""

    name: ClassVar[str] = "strict"

    def read(self, text: str, sample: Text, declared: Declaration = DEFAULT) -> Reading | None:
        """Return the verdicts of the answer block at the very end."""
        parsed, spans = grammar.parse(text, declared), grammar.verdict_spans(text, declared)
        if parsed is None or spans is None:
            return None
        verdict = {task: parsed.verdict[task] for task in declared.tasks_of(sample)}
        return Reading(verdict, {task: spans[task][0] for task, label in verdict.items() if label is not None})


class Tolerant:
    """What instruct models write that were never taught the format (see `free_form`)."""

    name: ClassVar[str] = "tolerant"

    def read(self, text: str, sample: Text, declared: Declaration = DEFAULT) -> Reading | None:
        """Return the verdicts of the answer at the very end, in Markdown or JSON."""
        judged = (sample.prompt, sample.response or "")
        said = free_form.parse(text, declared.tasks_of(sample), judged, declared)
        if said is None:
            return None
        starts = {task: one.start for task, one in said.items() if one.label and _as_watched(text, one)}
        return Reading({task: one.label for task, one in said.items()}, starts)


def _as_watched(text: str, one: free_form.Said) -> bool:
    """Return whether a label follows a space in its own spelling, as `rendering.choice` spells it."""
    return one.start > 0 and text[one.start - 1 :].startswith(f" {one.label}")


STRICT: Final = Strict()
TOLERANT: Final = Tolerant()
READERS: Final[dict[str, Reader]] = {one.name: one for one in (STRICT, TOLERANT)}
