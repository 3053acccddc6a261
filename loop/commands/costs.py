"""What teaching has cost, as `wizloop costs` tells it. The sums are the store's; money is shown in dollars."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from wizloop.loop.commands.status import usd
from wizloop.loop.teaching.teachers import policies_of, touched_policy
from wizloop.recipes.schema import Recipe
from wizloop.store import costs as sums
from wizloop.store import ledger
from wizloop.store.costs import Cost
from wizloop.store.db import Connection

NO_POLICY = "none"
"""Under which a refused text counts that no policy's wording touches."""


def costs_of(db: Connection, recipe: Recipe) -> dict[str, Any]:
    """Everything that `costs --json` prints: the rows, their total, the budget, refusals by teacher and policy."""
    rows, money = sums.costs(db), ledger.budget(db)
    return {
        "budget": {
            "cap": usd(money.cap_micro),
            "settled": usd(money.settled_micro),
            "reserved": usd(money.reserved_micro),
        },
        "rows": [_row(row) for row in rows],
        "total": _total(rows),
        "refusals": refusals(db, recipe),
        "unanswered": len(sums.unanswered(db)),
    }


def refusals(db: Connection, recipe: Recipe) -> list[dict[str, Any]]:
    """How often each teacher refused or blocked, by category and by the policy that the text touches most."""
    policies = policies_of(recipe)
    counted: dict[tuple[str, str, str, str], int] = {}
    for one in sums.refused(db):
        text = one.prompt if one.response is None else f"{one.prompt}\n{one.response}"
        policy = touched_policy(text, policies, recipe) or NO_POLICY
        key = (one.teacher, one.outcome, one.category or "", policy)
        counted[key] = counted.get(key, 0) + 1
    names = ("teacher", "outcome", "category", "policy")
    return [{**dict(zip(names, key, strict=True)), "n": counted[key]} for key in sorted(counted)]


def _row(row: Cost) -> dict[str, Any]:
    told = asdict(row)
    settled, reserved = told.pop("settled_micro"), told.pop("reserved_micro")
    return {**told, "settled_usd": usd(settled), "reserved_usd": usd(reserved)}


def _total(rows: Sequence[Cost]) -> dict[str, Any]:
    each = [_row(row) for row in rows]
    names = [name for name in _row(Cost("", "", "", 0)) if name not in ("teacher", "model", "day", "round")]
    return {name: sum(row[name] for row in each) for name in names}
