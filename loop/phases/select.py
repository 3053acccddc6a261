"""Phase select: pick the round's samples for the teacher, each with its reason. The strategies are in `measures`."""

from collections.abc import Sequence
from dataclasses import astuple, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wizloop import plugins
from wizloop.loop.context import Context
from wizloop.loop.measures.acquisition import choose
from wizloop.loop.phases import model_roles, predict, round_committee, vectors
from wizloop.loop.phases.classify import unselected_pieces
from wizloop.loop.phases.round_committee import RoundCommittee, text_of
from wizloop.loop.teaching.teachers import policies_of, touched_policy
from wizloop.plugins import Candidate
from wizloop.store import models, predictions, samples, selections, steps
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
    how, kept = ctx.recipe.select, _Kept(ctx, has_vectors=committee is not None)
    installed = {name: plugins.strategy(name) for name, share in (how.shares.model_extra or {}).items() if share}
    candidates = _candidates(ctx, committee)
    picks = choose(
        # A plugin may score texts and policies; the built-in strategies look at those of a shortlist.
        [one for piece in pieces(candidates) for one in kept.full(piece)] if installed else candidates,
        budget=how.budget,
        shares={name: share for name, share in how.shares if share},
        rng=ctx.rng("choose"),
        near_duplicate=how.near_duplicate,
        installed=installed,
        full=list if installed else kept.full,
        vectors=kept.vectors,
    )
    return [Selection(ctx.round, *astuple(pick)) for pick in picks]


def _candidates(ctx: Context, committee: RoundCommittee | None) -> list[Candidate]:
    """Return the pool with the champion's predictions and the committee's or members' disagreement, without texts."""
    with ctx.store.read() as db:
        champion = model_roles.champion(db) or model_roles.base(db)
    main, asked = ctx.declared.main_task, _asked(committee)
    found = []
    for batch in unselected_pieces(ctx):
        with ctx.store.read() as db:
            known = predictions.scores(db, champion.id, batch[0].id, batch[-1].id) if batch else {}
        apart = _disagreement(ctx, champion, batch) if committee is None else committee.disagreement(batch)
        for sample in batch:
            if (one := known.get(sample.id)) is not None:
                p, confidence, cell = one
                found.append(
                    Candidate(sample.id, "", p.get(main(sample)), confidence, cell, apart.get(sample.id), None, asked)
                )
    return found


def _asked(committee: RoundCommittee | None) -> Literal["members", "committee"]:
    return "members" if committee is None else "committee"


class _Kept:
    """What the store keeps of candidates besides their scores."""

    def __init__(self, ctx: Context, *, has_vectors: bool) -> None:
        self._ctx, self._policies, self._has_vectors = ctx, policies_of(ctx.asking), has_vectors

    def full(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Return candidates with text and best matching policy."""
        texts = {one.id: one for one in self._samples(candidates)}
        return [
            replace(
                one,
                text=text_of(texts[one.sample_id]),
                policy=touched_policy(texts[one.sample_id].prompt, self._policies, self._ctx.recipe),
            )
            for one in candidates
        ]

    def vectors(self, candidates: Sequence[Candidate]) -> NDArray[np.float16] | None:
        """Return the base's vectors of candidates, if the committee has read any."""
        if not self._has_vectors:
            return None
        by_id = {one.id: one for one in self._samples(candidates)}
        return vectors.of(self._ctx, [by_id[one.sample_id] for one in candidates])

    def _samples(self, candidates: Sequence[Candidate]) -> list[Sample]:
        with self._ctx.store.read() as db:
            return samples.get(db, [one.sample_id for one in candidates])


def _disagreement(ctx: Context, champion: models.Model, batch: Sequence[Sample]) -> dict[int, float | None]:
    """Return how far the members are apart on each sample's main task, by sample id."""
    main, known = ctx.declared.main_task, predict.stored(ctx, champion, batch)
    read = [one for one in batch if one.id in known]
    return {one.id: known[one.id].signals.get(f"members_disagreement_{main(one)}") for one in read}
