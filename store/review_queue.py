"""The traces that wait for a reviewer: pages, filters, everything about one trace, and the last decision.

Decisions are recorded in `reviews`; this module writes nothing.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, func, select

from wizloop.store import browsing, paging, reviews, rows, selections, tables
from wizloop.store.paging import Page
from wizloop.store.reviews import Review
from wizloop.store.samples import Sample
from wizloop.store.teacher_calls import TeacherTrace, trace


@dataclass(frozen=True, slots=True)
class QueueFilter:
    """Filter of the waiting traces; None and "" match everything."""

    text: str = ""
    """In the prompt, the response or the teacher's explanation."""
    teacher: str | None = None
    round: int | None = None
    verdict: str | None = None
    """A label that the teacher gave on any task."""
    confidence: str | None = None
    """low, medium or high, as the teacher said."""
    why: str = ""
    """In the rule's reason for waiting."""


@dataclass(frozen=True, slots=True)
class Case:
    """Everything needed to decide on one trace, and the decisions so far."""

    trace: TeacherTrace
    sample: Sample
    """Its texts are cut to browsing.TEXT bytes."""
    standing: reviews.Standing | None
    log: Sequence[Review]
    selection: selections.Selection | None
    judgements: Sequence[browsing.Judgement]

    @property
    def last_id(self) -> int:
        """Id of the newest decision shown; a reviewer passes it on, to learn of a newer one."""
        return self.log[-1].id if self.log else 0


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision in effect, with the text of its sample."""

    trace_id: int
    prompt: str
    decision: str
    by: str
    verdict: dict[str, str | None]


def waiting_ids(db: Connection, wanted: QueueFilter, page: Page) -> list[int]:
    """Return the ids of one page of the waiting traces that match a filter."""
    return [row[0] for row in paging.paged(db, _waiting(wanted), tables.standings.c.trace_id, page)]


def waiting_count(db: Connection, wanted: QueueFilter) -> int:
    """Count the waiting traces that match a filter."""
    return int(db.scalar(select(func.count()).select_from(_waiting(wanted).subquery())) or 0)


def _waiting(wanted: QueueFilter) -> Select[Any]:
    in_effect, made, sample = tables.standings, tables.teacher_traces, tables.samples
    query = select(in_effect.c.trace_id).where(in_effect.c.decision == "wait")
    if wanted == QueueFilter():
        return query
    query = query.join(made, made.c.id == in_effect.c.trace_id).join(sample, sample.c.id == made.c.sample_id)
    words = made.c.confidence_word
    columns = ((made.c.teacher, wanted.teacher), (made.c.round, wanted.round), (words, wanted.confidence))
    return query.where(
        *paging.contains([sample.c.prompt, sample.c.response, made.c.explanation], wanted.text),
        *paging.contains([in_effect.c.reason], wanted.why),
        *paging.has_label(made.c.verdict, wanted.verdict),
        *paging.equal(*columns),
    )


def case(db: Connection, trace_id: int) -> Case:
    """Return one trace with everything about it. Raises errors.NotFound."""
    found = trace(db, trace_id)
    sample = browsing.sample_head(db, found.sample_id)
    assert sample is not None, "a foreign key ensures that a trace has its sample"
    selected = next(iter(selections.of_samples(db, [sample.id])), None)
    in_effect, log = reviews.standing(db, trace_id), reviews.log(db, trace_id)
    return Case(found, sample, in_effect, log, selected, browsing.judgements(db, sample.id))


def decided(db: Connection, limit: int) -> list[Decided]:
    """Return the newest traces with a decision other than wait in effect, newest first."""
    in_effect, made, sample = tables.standings, tables.teacher_traces, tables.samples
    prompt = paging.head(sample.c.prompt, browsing.LINE)
    query = select(in_effect.c.trace_id, prompt, in_effect.c.decision, in_effect.c.by, made.c.verdict)
    query = query.join(made, made.c.id == in_effect.c.trace_id).join(sample, sample.c.id == made.c.sample_id)
    query = query.where(in_effect.c.decision != "wait").order_by(in_effect.c.trace_id.desc()).limit(limit)
    return rows.every(db, Decided, query)


def last_by(db: Connection, by: str) -> Review | None:
    """Return the reviewer's newest decision that is not undone, which an undo would cancel, or None."""
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
