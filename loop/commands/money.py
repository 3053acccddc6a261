"""`costs` and `keys`: what the teachers have cost, and their API keys."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wizloop.loop.commands.common import (
    FILE,
    in_workspace,
    new_file,
    put,
    read_store,
    refuse,
    report_errors,
    say,
    with_json,
)

if TYPE_CHECKING:
    from wizloop.store.costs import Cost
    from wizloop.store.db import Connection

NO_POLICY = "none"
"""Policy of refused texts that no policy's wording touches."""
UNKNOWN_POLICY = "not known"
"""Policy of every refused text if the run's policies cannot be read."""


@click.command(short_help="Show what the teachers have cost.")
@click.option("--sent", type=FILE, metavar="FILE.jsonl", help="Write what was sent to whom, a line for each call.")
@in_workspace
@with_json
def costs(sent: Path | None, workspace: Path, as_json: bool) -> None:
    """Show what the teachers have cost, by teacher, model, day and round, and their refusals.

    With --sent, write to a file when which text was sent to which provider and model, exactly as it left.
    """
    if sent is not None:
        _write_sent(sent, workspace, as_json)
        return
    with report_errors(), read_store(workspace) as db:
        found, left_out = costs_of(db)
    if left_out is not None:
        say(f"refusals are shown without their policies: {left_out}")
    if as_json:
        put(found)
        return
    _print(found)


def _write_sent(path: Path, workspace: Path, as_json: bool) -> None:
    from wizloop.loop.teaching import sent_texts

    new_file(path)
    with report_errors(), read_store(workspace, needs_run=True) as db, path.open("x", encoding="utf-8") as file:
        lines = sum(1 for row in sent_texts.rows(db) if file.write(json.dumps(row, ensure_ascii=False) + "\n"))
    if as_json:
        put({"file": str(path), "sent": lines})
    say(f"{path}: {lines:,} requests to teachers, as they were sent")


@click.group(short_help="Manage the teachers' API keys.")
def keys() -> None:
    """Manage the API keys of claude, gemini, openai and a guard's server.

    A key is read from the environment first, then from the keyring.
    """


@keys.command("set", short_help="Store a key in the keyring.")
@click.argument("name")
def set_(name: str) -> None:
    """Store the key of the teacher NAME in the keyring; it is prompted for, or read from stdin, and never shown."""
    import sys

    from pydantic import SecretStr

    from wizloop.loop import keys as kept

    with report_errors(kept.UnknownTeacher, ValueError, failures=(kept.KeyringError,)):
        kept.variables(name)
        typed = sys.stdin.isatty()
        text = click.prompt(f"key for {name}", hide_input=True, err=True) if typed else sys.stdin.readline()
        kept.store(name, SecretStr(text))
    say(f"the key for {name} is in the keyring")


@keys.command("list", short_help="List which teachers have a key, and where it comes from.")
@with_json
def list_(as_json: bool) -> None:
    """List which teachers have a key, and where it comes from. Shows no key."""
    from wizloop.loop import keys as kept

    found = {name: kept.find(name) for name in kept.VARIABLES}
    if as_json:
        put({name: None if key is None else key.where for name, key in found.items()})
        return
    for name, key in found.items():
        wanted = " or ".join(kept.variables(name))
        print(f"{name:8} {f'from {key.where}' if key else f'none: set {wanted}, or `wizloop keys set {name}`'}")


@keys.command("delete", short_help="Delete a key from the keyring.")
@click.argument("name")
def delete(name: str) -> None:
    """Delete the key of the teacher NAME from the keyring."""
    from wizloop.loop import keys as kept

    with report_errors(kept.UnknownTeacher, failures=(kept.KeyringError,)):
        deleted = kept.delete(name)
    if not deleted:
        refuse(f"the keyring holds no key for {name}")
    say(f"the key for {name} is deleted")


def costs_of(db: "Connection") -> tuple[dict[str, Any], str | None]:
    """Return what `costs --json` prints: rows, total, budget, refusals by teacher and policy, failures by reason.

    The second value is why the policies are left out, or None. Raises errors.NoRun.
    """
    from dataclasses import asdict

    from wizloop.loop.summaries import usd
    from wizloop.store import costs as sums
    from wizloop.store import spending

    found, money = sums.costs(db), spending.budget(db)
    refused, left_out = _refusals(db)
    return {
        "budget": {name: usd(getattr(money, f"{name}_micro")) for name in ("cap", "settled", "reserved")},
        "rows": [_row(cost) for cost in found],
        "total": _total(found),
        "refusals": refused,
        "failures": [asdict(one) for one in sums.failures(db)],
        "unanswered": len(sums.unanswered(db)),
    }, left_out


def _total(found: Sequence["Cost"]) -> dict[str, Any]:
    """Sum the counts and the whole micro-dollars of rows, so that no float drifts from the budget's figure."""
    from dataclasses import fields

    from wizloop.store.costs import Cost

    keys = ("teacher", "model", "day", "round")
    summed = [each.name for each in fields(Cost) if each.name not in keys]
    total = Cost("", "", "", 0, **{name: sum(getattr(cost, name) for cost in found) for name in summed})
    return {name: value for name, value in _row(total).items() if name not in keys}


def _row(cost: "Cost") -> dict[str, Any]:
    from dataclasses import asdict

    from wizloop.loop.summaries import usd

    row = asdict(cost)
    settled, reserved = row.pop("settled_micro"), row.pop("reserved_micro")
    return {**row, "settled_usd": usd(settled), "reserved_usd": usd(reserved)}


def _refusals(db: "Connection") -> tuple[list[dict[str, Any]], str | None]:
    """Count each teacher's refusals and blocks, by category and by the policy with the most wording in the text."""
    from collections import Counter

    from wizloop.store.costs import refused

    policy_of, left_out = _policies(db)
    counted = Counter(
        (one.teacher, one.outcome, one.category or "", policy_of("\n".join(filter(None, (one.prompt, one.response)))))
        for one in refused(db)
    )
    names = ("teacher", "outcome", "category", "policy")
    return [{**dict(zip(names, key, strict=True)), "n": counted[key]} for key in sorted(counted)], left_out


def _policies(db: "Connection") -> tuple[Callable[[str], str], str | None]:
    """Return the policy of a text, by id; and why it is unknown, or None.

    Only this needs the run's recipe: the rest of `costs` works whatever version wrote the workspace.
    """
    from wizloop.loop.context import recipe_of
    from wizloop.loop.guard import shown_policies
    from wizloop.loop.teaching.teachers import policies_of, touched_policy
    from wizloop.recipes.policies import PolicyError
    from wizloop.store import errors, steps

    try:
        first = steps.get_round(db, 0)
        recipe = shown_policies.asking(recipe_of(db), {} if first is None else first.record)
        policies = policies_of(recipe)
    except (errors.OtherVersion, PolicyError) as error:
        return lambda text: UNKNOWN_POLICY, str(error)
    return lambda text: touched_policy(text, policies, recipe) or NO_POLICY, None


def _print(found: dict[str, Any]) -> None:
    from wizloop.store.display import shown

    for row in found["rows"]:
        print(shown(f"{row['teacher']} ({row['model']}), {row['day']}, round {row['round']}"))
        print(f"    {_sums(row)}")
    print("all")
    print(f"    {_sums(found['total'])}")
    for one in found["refusals"]:
        kind = f" ({one['category']})" if one["category"] else ""
        print(shown(f"{one['teacher']}: {one['n']} {one['outcome']}{kind}, policy {one['policy']}"))
    for one in found["failures"]:
        why = f" ({one['category']})" if one["category"] else ""
        print(shown(f"{one['teacher']}: {one['n']} failed, {one['outcome']}{why}", 1000))
    budget = found["budget"]
    cap = "no cap" if budget["cap"] is None else f"of ${budget['cap']:.2f}"
    say(f"${budget['settled']:.4f} settled and ${budget['reserved']:.4f} reserved, {cap}")
    if found["unanswered"]:
        say(f"{found['unanswered']} samples that no teacher answered: `wizloop teach --unanswered` lists them")


def _sums(row: dict[str, Any]) -> str:
    calls = ", ".join(f"{row[name]:,} {name}" for name in ("calls", "answers", "refusals", "failures", "ambiguous"))
    cached = f"{row['cached_tokens']:,} cached"
    tokens = f"{row['input_tokens'] + row['cache_write_tokens']:,} in, {cached}, {row['output_tokens']:,} out"
    return f"{calls}\n    tokens {tokens}; ${row['settled_usd']:.4f} settled, ${row['reserved_usd']:.4f} reserved"
