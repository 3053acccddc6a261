"""Phase train: R-SFT on all approved traces, R-SFT of the members, and HS-DPO on the hard samples that they find.

If the loss stays non-finite, the round has no challenger, and the gate reports it.
"""

import json
from collections.abc import Sequence
from dataclasses import replace

from wizloop.backends.guard_types import NotFinite, SftExample
from wizloop.loop.context import Context
from wizloop.loop.phases import hard_samples, model_roles, model_training, other_members
from wizloop.loop.phases.model_training import ModelSpec
from wizloop.loop.phases.training_examples import (
    Lesson,
    TrainingSet,
    collect,
    held_out_examples,
    kept_by_member,
    sft_examples,
)
from wizloop.store import models, reviews, steps, training
from wizloop.store.db import Connection


def run(ctx: Context) -> str:
    """Train the round's challenger and members, unless there is nothing to learn."""
    with ctx.store.read() as db:
        base, existing = model_roles.base(db), model_roles.challenger(db, ctx.round)
        waiting = reviews.waiting_count(db)
    if existing is not None:
        return f"{existing.name} is trained"
    guard = ctx.guard(base)
    lessons, held_out = collect(ctx, guard), held_out_examples(ctx, guard)
    left_out = "; ".join(f"{n:,}: {reason}" for reason, n in lessons.left_out.items())
    if not lessons.lessons:
        wait = f", {waiting:,} wait for review" if waiting else ""
        none = f"none of {sum(lessons.left_out.values()):,} approved traces can be trained on ({left_out})"
        return _give_up(ctx, f"{none if left_out else 'no approved trace to train on'}{wait}")
    if left_out:
        ctx.say(f"Approved traces left out of training: {left_out}.", "warn")
    try:
        return _train(ctx, lessons, held_out)
    except NotFinite as error:
        return _give_up(ctx, f"the loss was not finite: {error}")


def again(ctx: Context) -> None:
    """Train those of the round's models again whose folders are gone, on the examples that they learned from.

    A trace that was rejected since is missing among these. Raises NotFinite.
    """
    with ctx.store.read() as db:
        base, sft = model_roles.base(db), models.by_name(db, model_roles.sft_name(ctx.round))
        known = set() if sft is None else set(training.used(db, sft.id))
    if sft is None:
        return
    guard = ctx.guard(base)
    found = collect(ctx, guard)
    kept = [one for one in found.lessons if one.sample.id in known]
    if kept:
        lessons = replace(found, lessons=kept, window=json.loads(sft.meta_json)["window"])
        _train(ctx, lessons, held_out_examples(ctx, guard))


def _train(ctx: Context, lessons: TrainingSet, held_out: Sequence[SftExample]) -> str:
    sft = _sft(ctx, lessons, held_out)
    members = [_member(ctx, number, lessons, held_out) for number in range(1, ctx.recipe.members.count + 1)]
    others = other_members.add(ctx, sft)
    pairs = hard_samples.pairs(ctx, [sft, *members], lessons.lessons) if ctx.recipe.dpo.enabled else []
    record = {
        "examples": len(lessons.lessons),
        "left_out_leaking": lessons.leaked,
        "left_out_otherwise": lessons.dropped,
        "pairs": len(pairs),
        "members": len(members) + others,
    }
    # Before the challenger, whose existence ends the phase.
    with ctx.store.write() as db:
        steps.merge_record(db, ctx.round, {"train": record})
    if pairs:
        name = model_roles.challenger_name(ctx.round)
        spec = ModelSpec(name, "challenger", sft.id, "dpo", {"window": lessons.window})
        train = model_training.dpo(ctx, name, ctx.folder(sft), pairs)
        model_training.train_once(ctx, spec, train, [(pair.id, None, "dpo") for pair in pairs])
    else:
        _promote(ctx, sft)
    return f"{len(lessons.lessons)} samples, {len(pairs)} pairs, {len(members) + others} members"


def _sft(ctx: Context, lessons: TrainingSet, held_out: Sequence[SftExample]) -> models.Model:
    """Train on every lesson, from the base or from the champion."""
    name = model_roles.sft_name(ctx.round)
    with ctx.store.read() as db:
        start = _started_from(db, name, model_roles.champion(db)) if ctx.recipe.train.start == "champion" else None
    return _train_sft(ctx, name, "sft", start, lessons.lessons, lessons.window, held_out)


def _started_from(db: Connection, name: str, champion: models.Model | None) -> models.Model | None:
    """Return the parent of a model that is trained again; for a new one the champion."""
    known = models.by_name(db, name)
    if known is None:
        return champion
    return None if known.parent_id is None else models.get(db, known.parent_id)


def _member(ctx: Context, number: int, lessons: TrainingSet, held_out: Sequence[SftExample]) -> models.Model:
    """Train on the member's share of the lessons, from the base or from its own last adapter."""
    seed, keep = ctx.recipe.seed, ctx.recipe.members.keep
    share = [one for one in lessons.lessons if kept_by_member(seed, number, one.sample.id, keep)] or lessons.lessons
    with ctx.store.read() as db:
        start = model_roles.last_member(db, ctx.round, number) if ctx.recipe.train.start == "champion" else None
    name = model_roles.member_name(ctx.round, number)
    return _train_sft(ctx, name, "member", start, share, lessons.window, held_out)


def _train_sft(
    ctx: Context,
    name: str,
    role: str,
    start: models.Model | None,
    lessons: Sequence[Lesson],
    window: int,
    held_out: Sequence[SftExample],
) -> models.Model:
    adapter, parent = (None, None) if start is None else (ctx.adapter(start), start.id)
    used = [(one.sample.id, one.trace.id, kind) for one in lessons for kind in ("trace", "direct")]
    train = model_training.sft(ctx, name, adapter, sft_examples(lessons), held_out)
    return model_training.train_once(ctx, ModelSpec(name, role, parent, "sft", {"window": window}), train, used)


def _promote(ctx: Context, sft: models.Model) -> None:
    """Make the R-SFT model the challenger when there are no pairs: a second row with the same folder."""
    with ctx.store.write() as db:
        models.add(
            db,
            name=model_roles.challenger_name(ctx.round),
            role="challenger",
            round=ctx.round,
            parent_id=sft.id,
            path=sft.path,
            sha256=sft.sha256,
            meta_json=sft.meta_json,
            now=ctx.now(),
        )
    why = "no hard sample was found" if ctx.recipe.dpo.enabled else "dpo.enabled is false"
    ctx.say(f"No HS-DPO in this round: {why}. The R-SFT model is the challenger.")


def _give_up(ctx: Context, why: str) -> str:
    """End the phase without a challenger and store the reason for the gate."""
    with ctx.store.write() as db:
        steps.merge_record(db, ctx.round, {"no_challenger": why})
    ctx.say(f"The round has no challenger: {why}.", "warn")
    return f"no challenger: {why}"
