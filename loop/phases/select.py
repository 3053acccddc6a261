"""Phase select: what goes to the teacher this round, each with its reason. The strategies are in `acquisition`."""

from wizloop import plugins
from wizloop.loop.context import Context
from wizloop.loop.guard.rendering import main_task
from wizloop.loop.measures.acquisition import choose
from wizloop.loop.phases import roles
from wizloop.loop.phases.classify import unselected
from wizloop.loop.teaching.teachers import policies_of, touched_policy
from wizloop.plugins import Candidate
from wizloop.store import predictions, samples, selections
from wizloop.store.selections import Selection

PIECE = 250


def run(ctx: Context) -> str:
    """Pick the round's batch: all of the seed in round 0, later a mix of strategies over the champion's predictions."""
    with ctx.store.read() as db:
        there = selections.of_round(db, ctx.round)
    picked = _seed(ctx) if ctx.round == 0 else _batch(ctx)
    if not there or len(there) < len(picked):
        for piece in ctx.pieces(picked, PIECE):
            with ctx.store.write() as db:
                selections.add(db, piece)
    with ctx.store.read() as db:
        reasons = selections.by_reason(db, ctx.round)
    told = ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in reasons.items())
    return told or "nothing was left to pick"


def _seed(ctx: Context) -> list[Selection]:
    with ctx.store.read() as db:
        ids = samples.ids(db, "seed")
    words = "A labelled sample to start with."
    return [Selection(ctx.round, id, "seed", 0.0, rank, None, words) for rank, id in enumerate(ids, start=1)]


def _batch(ctx: Context) -> list[Selection]:
    how = ctx.recipe.select
    picks = choose(
        _candidates(ctx),
        budget=how.budget,
        shares={name: share for name, share in how.shares if share},
        rng=ctx.rng("choose"),
        near_duplicate=how.near_duplicate,
        installed={name: plugins.strategy(name) for name, share in (how.shares.model_extra or {}).items() if share},
    )
    return [
        Selection(ctx.round, one.sample_id, one.reason, one.score, one.rank, one.propensity, one.words) for one in picks
    ]


def _candidates(ctx: Context) -> list[Candidate]:
    """The pool as the champion judged it, with what the members say and the policy that the wording is nearest to."""
    with ctx.store.read() as db:
        champion = roles.champion(db) or roles.base(db)
    pool = unselected(ctx)
    policies = policies_of(ctx.recipe)
    found = []
    for piece in ctx.pieces(pool, 1000):
        with ctx.store.read() as db:
            judged = {one.sample_id: one for one in predictions.for_samples(db, champion.id, [s.id for s in piece])}
        for sample in piece:
            if (one := judged.get(sample.id)) is None:
                continue
            text = sample.prompt if sample.response is None else f"{sample.prompt}\n{sample.response}"
            found.append(
                Candidate(
                    sample.id,
                    text,
                    one.probability.get(main_task(sample)),
                    one.confidence,
                    one.cell,
                    one.signals.get(f"members_disagreement_{main_task(sample)}"),
                    touched_policy(sample.prompt, policies, ctx.recipe),
                )
            )
    return found
