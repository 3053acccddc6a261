"""Teachers that are out for this run, by a fault of their own: why, in which round, and under which controller.

A teacher stays out until another controller starts, or at `wizloop teach FILE` until the next command.
"""

from sqlalchemy import Connection

from wizloop.store import control, steps


def note(db: Connection, round: int, teacher: str, why: str) -> None:
    """Note that a round gave a teacher up. Raises errors.NotFound."""
    steps.merge_record(db, round, {"out": {**_out(steps.get_round(db, round)), teacher: [_controller(db), why]}})


def forget(db: Connection, round: int) -> None:
    """Let a round ask the teachers again that it gave up under an earlier controller."""
    known, now = _out(steps.get_round(db, round)), _controller(db)
    kept = {name: noted for name, noted in known.items() if now is not None and noted[0] == now}
    if kept != known:
        steps.merge_record(db, round, {"out": kept})


def in_round(db: Connection, round: int) -> dict[str, str]:
    """Return the teachers that a round gave up, with the reasons."""
    return {name: why for name, (_, why) in _out(steps.get_round(db, round)).items()}


def newest(db: Connection) -> dict[str, str]:
    """Return the teachers that the newest round gave up, with the reasons."""
    numbers = [each.number for each in steps.rounds(db)]
    return in_round(db, max(numbers)) if numbers else {}


def before(db: Connection, teacher: str) -> str | None:
    """Return why this controller no longer asks a teacher, or None."""
    now, found = _controller(db), None
    for each in steps.rounds(db):
        controller, why = _out(each).get(teacher, (None, None))
        found = why if controller is not None and controller == now else found
    return found


def rounds(db: Connection) -> list[int]:
    """Return the rounds that gave a teacher up."""
    return [each.number for each in steps.rounds(db) if _out(each)]


def _controller(db: Connection) -> int | None:
    found = control.controller(db)
    return None if found is None else found.generation


def _out(round: steps.Round | None) -> dict[str, tuple[int | None, str]]:
    return {} if round is None else round.record.get("out", {})
