"""What a teacher that takes batches can do besides: hand many questions in, find them again, wait, collect.

No state is kept here: which batches there are is the loop's to remember.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from wizloop.backends.teachers.base import Answer, Question, Teacher


class BatchFault(Exception):
    """A request about a batch did not succeed; `answer` says what was wrong in the words that a live call has for it.

    Its `billed` is "unknown" where a submission broke off after it was sent: the provider may have the batch.
    """

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"{answer.outcome}: {answer.category or 'no more is known'}")
        self.answer = answer


class NotYetTold(Exception):
    """Only time will tell: a batch runs that may be the one that is looked for, or its results are not there yet."""


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

        A row that expired or failed is overloaded and not billed. What came before a fault is given first. Raises
        NotYetTold besides.
        """

    def cancel(self, batch_id: str) -> None:
        """Ask the provider to stop; what is finished by then can still be collected."""


def absent(
    keys: Iterable[str], model: str, *, rows: int, failed: int, failed_seen: int
) -> Iterator[tuple[str, Answer]]:
    """What became of questions that the results of an ended batch do not speak of, by what its provider counts.

    `rows` came, `failed_seen` of them as failures, where the provider counts `failed`. Where every such question is
    one of the failures, it was not answered, and is not billed. Of rows that are lost otherwise nothing is given.
    Raises NotYetTold where none came at all: results hold a row for every request, so these are not there yet.
    """
    missing = sorted(keys)
    if failed - failed_seen >= len(missing):
        said = "not in the results, and counted as a failure"
        yield from ((key, Answer("overloaded", "", model, category=said, billed="no")) for key in missing)
    elif rows == 0:
        raise NotYetTold(f"its results are empty, and {failed} of its rows count as failures")
