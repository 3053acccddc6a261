"""`rate`: outputs that people rate, blind, in the terminal or in files, and how far they agree."""

import getpass
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from wizloop.loop.commands.common import (
    FILE,
    ID,
    ROUND,
    in_workspace,
    in_workspace_with_json,
    new_file,
    now,
    put,
    read_store,
    refuse,
    report_errors,
    say,
)

if TYPE_CHECKING:
    from wizloop.loop.evaluation.rated_outputs import Drawn
    from wizloop.loop.exchange.tool_files import Tool
    from wizloop.store.db import Store

_MOST = 10_000
"""Outputs of a set; people rate 50 or 100."""
of_set = click.option("--set", "set_id", type=ID, metavar="N", help="Rating set; default: the newest.")
as_rater = click.option("--as", "name", metavar="NAME", help="Name of the rater.")


@click.group(invoke_without_command=True, short_help="Have people rate outputs, blind; measure their agreement.")
@click.option("--as", "name", metavar="NAME", help="Name of the rater; default: the account's.")
@of_set
@in_workspace
@click.pass_context
def rate(ctx: click.Context, name: str | None, set_id: int | None, workspace: Path) -> None:
    """Rate the outputs of a set: your verdict on each text, and how coherent its reasoning is.

    It shows no label, no verdict of a guard or teacher, and no other rater's answers. Draw a set first. Several people
    may rate it at once.
    """
    if ctx.invoked_subcommand is not None:
        given = [one for one in ctx.params if ctx.get_parameter_source(one) is ParameterSource.COMMANDLINE]
        if given:
            refuse(f"options of `wizloop rate {ctx.invoked_subcommand}` go after its name")
        return
    from wizloop.loop.commands import watch

    with report_errors():
        watch.open_rating(workspace, name or getpass.getuser(), set_id)


@rate.command(short_help="Draw outputs to rate, by seed.")
@click.option(
    "--n", "n", type=click.IntRange(1, _MOST), default=50, show_default=True, metavar="N", help="Outputs to draw."
)
@click.option(
    "--of", "of", type=click.Choice(["guard", "teacher"]), default="guard", show_default=True, help="Whose reasoning."
)
@click.option(
    "--round", type=ROUND, metavar="N", help="Of this round; default: the guard that stands, every teacher's."
)
@click.option("--file", type=FILE, metavar="FILE", help="Rows of this file instead: prompt, response, reasoning.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), metavar="N", help="Seed of the draw; default: the run's.")
@in_workspace_with_json
def draw(
    n: int, of: str, round: int | None, file: Path | None, seed: int | None, workspace: Path, as_json: bool
) -> None:
    """Draw a rating set from the stored reasoning of a run's guard or teachers, or from the rows of a file.

    What raters are shown is frozen now. A file may be one of `wizloop evaluate --rows FILE --texts`, which has no
    reasoning, or recorded outputs; its workspace needs no run.
    """
    from wizloop.loop.data.records import ImportRefused
    from wizloop.store import ratings

    source = click.get_current_context().get_parameter_source("of")
    if file is not None and (round is not None or source is ParameterSource.COMMANDLINE):
        refuse("--file does not go with --of and --round: a file is drawn from as it is")
    with report_errors(ImportRefused), _opened(workspace, file) as store:
        drawn = _draw(store, n, of, round, file, seed)
        with store.write() as db:
            set_id = ratings.add_set(
                db,
                of=drawn.of,
                name=drawn.name,
                round=drawn.round,
                seed=drawn.seed,
                outputs=drawn.outputs,
                now=now(),
            )
    reasoned = sum(bool(one.reasoning) for one in drawn.outputs)
    if as_json:
        put(
            {
                "set": set_id,
                "of": drawn.of,
                "name": drawn.name,
                "round": drawn.round,
                "seed": drawn.seed,
                "outputs": len(drawn.outputs),
                "with_reasoning": reasoned,
                "of_how_many": drawn.there,
            }
        )
    say(
        f"set {set_id}: {len(drawn.outputs):,} of {drawn.there:,} outputs of {drawn.name}, drawn with seed {drawn.seed}"
    )
    if reasoned < len(drawn.outputs):
        say(f"{len(drawn.outputs) - reasoned:,} have no reasoning: its coherence is not asked there")


def _opened(workspace: Path, file: Path | None) -> "Store":
    """Open the workspace; for a file that can be read, create it if there is none."""
    from wizloop.loop.evaluation import rated_outputs
    from wizloop.store.db import Store
    from wizloop.store.sqlite import DB_NAME

    if file is None or (workspace / DB_NAME).exists():
        return Store.open(workspace)
    rated_outputs.of_file(file, 1, 0)
    return Store.create(workspace)


def _draw(store: "Store", n: int, of: str, round: int | None, file: Path | None, seed: int | None) -> "Drawn":
    from wizloop.loop.context import declared_of
    from wizloop.loop.evaluation import rated_outputs
    from wizloop.store import control

    with store.read() as db:
        run, declared = control.get_run(db), declared_of(db)
    seed = seed if seed is not None else 0 if run is None else run.seed
    if file is not None:
        return rated_outputs.of_file(file, n, seed, declared)
    if of == "teacher":
        return rated_outputs.of_teacher(store, n, seed, round, declared.by_task)
    return rated_outputs.of_guard(store, n, seed, round, declared.by_task)


@rate.command("export", short_help="Write a set's outputs to a file, to rate in another program.")
@click.argument("path", type=FILE, metavar="FILE")
@as_rater
@click.option(
    "--for",
    "tool",
    type=click.Choice(["label-studio", "argilla"]),
    help="FILE is a new folder for this tool; without it a table, .csv or .jsonl.",
)
@of_set
@in_workspace
def export_(path: Path, name: str | None, tool: "Tool | None", set_id: int | None, workspace: Path) -> None:
    """Write the outputs that a rater has not rated to FILE, without anybody's answers.

    What comes back is recorded under --as NAME, or, from a tool without it, under the tool's own names.
    """
    from wizloop.loop.commands import rate_files

    with report_errors(), read_store(workspace) as db:
        rate_files.write(db, path, name, tool, set_id)


@rate.command("import", short_help="Record the ratings in a file.")
@click.argument("path", type=FILE, metavar="FILE")
@in_workspace_with_json
def import_(path: Path, workspace: Path, as_json: bool) -> None:
    """Record the ratings that come back in FILE: an export of Label Studio or Argilla, or a filled-in table.

    A rater's new answer replaces the older one, which stays in the log. Importing a file again changes nothing.
    """
    from wizloop.loop.commands import rate_files

    with report_errors():
        rate_files.read(workspace, path, as_json=as_json)


@rate.command(short_help="Show how far the raters of a set agree, with 95 % intervals.")
@of_set
@click.option("--rows", type=FILE, metavar="FILE", help="Write the outputs on which raters differ, as JSON Lines.")
@click.option("--texts", is_flag=True, help="With the texts of those outputs.")
@in_workspace_with_json
def agreement(set_id: int | None, rows: Path | None, texts: bool, workspace: Path, as_json: bool) -> None:
    """Show percent agreement, Cohen's kappa and Krippendorff's alpha on each question, and each rater's coherence.

    Intervals are bootstrapped by prompt. It shows every rater's figures: wait until all have rated.
    """
    from wizloop.loop.commands import rate_files, rate_table
    from wizloop.loop.evaluation import rater_agreement
    from wizloop.store import ratings

    if texts and rows is None:
        refuse("--texts goes with --rows FILE")
    new_file(rows)
    with report_errors(), read_store(workspace) as db:
        found = rater_agreement.measure(db, ratings.get_set(db, set_id))
    if as_json:
        put(rater_agreement.to_json(found))
    else:
        rate_table.show(found)
    if rows is not None:
        rate_files.write_rows(rows, found, texts=texts)
