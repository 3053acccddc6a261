"""The role of each model in a round: names, base, champion, members, challenger. It loads no model."""

from wizloop.store import control, errors, models, steps
from wizloop.store.db import Connection

BASE = "base"


def sft_name(round: int) -> str:
    """Return the name of a round's R-SFT model."""
    return f"r{round:02d}-sft"


def member_name(round: int, number: int) -> str:
    """Return the name of a round's ensemble member; `number` is from 1."""
    return f"r{round:02d}-m{number}"


def other_name(round: int | None, number: int) -> str:
    """Return the name of a member that no adapter makes; without a round, of one with a model of its own."""
    return f"other-{number}" if round is None else f"r{round:02d}-o{number}"


def challenger_name(round: int) -> str:
    """Return the name of a round's challenger."""
    return f"r{round:02d}"


def base(db: Connection) -> models.Model:
    """Return the base model. Raises errors.NotFound before phase prepare."""
    found = models.by_name(db, BASE)
    if found is None:
        raise errors.NotFound("no base model yet: phase prepare creates it")
    return found


def champion(db: Connection) -> models.Model | None:
    """Return the champion, or None before a challenger has passed the gate."""
    run = control.get_run(db)
    return None if run is None or run.champion_id is None else models.get(db, run.champion_id)


def standing(db: Connection) -> models.Model:
    """Return the champion, or the base before the first one. Raises errors.NotFound before phase prepare."""
    return champion(db) or base(db)


def challenger(db: Connection, round: int) -> models.Model | None:
    """Return the round's challenger, or None."""
    return models.by_name(db, challenger_name(round))


def members(db: Connection, round: int) -> list[models.Model]:
    """Return the members that predict with the guard of a round: its own, then those with a model of their own."""
    fixed = [model for model in models.members(db, 0) if model.name.startswith("other-")]
    return [model for model in models.members(db, round) if model not in fixed] + fixed


def last_member(db: Connection, before: int, number: int) -> models.Model | None:
    """Return the latest model of one member before a round, or None."""
    found = (models.by_name(db, member_name(round, number)) for round in range(before - 1, -1, -1))
    return next((model for model in found if model is not None), None)


def champion_after(db: Connection, round: int | None) -> models.Model:
    """Return the champion after a round, or the current one for None. Raises errors.NotFound."""
    if round is None:
        found = champion(db)
        if found is None:
            raise errors.NotFound("no champion yet: no challenger has passed the gate (see `wizloop rounds`)")
        return found
    row = steps.get_round(db, round)
    if row is None or row.champion_after is None:
        why = "has no champion yet" if row is None or row.ended_at is None else "left no champion: the base stays"
        raise errors.NotFound(f"round {round} {why} (see `wizloop rounds`)")
    return models.get(db, row.champion_after)
