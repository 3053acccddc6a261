"""What waits for a person, as a reviewer walks through it: pages by key, filters, neighbours, the last decision.

Deciding is in `reviews`, and nothing is written here.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, func, or_, select

from wizloop.store import browsing, paging, reviews, rows, selections, tables
from wizloop.store.paging import Page
from wizloop.store.reviews import Review
from wizloop.store.teacher_calls import TeacherTrace, trace


@dataclass(frozen=True, slots=True)
class QueueFilter:
    """Which of the waiting traces; None and "" let everything pass."""

    text: str = ""
    """In the prompt, the response or the teacher's explanation."""
    teacher: str | None = None
    round: int | None = None
    verdict: str | None = None
    """A label that the teacher gave on any task."""
    confidence: str | None = None
    """low, medium or high: the teacher's own word."""
    why: str = ""
    """In the rule's reason for waiting."""


@dataclass(frozen=True, slots=True)
class Case:
    """Everything needed to decide on one trace, and the decisions so far."""

    trace: TeacherTrace
    sample: browsing.Told
    standing: reviews.Standing | None
    log: Sequence[Review]
    selection: selections.Selection | None
    said: Sequence[browsing.Said]

    @property
    def last_id(self) -> int:
        """The newest decision that was seen; who decides on this case says it, to be told of a newer one."""
        return self.log[-1].id if self.log else 0


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision that stands, with the text that it was made on."""

    trace_id: int
    prompt: str
    decision: str
    by: str
    verdict: dict[str, str | None]


def waiting_ids(db: Connection, wanted: QueueFilter, page: Page) -> list[int]:
    """One page of the traces that wait and that the filter lets pass, by id."""
    return [row[0] for row in paging.paged(db, _waiting(wanted), tables.standings.c.trace_id, page)]


def waiting_count(db: Connection, wanted: QueueFilter) -> int:
    """How many traces wait and pass the filter."""
    return int(db.scalar(select(func.count()).select_from(_waiting(wanted).subquery())) or 0)


def _waiting(wanted: QueueFilter) -> Select[Any]:
    stands, made, sample = tables.standings, tables.teacher_traces, tables.samples
    query = select(stands.c.trace_id).where(stands.c.decision == "wait")
    if wanted == QueueFilter():
        return query
    query = query.join(made, made.c.id == stands.c.trace_id).join(sample, sample.c.id == made.c.sample_id)
    if wanted.text:
        texts = (sample.c.prompt, sample.c.response, made.c.explanation)
        query = query.where(or_(*(paging.contains(column, wanted.text) for column in texts)))
    if wanted.why:
        query = query.where(paging.contains(stands.c.reason, wanted.why))
    if wanted.verdict is not None:
        said = func.json_each(made.c.verdict).table_valued("value", name="said")
        query = query.where(select(said.c.value).where(said.c.value == wanted.verdict).exists())
    for column, value in (
        (made.c.teacher, wanted.teacher),
        (made.c.round, wanted.round),
        (made.c.confidence_word, wanted.confidence),
    ):
        if value is not None:
            query = query.where(column == value)
    return query


def case(db: Connection, trace_id: int) -> Case:
    """One trace with everything about it. Raises errors.NotFound."""
    found = trace(db, trace_id)
    sample = browsing.told(db, found.sample_id)
    assert sample is not None, "a trace's sample is held by a foreign key"
    picked = selections.of_samples(db, [sample.id])
    stands, past = reviews.standing(db, trace_id), reviews.log(db, trace_id)
    return Case(found, sample, stands, past, picked[0] if picked else None, browsing.said_of(db, sample.id))


def decided(db: Connection, limit: int) -> list[Decided]:
    """The newest traces on which something other than waiting stands, newest first."""
    stands, made, sample = tables.standings, tables.teacher_traces, tables.samples
    prompt = paging.head(sample.c.prompt, browsing.LINE)
    query = select(stands.c.trace_id, prompt, stands.c.decision, stands.c.by, made.c.verdict)
    query = query.join(made, made.c.id == stands.c.trace_id).join(sample, sample.c.id == made.c.sample_id)
    query = query.where(stands.c.decision != "wait").order_by(stands.c.trace_id.desc()).limit(limit)
    return rows.every(db, Decided, query)


def last_by(db: Connection, by: str) -> Review | None:
    """The reviewer's newest decision that is not undone, or None: what an undo would take back."""
    table = tables.reviews
    query = select(*rows.columns(table, Review)).where(table.c.by == by).order_by(table.c.id.desc())
    undone: Counter[int] = Counter()
    for row in db.execute(query.execution_options(yield_per=100)):
        found = Review(*row)
        if found.decision == "undo":
            undone[found.trace_id] += 1
        elif undone[found.trace_id]:
            undone[found.trace_id] -= 1
        else:
            return found
    return None
