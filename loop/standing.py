"""Which model is which in a round: names, base, champion, members, challenger. It loads none of them."""

import json
from collections.abc import Sequence

from wizloop.loop.context import Context
from wizloop.loop.deepconf import window_for
from wizloop.loop.rendering import Renderer
from wizloop.recipes.policies import instruction
from wizloop.store import control, errors, models
from wizloop.store.db import Connection

BASE = "base"


def sft_name(round: int) -> str:
    return f"r{round:02d}-sft"


def member_name(round: int, number: int) -> str:
    return f"r{round:02d}-m{number}"


def challenger_name(round: int) -> str:
    return f"r{round:02d}"


def base(db: Connection) -> models.Model:
    """The base model. Raises errors.NotFound before it was prepared."""
    found = models.by_name(db, BASE)
    if found is None:
        raise errors.NotFound("there is no base model yet: the phase prepare makes it")
    return found


def champion(db: Connection) -> models.Model | None:
    """The champion, or None before a challenger has passed."""
    run = control.get_run(db)
    return None if run is None or run.champion_id is None else models.get(db, run.champion_id)


def challenger(db: Connection, round: int) -> models.Model | None:
    """The round's challenger, or None where there is none (yet)."""
    return models.by_name(db, challenger_name(round))


def last_members(db: Connection, before: int) -> Sequence[models.Model]:
    """The members of the latest round before this one that made any."""
    for round in range(before - 1, -1, -1):
        if found := models.members(db, round):
            return found
    return ()


def last_member(db: Connection, before: int, number: int) -> models.Model | None:
    """The latest model of one member before this round."""
    found = (models.by_name(db, member_name(round, number)) for round in range(before - 1, -1, -1))
    return next((model for model in found if model is not None), None)


def meta(model: models.Model, key: str, default: int) -> int:
    """A number from what was noted when the model was made."""
    return int(json.loads(model.meta_json).get(key, default))


def window(ctx: Context, model: models.Model) -> int:
    """DeepConf's group for this model's traces in tokens: by the length of the traces that it learned to write."""
    return meta(model, "window", window_for(ctx.recipe.guard.max_trace_tokens / 2))


def renderer(ctx: Context) -> Renderer:
    """The run's one renderer."""
    frame = ("", "")
    if ctx.recipe.guard.template == "chat":
        from wizloop.backends.chat import frame as chat_frame

        frame = chat_frame(ctx.base())
    shown = instruction() if ctx.recipe.guard.instruction == "full" else ""
    return Renderer(shown, ctx.recipe.guard.reasoning, frame)
