"""Predict samples with a model and store predictions and traces, one batch per transaction."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict

from wizloop.loop.context import Context
from wizloop.loop.guard.inference import Direct, Trace, TraceSampling
from wizloop.loop.guard.judge import Answer, Judge
from wizloop.loop.phases import linear_fit
from wizloop.loop.phases.round_committee import RoundCommittee
from wizloop.store import models, predictions
from wizloop.store.predictions import GuardTrace, Prediction
from wizloop.store.samples import Sample

Probabilities = Mapping[str, float]
"""P(positive) by task."""


def predict_missing(
    ctx: Context,
    model: models.Model,
    samples: Sequence[Sample],
    *,
    members: Sequence[models.Model] = (),
    committee: RoundCommittee | None = None,
    sampling: TraceSampling | None = None,
    direct: Mapping[int, Direct] | None = None,
    traced: Collection[int] | None = None,
    alone: bool = False,
    done: int = 0,
    total: int | None = None,
) -> None:
    """Predict the samples without a stored prediction, in batches, and store predictions and traces.

    Traces are drawn by `sampling`, or where they are the source of a verdict; `traced` limits them to these samples.
    `committee` stands in for members, `direct` holds direct answers already computed, `alone` judges with nobody
    beside. `done` of `total` samples count as already done. Raises Interrupted between two batches.
    """
    if committee is not None:
        committee.read(samples)
    head = linear_fit.for_samples(ctx, model, samples)
    for batch in ctx.batches(samples, ctx.recipe.classify.batch):
        ctx.progress(done, total or len(samples))
        known = stored(ctx, model, batch)
        missing = [sample for sample in batch if sample.id not in known]
        if missing:
            judge = ctx.judge(model)
            how = judge.limits.exactly() if sampling is None and judge.calibration.votes else sampling
            to_trace = [sample for sample in missing if how and (traced is None or sample.id in traced)]
            traces = sample_traces(ctx, judge, model, to_trace, how) if how else {}
            answers = judge.direct(missing) if direct is None else [direct[sample.id] for sample in missing]
            of_members = member_probabilities(ctx, members, missing)
            beside = {} if committee is None else committee.signals(missing)
            linear = {} if head is None else head.signals(missing)
            judged = [
                judge.answer(
                    one,
                    answer,
                    traces.get(one.id, ()),
                    of_members[one.id],
                    beside={**beside.get(one.id, {}), **linear.get(one.id, {})},
                    alone=alone,
                )
                for one, answer in zip(missing, answers, strict=True)
            ]
            _store(ctx, model, list(zip(missing, judged, strict=True)))
        done += len(batch)


def stored(ctx: Context, model: models.Model, samples: Sequence[Sample]) -> dict[int, Prediction]:
    """Return a model's stored predictions, by sample id."""
    with ctx.store.read() as db:
        return {one.sample_id: one for one in predictions.for_samples(db, model.id, [one.id for one in samples])}


def member_probabilities(
    ctx: Context, members: Sequence[models.Model], samples: Sequence[Sample]
) -> dict[int, list[Probabilities]]:
    """Return the stored probabilities of each member, by sample id."""
    found: dict[int, list[Probabilities]] = {sample.id: [] for sample in samples}
    for member in members:
        for sample_id, prediction in stored(ctx, member, samples).items():
            found[sample_id].append(prediction.probability)
    return found


def sample_traces(
    ctx: Context, judge: Judge, model: models.Model, samples: Sequence[Sample], sampling: TraceSampling
) -> dict[int, list[Trace]]:
    """Sample traces, by sample id. A trace's draws follow from the model, its prompt and its number."""
    if not samples:
        return {}
    drawn = judge.traces(samples, sampling, seed=ctx.seed("traces", model.name))
    return {sample.id: traces for sample, traces in zip(samples, drawn, strict=True)}


def trace_rows(model: models.Model, sample: Sample, traces: Sequence[Trace]) -> list[GuardTrace]:
    """Return a sample's traces as rows of the store."""
    return [
        GuardTrace(
            model_id=model.id,
            sample_id=sample.id,
            idx=index,
            text=trace.text,
            verdict=None if trace.verdict is None else {str(task): label for task, label in trace.verdict.items()},
            stop=trace.stop,
            **asdict(trace.measures),
            verdict_p=None if trace.verdict is None else {str(task): p for task, p in trace.p.items()},
            tokens=trace.tokens,
        )
        for index, trace in enumerate(traces)
    ]


def _store(ctx: Context, model: models.Model, answers: Sequence[tuple[Sample, Answer]]) -> None:
    rows = [_prediction(ctx, model, sample, answer) for sample, answer in answers]
    traces = [row for sample, answer in answers for row in trace_rows(model, sample, answer.traces)]
    with ctx.store.write() as db:
        predictions.add(db, rows, traces)


def _prediction(ctx: Context, model: models.Model, sample: Sample, answer: Answer) -> Prediction:
    judgement = answer.judgement
    return Prediction(
        model_id=model.id,
        sample_id=sample.id,
        round=ctx.round,
        probability=judgement.probability,
        verdict=judgement.verdict,
        confidence=judgement.confidence,
        cell=judgement.cell,
        signals=answer.signals,
        n_traces=len(answer.traces),
        unparsed=judgement.verdict[ctx.declared.main_task(sample)] is None,
        cut_tokens=answer.direct.cut,
    )
