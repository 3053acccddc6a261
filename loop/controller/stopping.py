"""The rules by which a run has had enough rounds: rounds, budget, an empty pool, a plateau. Each answer is a sentence.

They are asked before a round begins; the person and the clock, which can end a run inside one, are the night's own.
"""

import json
from collections.abc import Sequence

from wizloop.recipes.sections import Stop
from wizloop.store import control, errors, evaluations, predictions, selections, spending, steps, teacher_calls
from wizloop.store.db import Connection, Store

_NO_MODEL = 0
"""An id that no model has: what such a model has not predicted is everything."""


def rounds_are_enough(store: Store, number: int, stop: Stop) -> str | None:
    """Why round `number` must not begin, or None. A round that has begun is always ended. Raises errors.NoRun."""
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
        return _budget_is_spent(db, number - 1) or _pool_is_empty(db, number) or _on_a_plateau(db, stop)


def _budget_is_spent(db: Connection, last: int) -> str | None:
    """Holds when money was spent and none is left, or not enough for a call that was planned. Free work goes on."""
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
        return "the pool is empty: every usable sample was chosen"
    if number > 1 and not selections.by_reason(db, number - 1):
        return f"the pool is empty: round {number - 1} found no sample that was worth choosing"
    return None


def _on_a_plateau(db: Connection, stop: Stop) -> str | None:
    """Holds when none of the last rounds brought the champion's dev macro-F1 above the best before them."""
    if stop.plateau_rounds is None:
        return None
    known = [f1 for each in steps.rounds(db) if (f1 := _dev_macro_f1(db, each.champion_after)) is not None]
    before, lately = known[: -stop.plateau_rounds], known[-stop.plateau_rounds :]
    if not before or max(lately) >= max(before) + stop.plateau_delta:
        return None
    return (
        f"macro-F1 on dev has not risen by {100 * stop.plateau_delta:.1f} points in {_rounds(lately)}: "
        f"{100 * max(lately):.1f} against {100 * max(before):.1f}"
    )


def _dev_macro_f1(db: Connection, model_id: int | None) -> float | None:
    """The mean of the tasks' macro-F1 on dev, in 0..1; None where there is no figure."""
    if model_id is None:
        return None
    rows = [row for row in evaluations.of_model(db, model_id) if row.benchmark == "dev"]
    values = [json.loads(row.metrics_json).get("macro_f1") for row in rows]
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def _rounds(lately: Sequence[float]) -> str:
    return "the last round" if len(lately) == 1 else f"the last {len(lately)} rounds"
