"""`teach`: traces for any file outside of a run, and what a run's teachers left to a person."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wizloop.loop.commands import teach_beside as beside
from wizloop.loop.commands.common import (
    DOLLARS,
    FILE,
    INTERRUPTED,
    in_workspace,
    now,
    put,
    refuse,
    say,
    sentences,
    with_json,
)

if TYPE_CHECKING:
    from wizloop.recipes.schema import Recipe


@click.command(short_help="A teacher's traces for any file, outside of a run.")
@click.argument("file", type=FILE, required=False)
@click.option("--teacher", metavar="NAME", help="Who is asked; else those of the recipe.")
@click.option("--out", type=FILE, metavar="TRACES.json", help="Where the traces of FILE are written.")
@click.option("--recipe", metavar="RECIPE", help="Whose section [teacher] holds: models, addresses, prices.")
@click.option("--samples", type=click.IntRange(min=1), metavar="N", help="The first so many rows.")
@click.option("--budget", type=DOLLARS, metavar="USD", help="The most that it may cost.")
@click.option("--dry-run", is_flag=True, help="Show what would be sent, for FILE or the run, and send nothing.")
@click.option("--keep", type=FILE, metavar="CALLS.jsonl", help="Write a run's calls, to be answered from again.")
@click.option("--unanswered", is_flag=True, help="List a run's picked samples that no teacher answered.")
@click.option("--ask-again", is_flag=True, help="Let a run ask again what was in flight when a process died.")
@in_workspace
@with_json
def teach(
    file: Path | None,
    teacher: str | None,
    out: Path | None,
    recipe: str | None,
    samples: int | None,
    budget: float | None,
    dry_run: bool,
    keep: Path | None,
    unanswered: bool,
    ask_again: bool,
    workspace: Path,
    as_json: bool,
) -> None:
    """Ask a teacher about every row of FILE and write the traces to --out, outside of any run.

    What was paid for stands in a folder beside --out: the same command again asks only for what is missing.
    """
    if (file is not None or dry_run) + unanswered + ask_again + (keep is not None) != 1:
        refuse("say one of FILE, --dry-run, --unanswered, --ask-again, --keep")
    if dry_run:
        named = file is not None or teacher is not None or recipe is not None
        beside.dry_run(file, _recipe(recipe, teacher) if named else None, samples or 10, out, workspace, as_json)
    elif unanswered:
        beside.unanswered(workspace, as_json)
    elif keep is not None:
        beside.keep(keep, workspace)
    elif ask_again:
        _ask_again(workspace)
    elif file is not None:
        if out is None:
            refuse("name the file for the traces: --out traces.json")
        _can_begin(file, out)
        _write(file, out, _recipe(recipe, teacher), samples, budget, as_json)


def _recipe(named: str | None, teacher: str | None) -> "Recipe":
    """The recipe whose teachers are asked."""
    from pydantic import ValidationError

    from wizloop.loop.commands.teach_file import recipe_for
    from wizloop.recipes import schema

    with sentences(schema.RecipeError):
        base = None if named is None else schema.load(named)
    try:
        asked = recipe_for(base, teacher)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        refuse(f"--teacher {teacher}: {fault['msg'].removeprefix('Value error, ')}")
    if (unknown := schema.unknown_name(asked)) is not None:
        refuse(f"--teacher {teacher}: {unknown}")
    return asked


def _can_begin(file: Path, out: Path) -> None:
    """Refuse what would leave an empty ledger behind, or write over a file that no such command wrote."""
    from wizloop.loop.commands.teach_file import ledger_of

    if not file.is_file():
        refuse(f"{file}: " + ("it is a folder; name a file in it" if file.is_dir() else "no such file; check the name"))
    if out.exists() and not ledger_of(out).is_dir():
        refuse(f"{out} is there already, without the ledger of an earlier {out.name}: name a new file")


def _write(file: Path, out: Path, recipe: "Recipe", limit: int | None, budget: float | None, as_json: bool) -> None:
    from wizloop.backends.teachers.replay import BadRecording
    from wizloop.loop.commands import teach_file
    from wizloop.loop.data.records import ImportRefused
    from wizloop.loop.interrupted import Interrupted
    from wizloop.loop.teaching import clients, prices
    from wizloop.recipes.policies import PolicyError

    known = (ImportRefused, clients.NotReady, prices.PriceError, PolicyError, teach_file.OtherQuestions, BadRecording)
    with sentences(*known), _stopping() as stop_asked:
        try:
            told = teach_file.traces_of(
                file,
                out,
                recipe,
                limit=limit,
                cap_micro=None if budget is None else round(budget * 1_000_000),
                clock=now,
                stop_asked=stop_asked.is_set,
            )
        except Interrupted:
            refuse("interrupted: what was answered is kept, the same command goes on", INTERRUPTED)
    if as_json:
        put({**told, "out": str(out), "ledger": str(teach_file.ledger_of(out))})
    say(f"{out}: {told['answered']:,} of {told['total_samples']:,} rows answered, ${told['usd']:.4f}")


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets: what is in flight is still waited for and written down."""
    asked = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: asked.set())
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def _ask_again(workspace: Path) -> None:
    """Free the calls of which nobody knows: they count as spent, and the next phase teach asks them once more."""
    from wizloop.store import steps, teacher_calls
    from wizloop.store.db import Store

    with sentences(), Store.open(workspace) as store, store.write() as db:
        lost = teacher_calls.ambiguous(db)
        charged = sum(call.reserved_micro for call in lost)
        latest = max((round.number for round in steps.rounds(db)), default=0)
        taught = steps.step(db, latest, "teach")
        following = latest + 1 if taught is not None and taught.state == "done" else latest
        teacher_calls.replan(db, [call.id for call in lost], following)
    if not lost:
        say("no call is in doubt")
        return
    say(
        f"{len(lost)} calls are asked again in round {following}; ${charged / 1e6:.4f} stays charged for the first time"
    )
