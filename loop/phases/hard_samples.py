"""Hard samples of a round: the new guard and its members write traces on what they were taught, and pairs are mined.

A sample has one pair, of the first miner that finds it hard: the others are not asked about it. The traces are kept as
they come, so that a crash costs one piece; mining itself is `mining`'s.
"""

from collections.abc import Sequence

from wizloop.backends.guard_types import DpoPair
from wizloop.loop.context import Context
from wizloop.loop.measures.mining import Generation, MinedPair, merge, mine, weigh
from wizloop.loop.phases import answers
from wizloop.loop.phases.examples import Lesson
from wizloop.loop.words import TASKS, Task
from wizloop.store import models, predictions, training
from wizloop.store.training import Pair


def pairs(ctx: Context, miners: Sequence[models.Model], lessons: Sequence[Lesson]) -> list[DpoPair]:
    """The round's pairs, one a sample, the first miner's first; they are put on record."""
    mined: list[list[MinedPair]] = []
    left, done = list(lessons), 0
    for miner in miners:
        mined.append(_mined(ctx, miner, left, done))
        done += len(left)
        hard = {pair.sample_id for pair in mined[-1]}
        left = [lesson for lesson in left if lesson.sample.id not in hard]
    names = {id(pair): miner.name for miner, found in zip(miners, mined, strict=True) for pair in found}
    kept = sorted(merge(mined), key=lambda pair: pair.sample_id)
    rows = [_row(ctx, pair, names[id(pair)]) for pair in kept]
    for piece in ctx.pieces(rows, 250):
        with ctx.store.write() as db:
            training.add_pairs(db, ctx.round, piece)
    prompts = {lesson.sample.id: lesson.by_trace.prompt for lesson in lessons}
    return [DpoPair(row.sample_id, prompts[row.sample_id], row.chosen, row.rejected, row.weight) for row in rows]


def _mined(ctx: Context, miner: models.Model, lessons: Sequence[Lesson], done: int) -> list[MinedPair]:
    """One miner's pairs, with weights among themselves; `done` lessons were asked about before."""
    _draw(ctx, miner, lessons, done)
    found: list[MinedPair] = []
    for piece in ctx.pieces(lessons, ctx.recipe.classify.batch):
        with ctx.store.read() as db:
            rows = predictions.traces_of(db, miner.id, [lesson.sample.id for lesson in piece])
        for lesson in piece:
            generations = [
                Generation(row.text, None if row.verdict is None else {task: row.verdict.get(task) for task in TASKS})
                for row in rows
                if row.sample_id == lesson.sample.id
            ]
            has_response = lesson.sample.response is not None
            pair = mine(lesson.sample.id, _truth(lesson), has_response, generations)
            if pair is not None:
                found.append(pair)
    return weigh(found, ctx.recipe.dpo.gamma)


def _draw(ctx: Context, miner: models.Model, lessons: Sequence[Lesson], done: int) -> None:
    """Let the miner write its traces on every lesson that it has none on, in pieces."""
    most, sampling = done + len(lessons), ctx.limits(miner).exactly(ctx.recipe.dpo.k)
    for piece in ctx.pieces(lessons, ctx.recipe.classify.batch):
        ctx.between_pieces(done, most)
        asked = [lesson.sample for lesson in piece]
        with ctx.store.read() as db:
            there = {row.sample_id for row in predictions.traces_of(db, miner.id, [one.id for one in asked])}
        if len(there) < len(asked):
            drawn = answers.draw(ctx, ctx.judge(miner), miner, asked, sampling)
            rows = [row for one in asked for row in answers.trace_rows(miner, one, drawn[one.id])]
            with ctx.store.write() as db:
                predictions.add(db, [], rows)
        done += len(piece)


def _truth(lesson: Lesson) -> dict[Task, str | None]:
    """The verdict that was approved."""
    return {task: lesson.trace.verdict.get(task) for task in TASKS}


def _row(ctx: Context, pair: MinedPair, miner: str) -> Pair:
    return Pair(
        round=ctx.round,
        sample_id=int(pair.sample_id),
        task=pair.task,
        chosen=pair.chosen,
        rejected=pair.rejected,
        weight=pair.weight,
        n_right=pair.n_right,
        n_wrong=pair.n_wrong,
        miner=miner,
    )
