"""Import reasoning that exists into a workspace: its samples into the seed, its traces into the ledger, at no cost.

Each trace is booked as an answer of the teacher "traces", so that review, training, costs and screens treat it as any
other. One that contradicts a known label waits for a person. Nothing is asked.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from wizloop.backends.teachers.given import GivenTeacher
from wizloop.backends.teachers.recorded import text_sha
from wizloop.loop.context import Context
from wizloop.loop.data import leaks
from wizloop.loop.data.import_file import ImportReport, Progress, RowsRefused, bad_rows
from wizloop.loop.data.sample_rows import Refused
from wizloop.loop.teaching import bookkeeping, calls
from wizloop.loop.teaching.calls import Job, TeacherClient
from wizloop.loop.teaching.given_rows import GivenRow, open_rows, words_of
from wizloop.loop.teaching.given_traces import model_of
from wizloop.loop.words import DEFAULT, TASKS, Declaration
from wizloop.recipes.sections import Data
from wizloop.store import reviews, samples, steps, teacher_calls
from wizloop.store.db import Connection
from wizloop.store.samples import Kept, Sample

BATCH = 200
"""Traces in one transaction."""


@dataclass
class TracesReport(ImportReport):
    """Counts of a file's rows: accepted + duplicates + held_out + refused = rows. `accepted` are new traces."""

    held_out: int = 0
    """Traces of texts that are in dev or test."""
    waiting: int = 0
    """Accepted traces that contradict a known label."""
    round: int = 0
    """The round in which they are reviewed and learned from."""


def check(
    data: Data, *, skip_bad: bool, progress: Progress = lambda _: None, declared: Declaration = DEFAULT
) -> TracesReport:
    """Read a file to its end before anything is written. Raises ImportRefused, RowsRefused."""
    file = open_rows(data, declared)
    report = TracesReport(format=file.form.name, note=file.form.note)
    verdicts = {str(task): Counter[str]() for task in TASKS}
    for row in file.rows:
        report.rows += 1
        progress(report.rows)
        if isinstance(row, Refused):
            report.refused.append(row)
            continue
        for task in TASKS:
            if (verdict := getattr(row.trace, task)) is not None:
                verdicts[task][verdict] += 1
    report.labels = {task: dict(sorted(counted.items())) for task, counted in verdicts.items() if counted}
    report.withheld = report.rows - len(report.refused)
    fault = file.verdict_words.fault(data.path, report.rows, report.labels)
    if why := fault or _refusal(data, report, skip_bad=skip_bad):
        raise RowsRefused(why, report)
    report.withheld = 0
    return report


def write(ctx: Context, data: Data, report: TracesReport, progress: Progress = lambda _: None) -> None:
    """Add the samples and traces of a checked file, in short transactions; done again, it adds what is missing."""
    model, done = model_of(data), 0
    with ctx.store.read() as db:
        ctx.round = report.round = next_round(db)
    for batch in _batches(data, ctx.declared):
        with ctx.store.write() as db:
            _book(ctx, db, model, batch, report)
        done += len(batch)
        progress(done)
    leaks.sweep(ctx.store, ctx.now())


def next_round(db: Connection) -> int:
    """Return the first round whose review has not begun: what is imported now is reviewed there."""
    newest = max((round.number for round in steps.rounds(db)), default=0)
    return newest if steps.step(db, newest, "review") is None else newest + 1


def _refusal(data: Data, report: TracesReport, *, skip_bad: bool) -> str | None:
    if report.withheld:
        return None if skip_bad or not report.bad else bad_rows(data.path, report.bad, report.rows)
    first = report.refused[0] if report.refused else None
    why = f"; the first reason is in row {first.row}: {first.reason}" if first else ""
    return f"{data.path}: no row has reasoning and a verdict{why}"


def _batches(data: Data, declared: Declaration) -> Iterator[list[GivenRow]]:
    rows = (row for row in open_rows(data, declared).rows if isinstance(row, GivenRow))
    while batch := list(islice(rows, BATCH)):
        yield batch


def _book(ctx: Context, db: Connection, model: str, batch: Sequence[GivenRow], report: TracesReport) -> None:
    """Add one batch: samples, then calls with their answers."""
    kept = [_kept(row) for row in batch]
    samples.add_kept(db, [kept], ctx.now(), lambda rows: leaks.settle(db, rows, ctx.now()))
    wanted: dict[int, tuple[Sample, GivenRow]] = {}
    for row, sample in zip(batch, samples.with_texts(db, kept), strict=True):
        if sample is None or sample.split in leaks.MEASURED or sample.excluded is not None:
            report.held_out += 1
        elif sample.id in wanted:
            report.duplicates += 1
        else:
            wanted[sample.id] = (sample, row)
    past = teacher_calls.by_sample(db, list(wanted))
    taught = {number for number, made in past.items() if any(call.state == "parsed" for call in made)}
    report.duplicates += len(taught)
    _answer(ctx, db, model, [pair for number, pair in wanted.items() if number not in taught], report)


def _answer(
    ctx: Context, db: Connection, model: str, pairs: Sequence[tuple[Sample, GivenRow]], report: TracesReport
) -> None:
    """Book each trace as the answer to a question about its sample that shows no label."""
    raw = {text_sha(sample.prompt, sample.response): row.trace.model_dump_json() for sample, row in pairs}
    teacher = GivenTeacher(model, raw, {}, words_of(ctx.declared))
    client = TeacherClient(teacher)
    jobs = [Job(sample, calls.question(teacher, sample, "", None)) for sample, _ in pairs]
    sent = bookkeeping.send(ctx, db, client, jobs)
    asked = [job for job in jobs if job.question.key in sent]
    answers = [(sent[job.question.key], teacher.ask(job.question)) for job in asked]
    after, _ = bookkeeping.keep(ctx, db, client, answers)
    bookkeeping.end(ctx, db, [(after[call.id], answer, None) for call, answer in answers])
    report.accepted += len(answers)
    made = teacher_calls.trace_ids(db, [call.id for call, _ in answers])
    against = {
        made[call.id]: why
        for job, (call, answer) in zip(asked, answers, strict=True)
        if call.id in made and (why := _contradiction(job.sample, answer.trace)) is not None
    }
    reviews.rule_all(db, "label", against, ctx.now())
    report.waiting += len(against)


def _contradiction(sample: Sample, trace: Any) -> str | None:
    """Return how a trace contradicts a known label, or None."""
    for task, known in sample.labels.items():
        verdict = getattr(trace, task)
        if verdict is not None and verdict != known:
            return f"The reasoning calls the {task} {verdict}, the known label is {known}."
    return None


def _kept(row: GivenRow) -> Kept:
    prompt, response, labels, source, row_ref, policy, _ = row.sample
    known = (labels.get("request"), labels.get("completion"), labels.get("response"))
    return samples.kept("seed", prompt, response, source, row_ref, *known, policy)
