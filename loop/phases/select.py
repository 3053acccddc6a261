"""Phase select: pick the round's samples for the teacher, each with its reason. The strategies are in `measures`."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple

from wizloop import plugins
from wizloop.loop.context import Context
from wizloop.loop.measures.acquisition import choose
from wizloop.loop.phases import model_roles, predict, round_committee
from wizloop.loop.phases.classify import unselected
from wizloop.loop.phases.round_committee import RoundCommittee, text_of
from wizloop.loop.teaching.teachers import policies_of, touched_policy
from wizloop.plugins import Candidate
from wizloop.store import samples, selections, steps
from wizloop.store.predictions import Prediction
from wizloop.store.rows import pieces
from wizloop.store.samples import Sample
from wizloop.store.selections import Selection


def run(ctx: Context) -> str:
    """Pick the round's batch: the whole seed in round 0, later a mix of strategies over the champion's predictions."""
    with ctx.store.read() as db:
        stored = selections.of_round(db, ctx.round)
    # The newest, which has learned from every label: the champion's predictions may be of an earlier round.
    committee = round_committee.newest(ctx)
    picked = _seed(ctx) if ctx.round == 0 else _batch(ctx, committee)
    if len(stored) < len(picked):
        ctx.write_batches(picked, selections.add)
    with ctx.store.read() as db:
        reasons = selections.by_reason(db, ctx.round)
    if committee is not None:
        with ctx.store.write() as db:
            steps.merge_record(db, ctx.round, {"select": {"committee": committee.record()}})
    counts = ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in reasons.items()) or "no sample left to pick"
    return counts if committee is None else f"{counts}; {committee.sentence()}"


def _seed(ctx: Context) -> list[Selection]:
    with ctx.store.read() as db:
        ids = samples.ids(db, "seed")
    words = "A labeled sample of the seed."
    return [Selection(ctx.round, id, "seed", 0.0, rank, None, words) for rank, id in enumerate(ids, start=1)]


def _batch(ctx: Context, committee: RoundCommittee | None) -> list[Selection]:
    how = ctx.recipe.select
    picks = choose(
        _candidates(ctx, committee),
        budget=how.budget,
        shares={name: share for name, share in how.shares if share},
        rng=ctx.rng("choose"),
        near_duplicate=how.near_duplicate,
        installed={name: plugins.strategy(name) for name, share in (how.shares.model_extra or {}).items() if share},
    )
    return [Selection(ctx.round, *astuple(pick)) for pick in picks]


def _candidates(ctx: Context, committee: RoundCommittee | None) -> list[Candidate]:
    """Return the pool with the champion's predictions, the committee's or members' disagreement and the best policy."""
    with ctx.store.read() as db:
        champion = model_roles.champion(db) or model_roles.base(db)
    policies = policies_of(ctx.asking)
    found = []
    for batch in pieces(unselected(ctx)):
        known = predict.stored(ctx, champion, batch)
        apart = _disagreement(ctx, batch, known) if committee is None else committee.disagreement(batch)
        for sample in batch:
            if (one := known.get(sample.id)) is None:
                continue
            found.append(
                Candidate(
                    sample.id,
                    text_of(sample),
                    one.probability.get(ctx.declared.main_task(sample)),
                    one.confidence,
                    one.cell,
                    apart.get(sample.id),
                    touched_policy(sample.prompt, policies, ctx.recipe),
                    "members" if committee is None else "committee",
                )
            )
    return found


def _disagreement(ctx: Context, samples: Sequence[Sample], known: Mapping[int, Prediction]) -> dict[int, float | None]:
    """Return how far the members are apart on each sample's main task, by sample id."""
    main = ctx.declared.main_task
    read = [one for one in samples if one.id in known]
    return {one.id: known[one.id].signals.get(f"members_disagreement_{main(one)}") for one in read}
