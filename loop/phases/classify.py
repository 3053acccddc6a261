"""Phase classify: the pool as the champion and its members see it. What is then picked of it is select's.

Every pool sample gets a direct answer; those of which the champion is least certain get traces too.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from wizloop.loop.context import Context
from wizloop.loop.guard.asking import Direct, Manner, Signals, Trace, ask_direct, ask_traces, signals
from wizloop.loop.guard.rendering import main_task, tasks_of
from wizloop.loop.measures.uncertainty import top_share
from wizloop.loop.pages import usable
from wizloop.loop.phases import standing
from wizloop.loop.phases.calibration import Calibration, judge, traces_agree, value_of
from wizloop.store import models, predictions, selections, steps
from wizloop.store.predictions import GuardTrace, Prediction
from wizloop.store.samples import Sample

Ps = Mapping[str, float]


def run(ctx: Context) -> str:
    """Predict what the champion has not: its members first, at once only, then itself."""
    with ctx.store.read() as db:
        champion = standing.champion(db) or standing.base(db)
        # Those that were made with it: its calibration was learned beside them. After a failed gate there are newer.
        members = [] if champion.role == "base" else list(models.members(db, champion.round))
    pool = unselected(ctx)
    work = len(pool) * (len(members) + 2)
    for number, member in enumerate(members):
        predict_direct(ctx, member, pool, done=number * len(pool), work=work)
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


def predict_direct(
    ctx: Context, model: models.Model, asked: Sequence[Sample], *, done: int = 0, work: int | None = None
) -> None:
    """Write a model's direct answers on samples that it has not answered, in pieces of one transaction each."""
    calibration = Calibration.from_json(model.calibration_json)
    for piece in ctx.pieces(asked, ctx.recipe.classify.batch):
        ctx.between_pieces(done, work or len(asked))
        if len(_there(ctx, model, piece)) < len(piece):
            answers = direct(ctx, model, piece)
            new = [
                prediction(ctx, model, sample, signals(sample, answer), calibration, answer.cut)
                for sample, answer in zip(piece, answers, strict=True)
            ]
            with ctx.store.write() as db:
                predictions.add(db, new)
        done += len(piece)


def direct(ctx: Context, model: models.Model, samples: Sequence[Sample]) -> list[Direct]:
    """What a model answers at once."""
    return ask_direct(ctx.guard(model), standing.renderer(ctx), samples, max_tokens=ctx.recipe.guard.max_prompt_tokens)


def traces(ctx: Context, model: models.Model, samples: Sequence[Sample], manner: Manner) -> list[list[Trace]]:
    """Traces of a model, drawn from a seed that follows from the piece."""
    return ask_traces(
        ctx.guard(model),
        standing.renderer(ctx),
        samples,
        manner,
        max_tokens=ctx.recipe.guard.max_prompt_tokens,
        seed=ctx.seed("traces", model.name, samples[0].id),
    )


def members_of(ctx: Context, members: Sequence[models.Model], samples: Sequence[Sample]) -> dict[int, list[Ps]]:
    """P(positive) by task of each member, by sample."""
    found: dict[int, list[Ps]] = {sample.id: [] for sample in samples}
    with ctx.store.read() as db:
        for member in members:
            for one in predictions.for_samples(db, member.id, list(found)):
                found[one.sample_id].append(one.probability)
    return found


def prediction(
    ctx: Context,
    model: models.Model,
    sample: Sample,
    found: Signals,
    calibration: Calibration,
    cut_tokens: int,
    n_traces: int = 0,
    *,
    alone: bool = False,
) -> Prediction:
    """The row for one sample, judged by the calibration; `alone` is without the members."""
    judged = judge(found, calibration, tasks_of(sample), main_task(sample), alone=alone)
    return Prediction(
        model_id=model.id,
        sample_id=sample.id,
        round=ctx.round,
        probability=judged.probability,
        verdict=judged.verdict,
        confidence=judged.confidence,
        cell=judged.cell,
        signals=found,
        n_traces=n_traces,
        unparsed=judged.verdict[main_task(sample)] is None,
        cut_tokens=cut_tokens,
    )


def trace_rows(model: models.Model, sample: Sample, drawn: Sequence[Trace]) -> list[GuardTrace]:
    """A sample's traces as the store keeps them."""
    return [
        GuardTrace(
            model_id=model.id,
            sample_id=sample.id,
            idx=index,
            text=trace.text,
            verdict=None if trace.verdict is None else {str(task): label for task, label in trace.verdict.items()},
            stop=trace.stop,
            mean=trace.measures.mean,
            tail=trace.measures.tail,
            lowest=trace.measures.lowest,
            bottom=trace.measures.bottom,
            verdict_p=None if trace.verdict is None else {str(task): p for task, p in trace.p.items()},
            tokens=trace.tokens,
        )
        for index, trace in enumerate(drawn)
    ]


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
    if all(len(_there(ctx, champion, piece)) == len(piece) for piece in _in_pages(pool)):
        # A champion whose files are damaged is told of before a round is built on what it said.
        ctx.check(champion)
        return
    calibration = Calibration.from_json(champion.calibration_json)
    answers: dict[int, Direct] = {}
    for piece in ctx.pieces(pool, ctx.recipe.classify.batch):
        ctx.between_pieces(done, work)
        answers |= zip((one.id for one in piece), direct(ctx, champion, piece), strict=True)
        done += len(piece)
    others = members_of(ctx, members, pool)
    chosen = _to_trace(ctx, pool, answers, others, calibration)
    manner = _manner(ctx, champion, calibration)
    for piece in ctx.pieces(pool, ctx.recipe.classify.batch):
        ctx.between_pieces(done, work)
        if len(_there(ctx, champion, piece)) < len(piece):
            _write(ctx, champion, piece, answers, others, chosen, calibration, manner)
        done += len(piece)


def _there(ctx: Context, model: models.Model, samples: Sequence[Sample]) -> dict[int, Prediction]:
    """What a model has said of samples, by sample."""
    with ctx.store.read() as db:
        found = predictions.for_samples(db, model.id, [one.id for one in samples])
    return {one.sample_id: one for one in found}


def _of_traces(ctx: Context, champion: models.Model, pool: Sequence[Sample]) -> tuple[int, dict[str, Any]]:
    """How many samples have traces, and what these changed: of the samples whose traces came to a verdict, the share
    with the direct answer's.
    """
    calibration = Calibration.from_json(champion.calibration_json)
    traced, same = 0, []
    for piece in _in_pages(pool):
        found = _there(ctx, champion, piece)
        traced += sum(one.n_traces > 0 for one in found.values())
        told = [traces_agree(found[one.id].signals, calibration, main_task(one)) for one in piece if one.id in found]
        same += [each for each in told if each is not None]
    return traced, {"traces_with_verdict": len(same), "traces_agree": sum(same) / len(same) if same else None}


def _to_trace(
    ctx: Context,
    pool: Sequence[Sample],
    answers: Mapping[int, Direct],
    others: Mapping[int, list[Ps]],
    calibration: Calibration,
) -> set[int]:
    """The samples that get traces: the recipe's share of the least certain, or all where nothing is known without."""
    if calibration.needs_traces:
        return {sample.id for sample in pool}
    unsure = []
    for sample in pool:
        found = signals(sample, answers[sample.id], (), others[sample.id])
        unsure.append(-(value_of(calibration.measure, found, main_task(sample), calibration) or 0.0))
    return set(top_share(unsure, [sample.id for sample in pool], ctx.recipe.classify.share))


def _manner(ctx: Context, model: models.Model, calibration: Calibration) -> Manner:
    how = ctx.recipe.classify
    return Manner(
        how.least,
        how.most,
        how.temperature,
        how.top_p,
        ctx.recipe.guard.max_trace_tokens,
        standing.window(ctx, model),
        consensus=how.consensus,
        cut_below=calibration.cut_below,
    )


def _write(
    ctx: Context,
    champion: models.Model,
    piece: Sequence[Sample],
    answers: Mapping[int, Direct],
    others: Mapping[int, list[Ps]],
    chosen: set[int],
    calibration: Calibration,
    manner: Manner,
) -> None:
    asked = [sample for sample in piece if sample.id in chosen]
    drawn = dict(zip((one.id for one in asked), traces(ctx, champion, asked, manner), strict=True)) if asked else {}
    new, rows = [], []
    for sample in piece:
        of_sample, answer = drawn.get(sample.id, []), answers[sample.id]
        found = signals(sample, answer, of_sample, others[sample.id])
        new.append(prediction(ctx, champion, sample, found, calibration, answer.cut, len(of_sample)))
        rows += trace_rows(champion, sample, of_sample)
    with ctx.store.write() as db:
        predictions.add(db, new, rows)


def _in_pages(samples: Sequence[Sample]) -> list[Sequence[Sample]]:
    return [samples[start : start + 1000] for start in range(0, len(samples), 1000)]
