"""What teaching has cost, as `wizloop costs` tells it. The sums are the store's; money is shown in dollars.

Only the policies that refusals touch need the run's recipe: everything else is told whatever wrote it.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from wizloop.loop.context import recipe_of
from wizloop.loop.summaries import usd
from wizloop.loop.teaching.teachers import policies_of, touched_policy
from wizloop.recipes.policies import PolicyError
from wizloop.recipes.schema import Recipe
from wizloop.store import costs as sums
from wizloop.store import errors, ledger
from wizloop.store.costs import Cost
from wizloop.store.db import Connection

NO_POLICY = "none"
"""Under which a refused text counts that no policy's wording touches."""
UNTOLD = "not known"
"""Under which every refused text counts where the run's policies cannot be read."""


def costs_of(db: Connection) -> tuple[dict[str, Any], str | None]:
    """Everything that `costs --json` prints: the rows, their total, the budget, refusals by teacher and policy.

    Beside it why the policies are not told, or None. Raises errors.NoRun.
    """
    rows, money = sums.costs(db), ledger.budget(db)
    refused, left_out = refusals(db)
    return {
        "budget": {
            "cap": usd(money.cap_micro),
            "settled": usd(money.settled_micro),
            "reserved": usd(money.reserved_micro),
        },
        "rows": [_row(row) for row in rows],
        "total": _total(rows),
        "refusals": refused,
        "unanswered": len(sums.unanswered(db)),
    }, left_out


def refusals(db: Connection) -> tuple[list[dict[str, Any]], str | None]:
    """How often each teacher refused or blocked, by category and by the policy that the text touches most.

    Beside it why the policies are not told, or None. Raises errors.NoRun.
    """
    policy_of, left_out = _policies(db)
    counted: dict[tuple[str, str, str, str], int] = {}
    for one in sums.refused(db):
        text = one.prompt if one.response is None else f"{one.prompt}\n{one.response}"
        key = (one.teacher, one.outcome, one.category or "", policy_of(text))
        counted[key] = counted.get(key, 0) + 1
    names = ("teacher", "outcome", "category", "policy")
    return [{**dict(zip(names, key, strict=True)), "n": counted[key]} for key in sorted(counted)], left_out


def _policies(db: Connection) -> tuple[Callable[[str], str], str | None]:
    """Which policy a text touches most, by its id; and why that is not known, where it is not."""
    try:
        recipe: Recipe = recipe_of(db)
        policies = policies_of(recipe)
    except (errors.OtherVersion, PolicyError) as error:
        return lambda text: UNTOLD, str(error)
    return lambda text: touched_policy(text, policies, recipe) or NO_POLICY, None


def _row(row: Cost) -> dict[str, Any]:
    told = asdict(row)
    settled, reserved = told.pop("settled_micro"), told.pop("reserved_micro")
    return {**told, "settled_usd": usd(settled), "reserved_usd": usd(reserved)}


def _total(rows: Sequence[Cost]) -> dict[str, Any]:
    each = [_row(row) for row in rows]
    names = [name for name in _row(Cost("", "", "", 0)) if name not in ("teacher", "model", "day", "round")]
    return {name: sum(row[name] for row in each) for name in names}
