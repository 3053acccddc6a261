"""Phase classify: the pool as the champion and its members see it. What is then picked of it is select's.

Every pool sample gets a direct answer; those of which the champion is least certain get traces too.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from wizloop.loop.context import Context
from wizloop.loop.guard.asking import Direct, signals
from wizloop.loop.guard.rendering import main_task
from wizloop.loop.measures.calibration import Calibration, traces_agree, value_of
from wizloop.loop.measures.uncertainty import top_share
from wizloop.loop.pages import usable
from wizloop.loop.phases import answers, roles
from wizloop.store import models, selections, steps
from wizloop.store.samples import Sample


def run(ctx: Context) -> str:
    """Predict what the champion has not: its members first, at once only, then itself."""
    with ctx.store.read() as db:
        champion = roles.champion(db) or roles.base(db)
        # Those that were made with it: its calibration was learned beside them. After a failed gate there are newer.
        members = [] if champion.role == "base" else list(models.members(db, champion.round))
    pool = unselected(ctx)
    work = len(pool) * (len(members) + 2)
    for number, member in enumerate(members):
        answers.write(ctx, member, pool, done=number * len(pool), work=work)
    _champion(ctx, champion, members, pool, done=len(members) * len(pool), work=work)
    traced, record = _of_traces(ctx, champion, pool)
    share = traced / len(pool) if pool else 0.0
    record |= {"pool_read": len(pool), "share_with_traces": share, "read_by": champion.name}
    with ctx.store.write() as db:
        steps.merge_record(db, ctx.round, {"classify": record})
    return f"{len(pool):,} pool samples read by {champion.name}, {traced:,} of them with traces"


def unselected(ctx: Context) -> list[Sample]:
    """The usable pool samples that no round has picked before this one, in id order."""
    kept: list[Sample] = []
    for piece in _in_pages(list(usable(ctx.store, "pool"))):
        with ctx.store.read() as db:
            found = selections.of_samples(db, [one.id for one in piece])
        picked = {one.sample_id for one in found if one.round < ctx.round}
        kept += [sample for sample in piece if sample.id not in picked]
    return kept


def _champion(
    ctx: Context,
    champion: models.Model,
    members: Sequence[models.Model],
    pool: Sequence[Sample],
    *,
    done: int,
    work: int,
) -> None:
    """Write the champion's predictions, unless an earlier round has: its challenger failed then, and it read them all.

    The direct pass over all of the pool is done again after an interruption: which samples are the least certain must
    not depend on where it fell.
    """
    if all(len(answers.answered(ctx, champion, piece)) == len(piece) for piece in _in_pages(pool)):
        # A champion whose files are damaged is told of before a round is built on what it said.
        ctx.check(champion)
        return
    direct: dict[int, Direct] = {}
    for piece in ctx.pieces(pool, ctx.recipe.classify.batch):
        ctx.between_pieces(done, work)
        direct |= zip((one.id for one in piece), ctx.judge(champion).direct(piece), strict=True)
        done += len(piece)
    others = answers.of_members(ctx, members, pool)
    chosen = _to_trace(ctx, pool, direct, others, Calibration.from_json(champion.calibration_json))
    for piece in ctx.pieces(pool, ctx.recipe.classify.batch):
        ctx.between_pieces(done, work)
        if len(answers.answered(ctx, champion, piece)) < len(piece):
            _write(ctx, champion, piece, direct, others, chosen)
        done += len(piece)


def _of_traces(ctx: Context, champion: models.Model, pool: Sequence[Sample]) -> tuple[int, dict[str, Any]]:
    """How many samples have traces, and what these changed: of the samples whose traces came to a verdict, the share
    with the direct answer's.
    """
    calibration = Calibration.from_json(champion.calibration_json)
    traced, same = 0, []
    for piece in _in_pages(pool):
        found = answers.answered(ctx, champion, piece)
        traced += sum(one.n_traces > 0 for one in found.values())
        told = [traces_agree(found[one.id].signals, calibration, main_task(one)) for one in piece if one.id in found]
        same += [each for each in told if each is not None]
    return traced, {"traces_with_verdict": len(same), "traces_agree": sum(same) / len(same) if same else None}


def _to_trace(
    ctx: Context,
    pool: Sequence[Sample],
    direct: Mapping[int, Direct],
    others: Mapping[int, list[answers.Probabilities]],
    calibration: Calibration,
) -> set[int]:
    """The samples that get traces: the recipe's share of the least certain, or all where nothing is known without."""
    if calibration.needs_traces:
        return {sample.id for sample in pool}
    unsure = []
    for sample in pool:
        found = signals(sample, direct[sample.id], (), others[sample.id])
        unsure.append(-(value_of(calibration.measure, found, main_task(sample), calibration) or 0.0))
    return set(top_share(unsure, [sample.id for sample in pool], ctx.recipe.classify.share))


def _write(
    ctx: Context,
    champion: models.Model,
    piece: Sequence[Sample],
    direct: Mapping[int, Direct],
    others: Mapping[int, list[answers.Probabilities]],
    chosen: set[int],
) -> None:
    judge = ctx.judge(champion)
    traces = answers.draw(ctx, judge, champion, [one for one in piece if one.id in chosen], judge.online())
    found = {one.id: judge.answer(one, direct[one.id], traces.get(one.id, ()), others[one.id]) for one in piece}
    answers.store(ctx, champion, piece, found)


def _in_pages(samples: Sequence[Sample]) -> list[Sequence[Sample]]:
    return [samples[start : start + 1000] for start in range(0, len(samples), 1000)]
