"""What a teacher that takes batches can do besides: hand many questions in, find them again, wait, collect.

No state is kept here: which batches there are is the loop's to remember.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from wizloop.backends.teacher import Answer, Question, Teacher


class BatchFault(Exception):
    """A request about a batch did not succeed; `answer` says what was wrong in the words that a live call has for it.

    Its `billed` is "unknown" where a submission broke off after it was sent: the provider may have the batch.
    """

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"{answer.outcome}: {answer.category or 'no more is known'}")
        self.answer = answer


class NotYetTold(Exception):
    """The provider has a batch that may be the one that is looked for, and only its end will tell."""


@dataclass(frozen=True)
class BatchStatus:
    """How far a batch is. `ended`: nothing more will come, and it can be collected; `done`: every row succeeded."""

    done: bool
    ended: bool
    counts: Mapping[str, int] = field(default_factory=dict)
    expires_at: datetime | None = None


class BatchTeacher(Teacher, Protocol):
    """A teacher that also takes questions in batches. Every method raises BatchFault."""

    def submit(self, questions: Sequence[Question], tag: str) -> str:
        """Hand questions in, each under its key, and the whole under `tag` where the provider keeps one; its id."""

    def find(self, tag: str, keys: Sequence[str], *, since: datetime, known: Collection[str]) -> str | None:
        """The id of the batch that was handed in as `tag` with these keys, or None where the provider lists none.

        It was made after `since` and is none of the `known` ids. Raises NotYetTold besides.
        """

    def poll(self, batch_id: str) -> BatchStatus:
        """How far a batch is."""

    def collect(self, batch_id: str, questions: Mapping[str, Question]) -> Iterator[tuple[str, Answer]]:
        """Key and answer of every row, in any order, for the questions by key that are still without an answer.

        A row that expired or failed is overloaded and not billed. What came before a fault is given first.
        """

    def cancel(self, batch_id: str) -> None:
        """Ask the provider to stop; what is finished by then can still be collected."""
