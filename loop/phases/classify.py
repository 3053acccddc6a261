"""Phase classify: predict the pool with the members and the champion.

Every pool sample gets a direct answer; the share that the champion is least certain of gets traces too. Where verdicts
or the confidence are learned from traces, the rest has its direct verdict and a confidence that needs none.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from wizloop.loop.context import Context
from wizloop.loop.data import leaks
from wizloop.loop.guard.inference import Direct, signals
from wizloop.loop.measures.calibration import Calibration, traces_agree
from wizloop.loop.measures.uncertainty import top_share
from wizloop.loop.phases import linear_fit, model_roles, predict, round_committee
from wizloop.loop.phases.linear_fit import RoundHead
from wizloop.loop.phases.round_committee import RoundCommittee
from wizloop.loop.stored_samples import pages
from wizloop.store import models, predictions, selections, steps
from wizloop.store.rows import pieces
from wizloop.store.samples import Sample


def run(ctx: Context) -> str:
    """Predict the pool: the members first, with direct answers only, then the champion."""
    # Rows may have been imported an instant before the round began, and not yet compared with dev and test.
    leaks.sweep(ctx.store, ctx.now())
    with ctx.store.read() as db:
        champion = model_roles.standing(db)
        # The members of its own round, which its calibration refers to. After a failed gate there are newer ones.
        members = [] if champion.role == "base" else model_roles.members(db, champion.round)
    committee = None if champion.role == "base" else round_committee.of_round(ctx, champion.round)
    pool = unselected(ctx)
    total = len(pool) * (len(members) + 2)
    for number, member in enumerate(members):
        predict.predict_missing(ctx, member, pool, done=number * len(pool), total=total)
    _champion(ctx, champion, members, committee, pool, total)
    traced, record = _trace_figures(ctx, champion, pool)
    share = traced / len(pool) if pool else 0.0
    record |= {
        "pool_read": len(pool),
        "share_with_traces": share,
        "read_by": champion.name,
        "reader": ctx.reader(champion).name,
    }
    if committee is not None:
        record["committee"] = committee.record()
    with ctx.store.write() as db:
        steps.merge_record(db, ctx.round, {"classify": record})
    return f"{champion.name} classified {len(pool):,} pool samples, {traced:,} with traces"


def unselected(ctx: Context) -> list[Sample]:
    """Return the usable pool samples of this round that no earlier round has selected, in id order."""
    return [sample for piece in unselected_pieces(ctx) for sample in piece]


def unselected_pieces(ctx: Context) -> Iterator[list[Sample]]:
    """Yield them in pieces, for a pool that memory does not hold.

    The pool is fixed when a round begins. A round that an earlier version began has no such bound.
    """
    with ctx.store.read() as db:
        begun = steps.get_round(db, ctx.round)
    last = None if begun is None else begun.record.get(steps.LAST_SAMPLE)
    for batch in pages(ctx.store, "pool"):
        if last is not None and batch[0].id > last:
            return
        pool = [sample for sample in batch if last is None or sample.id <= last]
        with ctx.store.read() as db:
            selected = selections.of_samples(db, [one.id for one in pool])
        earlier = {one.sample_id for one in selected if one.round < ctx.round}
        yield [sample for sample in pool if sample.id not in earlier]


def _champion(
    ctx: Context,
    champion: models.Model,
    members: Sequence[models.Model],
    committee: RoundCommittee | None,
    pool: Sequence[Sample],
    total: int,
) -> None:
    """Store the champion's predictions, unless it has predicted the whole pool in an earlier round.

    The direct pass over the whole pool is repeated after an interruption: the choice of the least certain samples must
    not depend on where it happened.
    """
    if all(len(predict.stored(ctx, champion, batch)) == len(batch) for batch in pieces(pool)):
        # Report damaged files before a round is built on the champion's predictions.
        ctx.check(champion)
        return
    if committee is not None:
        committee.read(pool)
    done = len(members) * len(pool)
    head = linear_fit.for_samples(ctx, champion, pool)
    direct: dict[int, Direct] = {}
    for batch in ctx.batches(pool, ctx.recipe.classify.batch):
        ctx.progress(done, total)
        direct |= zip((one.id for one in batch), ctx.judge(champion).direct(batch), strict=True)
        done += len(batch)
    judge, began = ctx.judge(champion), ctx.now()
    traced = _to_trace(ctx, pool, direct, members, _Beside(committee, head), judge.calibration)
    predict.predict_missing(
        ctx,
        champion,
        pool,
        members=members,
        committee=committee,
        sampling=judge.online(),
        direct=direct,
        traced=traced,
        done=done,
        total=total,
    )
    if judge.calibration.needs_traces and len(traced) < len(pool):
        ctx.say(_cost_of_all(ctx, champion, pool, (ctx.now() - began).total_seconds()))


def _cost_of_all(ctx: Context, champion: models.Model, pool: Sequence[Sample], seconds: float) -> str:
    """Say what the pool's rest, read without traces, lacks, and what reading all with traces would cost."""
    known = Calibration.from_json(champion.calibration_json, ctx.declared)
    with ctx.store.read() as db:
        numbers = [one.n_traces for one in predictions.of_model(db, champion.id, "pool") if one.n_traces]
    left = len(pool) - len(numbers)
    each = sum(numbers) / len(numbers) if numbers else float(ctx.recipe.classify.most)
    what = "verdicts come from the traces' votes" if known.votes else f"the confidence ({known.measure}) needs traces"
    time = f", about {seconds / len(numbers) * left / 60:,.0f} min as fast as these" if numbers and seconds else ""
    return (
        f"On dev, {what}; classify.share gives them to {len(numbers):,} of {len(pool):,} pool samples, and the others "
        f"have the direct verdict, ranked by {known.rest}. Reading all would take about {each * left:,.0f} more "
        f"traces{time}: set classify.share = 1.0."
    )


def _trace_figures(ctx: Context, champion: models.Model, pool: Sequence[Sample]) -> tuple[int, dict[str, Any]]:
    """Return the number of samples with traces, and how often the traces' verdict is the direct answer's."""
    calibration = Calibration.from_json(champion.calibration_json, ctx.declared)
    traced, agree = 0, []
    for batch in pieces(pool):
        known = predict.stored(ctx, champion, batch)
        traced += sum(one.n_traces > 0 for one in known.values())
        agree += [
            traces_agree(known[one.id].signals, calibration, ctx.declared.main_task(one))
            for one in batch
            if one.id in known
        ]
    same = [each for each in agree if each is not None]
    return traced, {"traces_with_verdict": len(same), "traces_agree": sum(same) / len(same) if same else None}


class _Beside(NamedTuple):
    """Who answers the pool beside the champion."""

    committee: RoundCommittee | None
    head: RoundHead | None

    def signals(self, samples: Sequence[Sample]) -> dict[int, Mapping[str, float | None]]:
        found = {} if self.committee is None else self.committee.signals(samples)
        linear = {} if self.head is None else self.head.signals(samples)
        return {one.id: {**found.get(one.id, {}), **linear.get(one.id, {})} for one in samples}


def _to_trace(
    ctx: Context,
    pool: Sequence[Sample],
    direct: Mapping[int, Direct],
    members: Sequence[models.Model],
    asked: "_Beside",
    calibration: Calibration,
) -> set[int]:
    """Return the samples that get traces: the recipe's share, the least certain without any."""
    unsure: list[float] = []
    for batch in pieces(pool):
        of_members = predict.member_probabilities(ctx, members, batch)
        beside = asked.signals(batch)
        for one in batch:
            found = signals(one, direct[one.id], (), of_members[one.id], ctx.declared)
            unsure.append(-calibration.without_traces({**found, **beside.get(one.id, {})}, ctx.declared.main_task(one)))
    return set(top_share(unsure, [sample.id for sample in pool], ctx.recipe.classify.share))
