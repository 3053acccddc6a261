"""`audit`: labels that are likely wrong."""

import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wizloop.loop.commands.common import (
    FILE,
    ROUND,
    in_workspace,
    new_file,
    now,
    put,
    reading,
    say,
    sentences,
    with_json,
)

if TYPE_CHECKING:
    from wizloop.loop.evaluation.label_audit import Opinion

SPLITS = ("pool", "seed", "dev", "test")
_TEXT = 200
"""Bytes of a text that are shown; --out has all."""


@click.command(short_help="Labels that are likely wrong, best first.")
@click.option("--split", type=click.Choice(SPLITS), multiple=True, help="Only these; without it, every labelled one.")
@click.option("--round", type=ROUND, help="Ask the champion after this round; without it, the one that stands.")
@click.option("--traces", type=FILE, help="What a teacher wrote of these samples: `wizloop teach` writes such a file.")
@click.option("--untaught", is_flag=True, help="List too what the guards alone are against: most of it is their error.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Rows shown.")
@click.option("--out", type=FILE, help="Write all of them into this new file, as JSON Lines.")
@in_workspace
@with_json
def audit(
    split: tuple[str, ...],
    round: int | None,
    traces: Path | None,
    untaught: bool,
    limit: int,
    out: Path | None,
    workspace: Path,
    as_json: bool,
) -> None:
    """Labels against which a confident guard, its members and the teacher agree: likely errors, best first.

    A policy reasoner is asked about what it never saw; of other teachers, give --traces. What the guard was
    trained on it repeats: a seed row that is listed all the same is the more likely wrong.
    """
    new_file(out)
    from wizloop.loop.evaluation import label_audit as auditing

    asked = _opinions(workspace, split or SPLITS, round, traces)
    found = auditing.suspects(asked, untaught=untaught)
    if as_json:
        put({"labels": len(asked), "suspects": [_row(one) for one in found]})
    else:
        _show(found, limit, len(asked))
    if out is not None:
        out.write_text("".join(json.dumps(_row(one), ensure_ascii=False) + "\n" for one in found), encoding="utf-8")
        say(f"{len(found)} rows are in {out}")


def _opinions(workspace: Path, splits: Sequence[str], round: int | None, traces: Path | None) -> "list[Opinion]":
    """Ask the guards; model libraries print to stdout, where only answers go."""
    from wizloop.backends.guard_types import BackendError
    from wizloop.loop.context import recipe_of, standalone
    from wizloop.loop.evaluation import compare_traces
    from wizloop.loop.evaluation import label_audit as auditing
    from wizloop.loop.phases import model_roles
    from wizloop.recipes.policies import PolicyError
    from wizloop.store.db import Store

    with sentences(compare_traces.NotTraces), reading(workspace) as db:
        recipe, model = recipe_of(db), model_roles.champion_after(db, round)
        written = [] if traces is None else compare_traces.read(traces)
    with (
        sentences(PolicyError, failures=(BackendError,)),
        Store.open(workspace, readonly=True) as store,
        redirect_stdout(sys.stderr),
    ):
        ctx = standalone(store, workspace, recipe, "audit", now())
        return auditing.opinions(ctx, model, splits, written)


def _row(one: "Opinion") -> dict[str, Any]:
    return {**asdict(one), "self_confidence": round(one.p, 6)}


def _show(found: "Sequence[Opinion]", limit: int, asked: int) -> None:
    from wizloop.console.tables import console_for_tables, plain

    console = console_for_tables()
    taught = sum(one.teacher is not None for one in found)
    said = f"{len(found):,} of {asked:,} known labels are suspect"
    if found:
        said += (
            f": against {taught:,} a teacher speaks too, against {len(found) - taught:,} the guards alone. The first "
            f"{min(limit, len(found)):,}, likeliest first, with the guard's probability of the label:"
        )
    console.print(plain(said))
    for one in found[:limit]:
        text = one.prompt if one.response is None else f"{one.prompt} / {one.response}"
        teacher = "no teacher was asked" if one.teacher is None else f"the teacher says {one.teacher}"
        # A row that wraps can still be found; one that is cut cannot.
        line = f"{one.row_ref}  {one.task} {one.label} ({one.p:.3f}); {teacher}"
        console.print(plain(" ".join(line.split())), soft_wrap=True)
        console.print(plain(f"    {' '.join(text.split())}", _TEXT), soft_wrap=True)
