"""Mine the round's preference pairs: the new guard and its members write traces on the lessons.

A sample has one pair, from the first miner that finds it hard; the other miners skip it. Traces are stored batch by
batch, so that a crash costs one batch. The rule of mining is in `mining`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from wizloop.backends.guard_types import DpoPair
from wizloop.loop.context import Context
from wizloop.loop.guard.inference import Trace, TraceSampling
from wizloop.loop.measures.mining import Generation, MinedPair, mine, weigh
from wizloop.loop.phases import predict
from wizloop.loop.phases.contradictions import Taught, contradicts, taught_with
from wizloop.loop.phases.training_examples import Lesson
from wizloop.loop.words import Declaration, Verdict
from wizloop.store import models, predictions, training
from wizloop.store.db import Connection
from wizloop.store.predictions import GuardTrace
from wizloop.store.training import Pair


def pairs(ctx: Context, miners: Sequence[models.Model], lessons: Sequence[Lesson]) -> list[DpoPair]:
    """Mine and store the round's pairs, one per sample; an earlier miner comes first."""
    rows: dict[int, Pair] = {}
    taught = taught_with((one.traced.completion for one in lessons if one.traced.weight), ctx.declared)
    done = 0
    for miner in miners:
        left = [lesson for lesson in lessons if lesson.sample.id not in rows]
        mined = _mine(ctx, miner, left, done, taught)
        rows |= {pair.sample_id: Pair(round=ctx.round, miner=miner.name, **asdict(pair)) for pair in mined}
        done += len(left)
    ordered = [rows[sample_id] for sample_id in sorted(rows)]

    def add(db: Connection, batch: Sequence[Pair]) -> None:
        training.add_pairs(db, ctx.round, batch)

    ctx.write_batches(ordered, add)
    prompts = {lesson.sample.id: lesson.prompt for lesson in lessons}
    return [DpoPair(row.sample_id, prompts[row.sample_id], row.chosen, row.rejected, row.weight) for row in ordered]


def _mine(ctx: Context, miner: models.Model, lessons: Sequence[Lesson], done: int, taught: Taught) -> list[MinedPair]:
    """Return one miner's pairs, weighted among themselves; `done` lessons count as already done."""
    _store_traces(ctx, miner, lessons, done)
    mined: list[MinedPair | None] = []
    for batch in ctx.batches(lessons, ctx.recipe.classify.batch):
        with ctx.store.read() as db:
            rows = predictions.traces_of(db, miner.id, [lesson.sample.id for lesson in batch])
        for lesson in batch:
            sample = lesson.sample
            pair = sample.response is not None
            generations = [
                generation(row, taught, ctx.declared, has_response=pair) for row in rows if row.sample_id == sample.id
            ]
            mined.append(mine(sample.id, _tasks(lesson.trace.verdict, ctx.declared), pair, generations))
    how = ctx.recipe.dpo
    return weigh([pair for pair in mined if pair is not None], how.gamma, how.weights)


def _store_traces(ctx: Context, miner: models.Model, lessons: Sequence[Lesson], done: int) -> None:
    """Sample the miner's traces on every lesson that has none, in batches."""
    total, sampling = done + len(lessons), ctx.limits(miner).exactly(ctx.recipe.dpo.k)
    for batch in ctx.batches(lessons, ctx.recipe.classify.batch):
        ctx.progress(done, total)
        with ctx.store.read() as db:
            stored = {row.sample_id for row in predictions.traces_of(db, miner.id, [one.sample.id for one in batch])}
        if len(stored) < len(batch):
            drawn = _drawn(ctx, miner, batch, sampling)
            rows = [row for one in batch for row in predict.trace_rows(miner, one.sample, drawn[one.sample.id])]
            with ctx.store.write() as db:
                predictions.add(db, [], rows)
        done += len(batch)


def _drawn(
    ctx: Context, miner: models.Model, lessons: Sequence[Lesson], sampling: TraceSampling
) -> dict[int, list[Trace]]:
    """Return the miner's traces by sample id, each lesson asked as its pair will be."""
    judge, found = ctx.judge(miner), dict[int, list[Trace]]()
    for asked in dict.fromkeys(lesson.asked for lesson in lessons):
        samples = [lesson.sample for lesson in lessons if lesson.asked == asked]
        found |= predict.sample_traces(ctx, replace(judge, renderer=asked), miner, samples, sampling)
    return found


def generation(row: GuardTrace, taught: Taught, declared: Declaration, *, has_response: bool) -> Generation:
    """Return a stored trace as it is mined: whether its reasoning speaks against its verdict, given what is taught."""
    if row.verdict is None:
        return Generation(row.text, None)
    verdict = _tasks(row.verdict, declared)
    against = contradicts(row.text, verdict, taught, has_response=has_response, declared=declared)
    return Generation(row.text, verdict, against)


def _tasks(verdict: Mapping[str, str | None], declared: Declaration) -> Verdict:
    return {task: verdict.get(task) for task in declared.tasks}
