"""Phase classify: predict the pool with the members and the champion.

Every pool sample gets a direct answer; those that the champion is least certain of get traces too.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from wizloop.loop.context import Context
from wizloop.loop.guard.inference import Direct, signals
from wizloop.loop.guard.rendering import main_task
from wizloop.loop.measures.calibration import Calibration, traces_agree, value_of
from wizloop.loop.measures.uncertainty import top_share
from wizloop.loop.phases import model_roles, predict
from wizloop.loop.stored_samples import usable
from wizloop.store import models, selections, steps
from wizloop.store.rows import pieces
from wizloop.store.samples import Sample


def run(ctx: Context) -> str:
    """Predict the pool: the members first, with direct answers only, then the champion."""
    with ctx.store.read() as db:
        champion = model_roles.standing(db)
        # The members of its own round, which its calibration refers to. After a failed gate there are newer ones.
        members = [] if champion.role == "base" else list(models.members(db, champion.round))
    pool = unselected(ctx)
    total = len(pool) * (len(members) + 2)
    for number, member in enumerate(members):
        predict.predict_missing(ctx, member, pool, done=number * len(pool), total=total)
    _champion(ctx, champion, members, pool, total)
    traced, record = _trace_figures(ctx, champion, pool)
    share = traced / len(pool) if pool else 0.0
    record |= {
        "pool_read": len(pool),
        "share_with_traces": share,
        "read_by": champion.name,
        "reader": ctx.reader(champion).name,
    }
    with ctx.store.write() as db:
        steps.merge_record(db, ctx.round, {"classify": record})
    return f"{champion.name} classified {len(pool):,} pool samples, {traced:,} with traces"


def unselected(ctx: Context) -> list[Sample]:
    """Return the usable pool samples that no earlier round has selected, in id order."""
    kept: list[Sample] = []
    for batch in pieces(list(usable(ctx.store, "pool"))):
        with ctx.store.read() as db:
            selected = selections.of_samples(db, [one.id for one in batch])
        earlier = {one.sample_id for one in selected if one.round < ctx.round}
        kept += [sample for sample in batch if sample.id not in earlier]
    return kept


def _champion(
    ctx: Context, champion: models.Model, members: Sequence[models.Model], pool: Sequence[Sample], total: int
) -> None:
    """Store the champion's predictions, unless it has predicted the whole pool in an earlier round.

    The direct pass over the whole pool is repeated after an interruption: the choice of the least certain samples must
    not depend on where it happened.
    """
    if all(len(predict.stored(ctx, champion, batch)) == len(batch) for batch in pieces(pool)):
        # Report damaged files before a round is built on the champion's predictions.
        ctx.check(champion)
        return
    done = len(members) * len(pool)
    direct: dict[int, Direct] = {}
    for batch in ctx.batches(pool, ctx.recipe.classify.batch):
        ctx.progress(done, total)
        direct |= zip((one.id for one in batch), ctx.judge(champion).direct(batch), strict=True)
        done += len(batch)
    judge = ctx.judge(champion)
    traced = _to_trace(ctx, pool, direct, predict.member_probabilities(ctx, members, pool), judge.calibration)
    predict.predict_missing(
        ctx,
        champion,
        pool,
        members=members,
        sampling=judge.online(),
        direct=direct,
        traced=traced,
        done=done,
        total=total,
    )


def _trace_figures(ctx: Context, champion: models.Model, pool: Sequence[Sample]) -> tuple[int, dict[str, Any]]:
    """Return the number of samples with traces, and how often the traces' verdict is the direct answer's."""
    calibration = Calibration.from_json(champion.calibration_json)
    traced, agree = 0, []
    for batch in pieces(pool):
        known = predict.stored(ctx, champion, batch)
        traced += sum(one.n_traces > 0 for one in known.values())
        agree += [traces_agree(known[one.id].signals, calibration, main_task(one)) for one in batch if one.id in known]
    same = [each for each in agree if each is not None]
    return traced, {"traces_with_verdict": len(same), "traces_agree": sum(same) / len(same) if same else None}


def _to_trace(
    ctx: Context,
    pool: Sequence[Sample],
    direct: Mapping[int, Direct],
    members: Mapping[int, list[predict.Probabilities]],
    calibration: Calibration,
) -> set[int]:
    """Return the samples that get traces: the recipe's share of the least certain, or all if verdicts need traces."""
    if calibration.needs_traces:
        return {sample.id for sample in pool}
    unsure = []
    for sample in pool:
        found = signals(sample, direct[sample.id], (), members[sample.id])
        unsure.append(-(value_of(calibration.measure, found, main_task(sample), calibration) or 0.0))
    return set(top_share(unsure, [sample.id for sample in pool], ctx.recipe.classify.share))
