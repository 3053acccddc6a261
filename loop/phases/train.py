"""Phase train: R-SFT on all approved traces, the members beside it, and HS-DPO on the hard samples that they find.

A loss that stays not finite gives the round up: there is no challenger then, and the gate says so.
"""

from collections.abc import Sequence

from wizloop.backends.guard_types import NotFinite
from wizloop.loop.context import Context
from wizloop.loop.phases import hard_samples, roles, training_run
from wizloop.loop.phases.examples import Lesson, Lessons, collect, kept_by_member, sft_examples
from wizloop.loop.phases.training_run import Wanted
from wizloop.store import models, reviews, steps


def run(ctx: Context) -> str:
    """Make the round's challenger and members, unless there is nothing to learn."""
    with ctx.store.read() as db:
        base, there = roles.base(db), roles.challenger(db, ctx.round)
        waiting = reviews.waiting_count(db)
    if there is not None:
        return f"{there.name} is trained"
    lessons = collect(ctx, ctx.guard(base))
    left_out = "; ".join(f"{n:,}: {reason}" for reason, n in lessons.left_out.items())
    if not lessons.lessons:
        wait = f", {waiting:,} wait for a person" if waiting else ""
        none = f"none of {sum(lessons.left_out.values()):,} approved traces can be learned from ({left_out})"
        return _give_up(ctx, f"{none if left_out else 'no approved trace to learn from'}{wait}")
    if left_out:
        ctx.say(f"Approved traces that are not learned from: {left_out}.", "warn")
    try:
        return _train(ctx, lessons)
    except NotFinite as error:
        return _give_up(ctx, f"the loss was not finite: {error}")


def _train(ctx: Context, lessons: Lessons) -> str:
    meta = {"window": lessons.window}
    sft = _sft(ctx, lessons.lessons, meta)
    members = [_member(ctx, number, lessons.lessons, meta) for number in range(1, ctx.recipe.members.count + 1)]
    pairs = hard_samples.pairs(ctx, [sft, *members], lessons.lessons) if ctx.recipe.dpo.enabled else []
    record = {
        "examples": len(lessons.lessons),
        "left_out_leaking": lessons.leaked,
        "left_out_otherwise": lessons.dropped,
        "pairs": len(pairs),
        "members": len(members),
    }
    # Before the challenger, which ends the phase: whoever finds it there does nothing more.
    with ctx.store.write() as db:
        steps.merge_record(db, ctx.round, {"train": record})
    if pairs:
        name = roles.challenger_name(ctx.round)
        wanted = Wanted(name, "challenger", sft.id, "dpo", meta)
        train = training_run.dpo(ctx, name, ctx.folder(sft), pairs)
        training_run.made(ctx, wanted, train, [(pair.id, None, "dpo") for pair in pairs])
    else:
        _same_as(ctx, sft)
    return f"{len(lessons.lessons)} samples, {len(pairs)} pairs, {len(members)} members"


def _sft(ctx: Context, lessons: Sequence[Lesson], meta: dict[str, int]) -> models.Model:
    """R-SFT on every lesson, from the base or from the champion."""
    with ctx.store.read() as db:
        before = roles.champion(db) if ctx.recipe.train.start == "champion" else None
    name, start = roles.sft_name(ctx.round), None if before is None else ctx.adapter(before)
    wanted = Wanted(name, "sft", None if before is None else before.id, "sft", dict(meta))
    return training_run.made(ctx, wanted, training_run.sft(ctx, name, start, sft_examples(lessons)), _used(lessons))


def _member(ctx: Context, number: int, lessons: Sequence[Lesson], meta: dict[str, int]) -> models.Model:
    """R-SFT on the member's own share of the lessons, from the base or from its own adapter of the round before."""
    seed, keep = ctx.recipe.seed, ctx.recipe.members.keep
    share = [one for one in lessons if kept_by_member(seed, number, one.sample.id, keep)] or list(lessons)
    with ctx.store.read() as db:
        before = roles.last_member(db, ctx.round, number) if ctx.recipe.train.start == "champion" else None
    name, start = roles.member_name(ctx.round, number), None if before is None else ctx.folder(before)
    wanted = Wanted(name, "member", None if before is None else before.id, "sft", dict(meta))
    return training_run.made(ctx, wanted, training_run.sft(ctx, name, start, sft_examples(share)), _used(share))


def _used(lessons: Sequence[Lesson]) -> list[tuple[int, int | None, str]]:
    return [(one.sample.id, one.trace.id, kind) for one in lessons for kind in ("trace", "direct")]


def _same_as(ctx: Context, sft: models.Model) -> None:
    """Without pairs the R-SFT model is the challenger: a row of its own, the same folder."""
    with ctx.store.write() as db:
        models.add(
            db,
            name=roles.challenger_name(ctx.round),
            role="challenger",
            round=ctx.round,
            parent_id=sft.id,
            path=sft.path,
            sha256=sft.sha256,
            meta_json=sft.meta_json,
            now=ctx.now(),
        )
    why = "no hard sample was found" if ctx.recipe.dpo.enabled else "the recipe has it off"
    ctx.say(f"No HS-DPO in this round: {why}. The R-SFT model is the challenger.")


def _give_up(ctx: Context, why: str) -> str:
    """End the training without a challenger, and leave the reason for the gate."""
    with ctx.store.write() as db:
        steps.merge_record(db, ctx.round, {"no_challenger": why})
    ctx.say(f"The round has no challenger: {why}.", "warn")
    return f"no challenger: {why}"
