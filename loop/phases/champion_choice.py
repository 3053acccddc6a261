"""Choose the champion by hand, between two rounds, over the gate either way. The gate's own decision stays on record.

Within a round the champion must not change: it has read the pool, and the round's challenger is held against it.
"""

from datetime import datetime

from wizloop.console import chosen
from wizloop.loop.phases import model_roles, order
from wizloop.store import control, errors, events, models, steps
from wizloop.store.db import Connection, Store
from wizloop.store.display import shown

MOST_BYTES = 500
"""Of a reason."""


class Refused(ValueError):
    """The champion cannot be chosen so or now; the message says what to do."""


def model_of(store: Store, number: int | None) -> models.Model:
    """Return the challenger that a round made, or the base for None. Raises Refused, errors.NoRun."""
    with store.read() as db:
        if control.get_run(db) is None:
            raise errors.NoRun
        found = models.by_name(db, model_roles.BASE) if number is None else model_roles.challenger(db, number)
        begun = number is None or steps.get_round(db, number) is not None
    if found is None:
        what = "no base yet" if number is None else f"no round {number} yet"
        what = f"no challenger of round {number}" if number is not None and begun else what
        raise Refused(f"there is {what}: `wizloop rounds` shows the rounds")
    return found


def running(store: Store) -> str:
    """Return why nothing can be chosen while a controller works, and what to do."""
    with store.read() as db:
        begun = steps.rounds(db)
    number = begun[-1].number if begun else 0
    return (
        f"a run is active, in round {number}: `wizloop stop`, then `wizloop start --rounds {number}`, which ends after "
        f"round {number}; choose then, and go on with `wizloop start --rounds N`"
    )


def choose(store: Store, wanted: models.Model, *, why: str, by: str, now: datetime) -> str:
    """Make a model the champion, or none for the base, in one transaction; return what is said of it. Raises Refused.

    `champion_after` of the last round follows, so that exports and the next round do.
    """
    why = shown(" ".join(why.split()), MOST_BYTES)
    if not why:
        raise Refused("--why is empty: say why, it stays on record")
    with store.write() as db:
        last = _finished(db)
        before = model_roles.standing(db)
        if before.id == wanted.id:
            raise Refused(f"{wanted.name} stands already")
        kept = {"at": now.isoformat(timespec="seconds"), "by": by, "model": wanted.name, "before": before.name}
        control.set_champion(db, None if wanted.role == "base" else wanted.id)
        steps.choose_champion(db, last.number, None if wanted.role == "base" else wanted.id)
        record = {chosen.KEY: [*last.record.get(chosen.KEY, []), {**kept, "why": why}]}
        steps.merge_record(db, last.number, record)
        said = chosen.lines(record)[-1]
        events.add(db, level="warn", message=said, now=now, round=last.number, phase="gate")
    return said


def _finished(db: Connection) -> steps.Round:
    """Return the last round, which must be finished. Raises Refused."""
    begun = steps.rounds(db)
    if not begun:
        raise Refused("no round has begun: there is nothing to choose from")
    last = begun[-1]
    done = {step.phase for step in steps.steps(db, last.number) if step.state == "done"}
    if left := [phase for phase in order.phases_of(last.number) if phase not in done]:
        raise Refused(
            f"round {last.number} is in the middle, at {left[0]}: its samples and challenger belong to the champion "
            f"as it is. Finish it with `wizloop start --rounds {last.number}`, then choose"
        )
    return last
