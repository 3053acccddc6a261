"""A model's answers as rows of the store: asked for in batches, each written in one transaction, none twice."""

from collections.abc import Mapping, Sequence

from wizloop.loop.context import Context
from wizloop.loop.guard.asking import Trace, TraceSampling
from wizloop.loop.guard.judge import Answer, Judge
from wizloop.loop.guard.rendering import main_task
from wizloop.store import models, predictions
from wizloop.store.predictions import GuardTrace, Prediction
from wizloop.store.samples import Sample

Probabilities = Mapping[str, float]
"""P(positive) by task."""


def write(
    ctx: Context,
    model: models.Model,
    asked: Sequence[Sample],
    *,
    members: Sequence[models.Model] = (),
    sampling: TraceSampling | None = None,
    alone: bool = False,
    done: int = 0,
    work: int | None = None,
) -> None:
    """Ask a model about the samples that it has not answered, and write its predictions and traces.

    Traces are drawn by `sampling`, or where a verdict is their vote. `alone` judges without the members; `done` of
    `work` samples were asked about before. Raises Interrupted between two batches.
    """
    for batch in ctx.pieces(asked, ctx.recipe.classify.batch):
        ctx.between_pieces(done, work or len(asked))
        there = answered(ctx, model, batch)
        missing = [sample for sample in batch if sample.id not in there]
        if missing:
            judge = ctx.judge(model)
            how = judge.limits.exactly() if sampling is None and judge.calibration.votes else sampling
            others = of_members(ctx, members, missing)
            traces = draw(ctx, judge, model, missing, how) if how else {}
            answers = {
                sample.id: judge.answer(sample, direct, traces.get(sample.id, ()), others[sample.id], alone=alone)
                for sample, direct in zip(missing, judge.direct(missing), strict=True)
            }
            store(ctx, model, missing, answers)
        done += len(batch)


def answered(ctx: Context, model: models.Model, samples: Sequence[Sample]) -> dict[int, Prediction]:
    """Return the stored predictions of a model on samples, by sample."""
    with ctx.store.read() as db:
        found = predictions.for_samples(db, model.id, [one.id for one in samples])
    return {one.sample_id: one for one in found}


def of_members(
    ctx: Context, members: Sequence[models.Model], samples: Sequence[Sample]
) -> dict[int, list[Probabilities]]:
    """Return the stored probabilities of each member, by sample."""
    found: dict[int, list[Probabilities]] = {sample.id: [] for sample in samples}
    with ctx.store.read() as db:
        for member in members:
            for one in predictions.for_samples(db, member.id, list(found)):
                found[one.sample_id].append(one.probability)
    return found


def draw(
    ctx: Context, judge: Judge, model: models.Model, samples: Sequence[Sample], sampling: TraceSampling
) -> dict[int, list[Trace]]:
    """Draw traces of every sample, by sample; the seed follows from the batch."""
    if not samples:
        return {}
    drawn = judge.traces(samples, sampling, seed=ctx.seed("traces", model.name, samples[0].id))
    return {sample.id: traces for sample, traces in zip(samples, drawn, strict=True)}


def store(ctx: Context, model: models.Model, samples: Sequence[Sample], answers: Mapping[int, Answer]) -> None:
    """Write the answers on samples, and their traces, in one transaction."""
    rows = [_prediction(ctx, model, sample, answers[sample.id]) for sample in samples]
    traces = [row for sample in samples for row in trace_rows(model, sample, answers[sample.id].traces)]
    with ctx.store.write() as db:
        predictions.add(db, rows, traces)


def trace_rows(model: models.Model, sample: Sample, drawn: Sequence[Trace]) -> list[GuardTrace]:
    """Return a sample's traces as the store keeps them."""
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


def _prediction(ctx: Context, model: models.Model, sample: Sample, answer: Answer) -> Prediction:
    judged = answer.judged
    return Prediction(
        model_id=model.id,
        sample_id=sample.id,
        round=ctx.round,
        probability=judged.probability,
        verdict=judged.verdict,
        confidence=judged.confidence,
        cell=judged.cell,
        signals=answer.signals,
        n_traces=len(answer.traces),
        unparsed=judged.verdict[main_task(sample)] is None,
        cut_tokens=answer.direct.cut,
    )
