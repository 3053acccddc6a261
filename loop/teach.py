"""Phase teach: every picked sample is put to the teachers, once, through the ledger. The teachers are in backends.

A refusal goes to the next teacher of the recipe; what the last one refuses stays with nobody, and is counted.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from wizloop.backends.teacher import Answer, Question, Teacher, Usage, answer_from_raw
from wizloop.loop import teachers
from wizloop.loop.context import Context
from wizloop.loop.rendering import tasks_of
from wizloop.store import errors, samples, selections, steps, teaching
from wizloop.store.db import Connection
from wizloop.store.samples import Sample

TOGETHER = 16
"""Questions to a free teacher in one transaction; a paid one is asked one at a time."""
ATTEMPT = 1


def run(ctx: Context) -> str:
    """Ask the recipe's teachers."""
    return teach(ctx, teachers.make(ctx.recipe))


def teach(ctx: Context, asked: Sequence[Teacher]) -> str:
    """Ask the teachers, in this order, about what is not taught yet; what is left is told."""
    _settle_in_flight(ctx, asked)
    policies = teachers.policies_hash(teachers.policies_of(ctx.recipe))
    for teacher in asked:
        _ask_all(ctx, teacher, policies)
    with ctx.store.read() as db:
        picked, untaught = selections.of_round(db, ctx.round), selections.untaught(db, ctx.round)
        calls = teaching.calls(db, ctx.round)
    outcomes = {name: Counter(_ended(one) for one in calls if one.teacher == name) for name in _names(calls)}
    with ctx.store.write() as db:
        steps.merge_record(db, ctx.round, {"teach": {"outcomes": outcomes, "untaught": len(untaught)}})
    left = f"; {len(untaught)} without an answer" if untaught else ""
    return f"{len(picked) - len(untaught)} of {len(picked)} taught{left}"


def question(teacher: Teacher, sample: Sample, policies: str, *, shows_labels: bool) -> Question:
    """The question on a sample; its key is a hash of everything that decides the answer."""
    labels: dict[str, str | None] | None = None
    if shows_labels:
        known = {str(task): getattr(sample, samples.LABELS[task]) for task in tasks_of(sample)}
        labels = {task: label for task, label in known.items() if label is not None} or None
    unkeyed = Question("", sample.prompt, sample.response, labels)
    decides = [teacher.name, teacher.model, unkeyed.prompt_version, policies, sample.hash, labels, ATTEMPT]
    key = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
    return Question(key, sample.prompt, sample.response, labels)


def _settle_in_flight(ctx: Context, asked: Sequence[Teacher]) -> None:
    """Calls that were under way when a process died: a free teacher is asked again, of a paid one nobody knows."""
    free = {teacher.name for teacher in asked if teacher.free}
    with ctx.store.write() as db:
        flying = teaching.in_flight(db)
        teaching.replan(db, [call.id for call in flying if call.teacher in free])
        teaching.mark_ambiguous(db, [call.id for call in flying if call.teacher not in free])


def _ask_all(ctx: Context, teacher: Teacher, policies: str) -> None:
    waiting = _unasked(ctx, teacher)
    done = 0
    for piece in ctx.pieces(waiting, TOGETHER if teacher.free else 1):
        ctx.between_pieces(done, len(waiting))
        questions = [(one, question(teacher, one, policies, shows_labels=_shows(ctx, one))) for one in piece]
        try:
            calls = _sent(ctx, teacher, questions)
        except errors.OverBudget as error:
            ctx.say(f"{teacher.name} is not asked any more: {error}", "warn")
            return
        received = [(call_id, one, _answered(ctx, teacher, call_id, one)) for call_id, one in calls]
        with ctx.store.write() as db:
            for call_id, _, answer in received:
                if teaching.call(db, call_id).state == "sent":
                    _keep_raw(ctx, db, call_id, answer)
        with ctx.store.write() as db:
            for call_id, _, answer in received:
                _finish(ctx, db, call_id, answer)
        done += len(piece)
    ctx.between_pieces(done, len(waiting))


def _shows(ctx: Context, sample: Sample) -> bool:
    return ctx.recipe.teacher.sees_label and sample.split == "seed"


def _unasked(ctx: Context, teacher: Teacher) -> list[Sample]:
    """Picked samples, by rank, without a trace, an answer of this teacher, or a call of which nobody knows."""
    with ctx.store.read() as db:
        picked = [one.sample_id for one in selections.untaught(db, ctx.round)]
        open_ = []
        for sample_id in picked:
            calls = teaching.calls_for(db, sample_id)
            ended = any(one.teacher == teacher.name and one.state in ("refused", "failed") for one in calls)
            if not ended and not any(one.state == "ambiguous" for one in calls):
                open_.append(sample_id)
        known = {one.id: one for one in samples.get(db, open_)}
    return [known[sample_id] for sample_id in open_ if known[sample_id].excluded is None]


def _sent(ctx: Context, teacher: Teacher, questions: Sequence[tuple[Sample, Question]]) -> list[tuple[int, Question]]:
    """Write the calls down, hold their money, note that they leave. Raises errors.OverBudget: none of them leaves."""
    calls = []
    with ctx.store.write() as db:
        for sample, one in questions:
            request = {"prompt_version": one.prompt_version, "labels": one.labels, "sample": sample.hash}
            call_id = teaching.plan(
                db,
                key=one.key,
                sample_id=sample.id,
                round=ctx.round,
                teacher=teacher.name,
                model=teacher.model,
                attempt=ATTEMPT,
                request_json=json.dumps(request, sort_keys=True),
                now=ctx.now(),
            )
            state = teaching.call(db, call_id).state
            if state == "planned":
                teaching.reserve(db, call_id, teacher.worst_cost_micro(one))
            if state in ("planned", "reserved"):
                teaching.mark_sent(db, call_id, ctx.now())
            calls.append((call_id, one))
    return calls


def _answered(ctx: Context, teacher: Teacher, call_id: int, one: Question) -> Answer:
    """The teacher's answer; one that was received before a crash is read again and not asked for again."""
    with ctx.store.read() as db:
        call = teaching.call(db, call_id)
    if call.state == "received" and call.raw:
        return answer_from_raw(call.raw, one, model=call.model, usage=Usage(), stop_reason=call.stop_reason)
    return teacher.ask(one)


def _keep_raw(ctx: Context, db: Connection, call_id: int, answer: Answer) -> None:
    teaching.mark_received(
        db,
        call_id,
        raw=answer.raw,
        usage_json=json.dumps(asdict(answer.usage), sort_keys=True),
        request_id=answer.request_id,
        stop_reason=answer.stop_reason,
        cost_micro=answer.cost_micro,
        now=ctx.now(),
    )


def _finish(ctx: Context, db: Connection, call_id: int, answer: Answer) -> None:
    """End a call: with a trace, refused (or blocked), or failed."""
    trace = answer.trace
    if trace is None:
        ended = "refused" if answer.outcome in ("refused", "blocked") else "failed"
        teaching.finish(db, call_id, ended, answer.outcome, answer.category)
        return
    teaching.finish(db, call_id, "parsed", answer.outcome)
    by_task = {"request": trace.request_steps, "completion": trace.completion_steps, "response": trace.response_steps}
    teaching.add_trace(
        db,
        call_id=call_id,
        verdict={"request": trace.request, "completion": trace.completion, "response": trace.response},
        confidence_word=trace.confidence,
        trace_json=trace.model_dump_json(),
        explanation=trace.explanation,
        steps_json=json.dumps(by_task),
        now=ctx.now(),
    )


def _ended(call: teaching.Call) -> str:
    return call.outcome or call.state


def _names(calls: Sequence[teaching.Call]) -> list[str]:
    return sorted({one.teacher for one in calls})
