"""The linear head of a round's guard: fitted once on what was taught through the round, and asked like the guard.

It lies in WORKSPACE/models and is fitted again where its folder is lost or damaged. It gives no trace and no lesson:
mining and training never see its answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from wizloop.backends import artifacts
from wizloop.backends.guard_types import BadArtifact
from wizloop.loop.context import Context, seed_of
from wizloop.loop.guard import linear_way
from wizloop.loop.measures import linear_head
from wizloop.loop.measures.calibration import Calibration
from wizloop.loop.measures.features import Space, drawn
from wizloop.loop.measures.linear_head import Head, States
from wizloop.loop.phases import model_roles, vectors
from wizloop.loop.phases.taught_lessons import Labeled, lessons_of
from wizloop.store import models, samples, steps
from wizloop.store.samples import Sample

FEW = 1000
"""Pool rows that the space is fitted on where nothing else reads the states of the pool."""


@dataclass(frozen=True)
class RoundHead:
    """A head that is asked for stored samples."""

    ctx: Context
    head: Head

    def signals(self, asked: Sequence[Sample]) -> dict[int, dict[str, float]]:
        """Return the signals `p_linear_TASK` of samples, by sample id."""
        ps = self.head.p(asked, _states(self.ctx, asked) if self.head.reads_states else None)
        return {one.id: linear_way.signals_of(p) for one, p in zip(asked, ps, strict=True)}


def for_samples(ctx: Context, model: models.Model, asked: Sequence[Sample]) -> RoundHead | None:
    """Return the head of a model if these samples are to be answered by it, after reading their states.

    Dev and test always are, since every way is measured, the pool where some verdict is the head's. None for a model
    that no round put before the gate, and where nothing could be learned.
    """
    needed = Calibration.from_json(model.calibration_json, ctx.declared).reads_linear
    wanted = [one for one in asked if needed or one.split in ("dev", "test")]
    head = fitted(ctx, model) if wanted and model.role == "challenger" else None
    if head is None:
        return None
    if head.reads_states:
        vectors.read(ctx, wanted)
    return RoundHead(ctx, head)


def fitted(ctx: Context, model: models.Model) -> Head | None:
    """Return the head of a challenger: stored, or fitted now and stored. None where no task has two labels.

    Raises Interrupted while states are read.
    """
    folder = ctx.linear_folder(model)
    try:
        return linear_way.load(folder, ctx.declared)[0]
    except BadArtifact:
        if folder.exists():
            artifacts.remove(folder)
    head = _fit(ctx, model.round)
    if head is not None:
        with artifacts.writing(folder, {"model": model.name}) as made:
            linear_way.write(made / linear_way.NAME, head, vectors.DEPTH)
    return head


def _fit(ctx: Context, round: int) -> Head | None:
    lessons = lessons_of(ctx, model_roles.sft_name(round))
    if not lessons:
        return None
    taught = [one.sample for one in lessons]
    space = _space(ctx, round, lessons)
    states = None if space.center is None else _states(ctx, taught)
    return linear_head.fit(space, taught, [one.labels for one in lessons], states, ctx.declared)


def _space(ctx: Context, round: int, lessons: Sequence[Labeled]) -> Space:
    """Fit the space on the pool as it was when the round began, or on the lessons in a run without one.

    Round 0 has the pool of round 1, as the committee has.
    """
    seed = seed_of(ctx.recipe.seed, "space")
    with ctx.store.read() as db:
        begun = steps.get_round(db, max(round, 1))
        last = None if begun is None else begun.record.get(steps.LAST_SAMPLE)
        pool = [id for id in samples.ids(db, "pool") if last is None or id <= last]
        rows = samples.get(db, [pool[at] for at in drawn(len(pool), seed)]) or [one.sample for one in lessons]
    some = rows if vectors.wanted(ctx.recipe) else rows[:: max(1, len(rows) // FEW)]
    states = _states(ctx, some)
    words = Space.fit([linear_head.whole(one) for one in rows], None, seed)
    if states is None:
        return words
    return Space.of({**words.arrays(), **Space.fit(None, states, seed).arrays()})


def _states(ctx: Context, asked: Sequence[Sample]) -> States | None:
    found = vectors.of(ctx, asked)
    return None if found is None else found.astype("float32")
