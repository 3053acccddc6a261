"""`train`: R-SFT and HS-DPO on a file of reasoning that exists, outside a night: round 0 of a run, and no more."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wizloop.loop.commands.common import FILE, in_workspace, on_terminal, read_store, refuse, report_errors
from wizloop.loop.commands.completion import recipe_names

if TYPE_CHECKING:
    from wizloop.recipes.schema import Recipe
    from wizloop.recipes.sections import Data

_OF_OTHER_TEACHERS = ("recorded", "openai", "traces", "options", "replay")


@click.command(short_help="Train on a file of traces: R-SFT and HS-DPO, measured and exported.")
@click.argument("file", type=FILE)
@click.option(
    "--recipe",
    default="imported",
    show_default=True,
    metavar="RECIPE",
    shell_complete=recipe_names,
    help="Recipe with the guard, the training, dev and test sets, and the exports.",
)
@click.option("--dev", type=FILE, multiple=True, help="Labeled file that thresholds and the gate are chosen on.")
@click.option("--benchmark", type=FILE, multiple=True, help="Labeled file to measure on, under its name.")
@click.option(
    "--map", multiple=True, metavar="COLUMN=FIELD", help="Use a column as prompt, response, reasoning, verdict."
)
@click.option(
    "--label", multiple=True, metavar="WORD=LABEL", help="Read a word as a verdict or label: malicious=harmful."
)
@click.option("--limit", type=click.IntRange(min=1), help="Train on the first N traces.", metavar="N")
@click.option("--skip-bad", is_flag=True, help="Skip bad rows instead of refusing the file.")
@in_workspace
def train(
    file: Path,
    recipe: str,
    dev: tuple[Path, ...],
    benchmark: tuple[Path, ...],
    map: tuple[str, ...],
    label: tuple[str, ...],
    limit: int | None,
    skip_bad: bool,
    workspace: Path,
) -> None:
    """Train a guard on the traces in FILE, outside a night.

    FILE holds reasoning and verdicts, as `wizloop import --traces` reads them. The workspace gets round 0 of a run:
    review, R-SFT, HS-DPO on the hard samples, evaluation, gate, model card and exports. No teacher is asked. What was
    interrupted goes on with the same command, or with `wizloop start`.
    """
    from wizloop.loop.commands.import_traces import traces_data
    from wizloop.loop.commands.start import run_night
    from wizloop.loop.controller.starting import RunLimits

    named = {"path": str(file), "split": "seed", "map": map, "label": label, "limit": limit, "skip_bad": skip_bad}
    asked = recipe_on_traces(recipe)
    fill(workspace, asked, traces_data(named), dev, benchmark)
    status = run_night(workspace, asked, RunLimits(), live=on_terminal())
    if status:
        raise click.exceptions.Exit(status)


def fill(
    workspace: Path, recipe: "Recipe", data: "Data", dev: Sequence[Path] = (), benchmark: Sequence[Path] = ()
) -> None:
    """Import the traces, and what measures, into a workspace that holds no other run. Exits with status 2 otherwise."""
    from wizloop.loop.commands.import_data import import_
    from wizloop.loop.commands.import_traces import import_traces
    from wizloop.loop.words import Declaration

    _refuse_another(workspace, recipe, data)
    into = partial(click.get_current_context().invoke, import_, workspace=workspace, recipe=recipe)
    for path in dev:
        into(file=path, split="dev")
    for path in benchmark:
        into(file=path, split="test", benchmark=path.name.partition(".")[0])
    import_traces(workspace, data, Declaration.of(recipe.tasks), dry_run=False, as_json=False)
    _refuse_one_class(workspace)


def recipe_on_traces(named: str) -> "Recipe":
    """Load a recipe as round 0 on traces: no seed of its own, no other teacher and no further round."""
    from pydantic import ValidationError

    from wizloop.recipes import schema

    with report_errors(schema.RecipeError):
        base = schema.load(named)
    values = base.model_dump(mode="json")
    values["rounds"] = 0
    values["teacher"] = {k: v for k, v in values["teacher"].items() if k not in _OF_OTHER_TEACHERS} | {
        "names": ["traces"]
    }
    values["data_demo"]["seed"] = 0
    values["data"] = [each for each in values["data"] if each["split"] in _kept_splits(base)]
    try:
        return schema.Recipe.model_validate_json(json.dumps(values))
    except ValidationError as error:
        refuse(f"--recipe {named}: {error.errors(include_url=False)[0]['msg'].removeprefix('Value error, ')}")


def _kept_splits(recipe: "Recipe") -> tuple[str, ...]:
    """Return the splits of a recipe that training on a file uses: a guard built from scratch reads the pool's text."""
    return ("dev", "test", "pool") if recipe.guard.base == "tiny" else ("dev", "test")


def _refuse_another(workspace: Path, recipe: "Recipe", data: "Data") -> None:
    """Refuse a workspace with another run, or with one on other traces, before anything is written into it."""
    from wizloop.loop.controller import lock, starting
    from wizloop.loop.data.records import ImportRefused
    from wizloop.loop.teaching import given_import
    from wizloop.loop.teaching.given_traces import model_of
    from wizloop.recipes.schema import RecipeError
    from wizloop.store import teacher_calls
    from wizloop.store.sqlite import DB_NAME

    if not (workspace / DB_NAME).is_file():
        return
    if lock.is_held(workspace):
        refuse(f"a run is active in {workspace}: run `wizloop stop` first, or use another --workspace")
    with report_errors(RecipeError, ImportRefused, starting.OtherRecipe), read_store(workspace) as db:
        starting.followed(db, recipe, starting.RunLimits())
        if given_import.next_round(db) and not teacher_calls.parsed(db, "traces", model_of(data), 1):
            refuse(f"{workspace} holds a guard that was trained on other traces: use another --workspace")


def _refuse_one_class(workspace: Path) -> None:
    """Refuse traces that all come to the same verdict on the request."""
    from wizloop.store import teacher_calls

    with report_errors(), read_store(workspace) as db:
        said = {trace.verdict["request"] for trace in teacher_calls.traces(db, 0)}
    if len(said) == 1:
        refuse(
            f"every trace calls the request {said.pop()}: nothing can be learned from one class; add traces of the "
            f"other with `wizloop import --traces FILE -w {workspace}`, and run the same command again"
        )
