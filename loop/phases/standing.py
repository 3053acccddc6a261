"""Which model is which in a round: names, base, champion, members, challenger. It loads none of them."""

import json

from wizloop.loop.context import Context
from wizloop.loop.guard import instructing
from wizloop.loop.guard.rendering import TRACE_OPENING, Renderer
from wizloop.loop.measures.deepconf import window_for
from wizloop.store import control, errors, models, steps
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
    """The run's one renderer. Raises errors.NotFound where its instruction was not read yet."""
    frame = ("", "")
    if ctx.recipe.guard.template == "chat":
        from wizloop.backends.chat import frame as chat_frame

        frame = chat_frame(ctx.base())
    how = ctx.recipe.guard
    opening = TRACE_OPENING if how.opening == "reasoning" else ""
    return Renderer(_instruction(ctx), how.reasoning, frame, opening)


def _instruction(ctx: Context) -> str:
    """The shipped one, or the text that the phase prepare read: a file that changes later changes no run.

    Raises errors.NotFound before it was read.
    """
    known = instructing.shipped(ctx.recipe.guard.instruction)
    if known is not None:
        return known
    with ctx.store.read() as db:
        first = steps.get_round(db, 0)
    text = None if first is None else first.record.get("instruction")
    if text is None:
        raise errors.NotFound(f"{ctx.recipe.guard.instruction}: the phase prepare reads it, and is not done yet")
    return str(text)
