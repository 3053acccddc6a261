"""Stop rules between rounds: rounds, budget, empty pool, plateau. Each returns its reason as a sentence.

The user and the clock, which can end a run within a round, are handled in `night`.
"""

import json

from wizloop.console import label_gains
from wizloop.recipes.sections import Stop
from wizloop.store import (
    control,
    errors,
    evaluations,
    models,
    predictions,
    samples,
    selections,
    spending,
    steps,
    teacher_calls,
)
from wizloop.store.db import Connection, Store

_NO_MODEL = 0
"""An id that no model has: such a model has predicted nothing."""


def rounds_are_enough(store: Store, number: int, stop: Stop) -> str | None:
    """Return why round `number` must not start, or None; a started round is always finished. Raises errors.NoRun."""
    with store.read() as db:
        run = control.get_run(db)
        if run is None:
            raise errors.NoRun
        if steps.get_round(db, number) is not None:
            return None
        if number > run.rounds_wanted:
            named = {0: "round 0 is done", 1: "the one round is done"}
            return named.get(run.rounds_wanted, f"all {run.rounds_wanted} rounds are done")
        if number == 0:
            return None
        return (
            _budget_is_spent(db, number - 1)
            or _pool_is_empty(db, number)
            or _on_a_plateau(db, stop)
            or _not_paying(db, stop)
        )


def _budget_is_spent(db: Connection, last: int) -> str | None:
    """Return a reason if money was spent and the rest does not cover a planned call. Free work continues."""
    money = spending.budget(db)
    used = money.settled_micro + money.reserved_micro
    if money.cap_micro is None or used == 0:
        return None
    could_not_pay = teacher_calls.call_counts(db, last).get("planned", 0) > 0 and not teacher_calls.traces(db, last)
    if used < money.cap_micro and not could_not_pay:
        return None
    return f"the budget of ${money.cap_micro / 1e6:.2f} is spent: ${used / 1e6:.2f} is charged or reserved"


def _pool_is_empty(db: Connection, number: int) -> str | None:
    if not predictions.unpredicted(db, _NO_MODEL, "pool", 0, 1, only_unselected=True):
        return "the pool is empty: every usable sample was selected"
    if number > 1 and not selections.by_reason(db, number - 1) and not _has_grown(db, number - 1):
        return f"the pool is empty: round {number - 1} found no sample worth selecting"
    return None


def _has_grown(db: Connection, number: int) -> bool:
    """Return whether samples came in after a round began."""
    begun = steps.get_round(db, number)
    return begun is not None and samples.newest(db) > begun.record.get(steps.LAST_SAMPLE, samples.newest(db))


def _on_a_plateau(db: Connection, stop: Stop) -> str | None:
    """Return a reason if no recent round raised dev macro-F1 above the best before it, the base included."""
    if stop.plateau_rounds is None:
        return None
    base = models.by_name(db, "base")
    first = None if base is None else base.id
    stood = [first, *(each.champion_after or first for each in steps.rounds(db))]
    known = [f1 for model_id in stood if (f1 := _dev_macro_f1(db, model_id)) is not None]
    before, recent = known[: -stop.plateau_rounds], known[-stop.plateau_rounds :]
    if not before or max(recent) >= max(before) + stop.plateau_delta:
        return None
    rounds = "the last round" if len(recent) == 1 else f"the last {len(recent)} rounds"
    return (
        f"macro-F1 on dev has not risen by {100 * stop.plateau_delta:.1f} points in {rounds}: "
        f"{100 * max(recent):.1f} against {100 * max(before):.1f}"
    )


def _not_paying(db: Connection, stop: Stop) -> str | None:
    """Return a reason if the last round expects less of the next hundred labels than they must add."""
    begun = steps.rounds(db)
    found = (begun[-1].record.get(label_gains.KEY) or {}).get("next") if begun else None
    if stop.least_gain is None or found is None or found["gain"] >= stop.least_gain:
        return None
    said = label_gains.next_hundred(found)
    return f"asking more is not expected to pay. {said}; they must add {100 * stop.least_gain:.1f} (stop.least_gain)"


def _dev_macro_f1(db: Connection, model_id: int | None) -> float | None:
    """Return the mean of the tasks' macro-F1 on dev, from 0 to 1, or None if there is none."""
    if model_id is None:
        return None
    rows = [row for row in evaluations.of_model(db, model_id) if row.benchmark == "dev"]
    values = [json.loads(row.metrics_json).get("macro_f1") for row in rows]
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None
