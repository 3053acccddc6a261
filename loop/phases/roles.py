"""Which model is which in a round: names, base, champion, members, challenger. It loads none of them."""

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


def champion_after(db: Connection, round: int | None) -> models.Model:
    """Return the champion after a round, or the present one for None. Raises errors.NotFound."""
    if round is None:
        found = champion(db)
        if found is None:
            raise errors.NotFound("no challenger has become champion yet: see `wizloop rounds`")
        return found
    made = steps.get_round(db, round)
    if made is None or made.champion_after is None:
        raise errors.NotFound(f"round {round} has no champion (yet): see `wizloop rounds`")
    return models.get(db, made.champion_after)
