"""Register the round's members that no adapter makes: another model, another instruction, or another temperature."""

import json

from wizloop.loop.context import Context
from wizloop.loop.guard import instructions
from wizloop.loop.guard.judge import renderer_of
from wizloop.loop.guard.otherwise import Otherwise
from wizloop.loop.phases import model_roles
from wizloop.recipes.ensemble import OtherMember
from wizloop.store import models


def add(ctx: Context, sft: models.Model) -> int:
    """Add a row for each of the recipe's other members, unless it has one; return how many there are.

    One without a model of its own is the round's R-SFT model. Raises ImportRefused for an instruction that cannot be
    read, BackendError for a model without a chat template.
    """
    for number, other in enumerate(ctx.recipe.members.others, start=1):
        name = model_roles.other_name(None if other.base else ctx.round, number)
        with ctx.store.read() as db:
            known = models.by_name(db, name)
        if known is None:
            _add(ctx, name, other, sft)
    return len(ctx.recipe.members.others)


def _add(ctx: Context, name: str, other: OtherMember, sft: models.Model) -> None:
    asked = _asked(ctx, other).meta()
    meta = asked if other.base else {**json.loads(sft.meta_json), **asked}
    with ctx.store.write() as db:
        models.add(
            db,
            name=name,
            role="member",
            round=0 if other.base else ctx.round,
            parent_id=None if other.base else sft.id,
            path=other.base or sft.path,
            sha256="" if other.base else sft.sha256,
            meta_json=json.dumps(meta, sort_keys=True),
            now=ctx.now(),
        )


def _asked(ctx: Context, other: OtherMember) -> Otherwise:
    instruction, frame = ctx.renderer.instruction, ctx.renderer.frame
    guard = ctx.recipe.guard.model_copy(update={"instruction": other.instruction})
    if other.instruction:
        instruction = instructions.read(ctx.recipe.model_copy(update={"guard": guard})) or ""
    if other.base:
        frame = renderer_of(guard, other.base, instruction).frame
    return Otherwise(other.base, instruction, frame, other.temperature, other.traces)
