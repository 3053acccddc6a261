"""`evaluate`: recorded outputs, or a guard, against labels."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from wizloop.loop.commands import (
    against_table,
    evaluate_against,
    evaluate_files,
    evaluate_guards,
    evaluate_robustness,
)
from wizloop.loop.commands.common import (
    FILE,
    ROUND,
    in_workspace_with_json,
    new_file,
    new_folder,
    put,
    refuse,
    report_errors,
    show,
)
from wizloop.loop.commands.completion import recipe_names
from wizloop.loop.commands.reading import reading, with_reading


@click.command(short_help="Evaluate recorded outputs or a guard, with 95 % intervals.")
@click.option(
    "--predictions", type=FILE, multiple=True, help="Evaluate recorded outputs: JSON Lines of prompt, label, predict."
)
@click.option(
    "--benchmark",
    multiple=True,
    metavar="NAME",
    help="Test set or file; with --predictions, the name of the recorded outputs.",
)
@click.option(
    "--task",
    type=click.Choice(["request", "completion", "response"]),
    help="Task of the recorded outputs' labels, or of a file's plain label column.",
)
@with_reading
@click.option("--skip-bad", is_flag=True, help="Skip bad rows of a file instead of refusing it.")
@click.option(
    "--reader",
    type=click.Choice(["published", "block"]),
    default="published",
    show_default=True,
    help="Read verdicts as the published evaluator does, or from the answer block at the end.",
)
@click.option("--group", metavar="COLUMN", help="Also report by this column, such as a policy or an attack.")
@click.option(
    "--perturb",
    metavar="NAMES",
    is_flag=False,
    flag_value="all",
    help="Ask again with changed case, spacing or light obfuscation and about the data's own rewrites: names or "
    "families, separated by commas; without NAMES all.",
)
@click.option(
    "--round", type=ROUND, metavar="N", help="Evaluate the champion after this round; default: the current champion."
)
@click.option(
    "--model",
    type=FILE,
    metavar="DIR",
    help="Evaluate the exported guard in this folder as its guard.json says, or a model with the run's recipe.",
)
@click.option(
    "--recipe",
    metavar="RECIPE",
    shell_complete=recipe_names,
    help="Evaluate without a run: --model, or the recipe's base, with this recipe. With --predictions: its labels.",
)
@click.option(
    "--guard",
    metavar="NAME",
    is_flag=False,
    flag_value="",
    help="Evaluate the model as this published guard, in its own prompt and form; without NAME list them.",
)
@evaluate_against.with_against
@click.option("--report", type=FILE, metavar="DIR", help="Write a Markdown report with plots into this new folder.")
@click.option(
    "--rows", type=FILE, metavar="FILE", help="Write each row with its answer to this new file, as JSON Lines."
)
@click.option("--texts", is_flag=True, help="With --rows, write the prompt and the response of each row, too.")
@in_workspace_with_json
def evaluate(
    predictions: tuple[Path, ...],
    benchmark: tuple[str, ...],
    task: str | None,
    reader: str,
    group: str | None,
    perturb: str | None,
    round: int | None,
    model: Path | None,
    recipe: str | None,
    guard: str | None,
    against: str | None,
    report: Path | None,
    rows: Path | None,
    texts: bool,
    workspace: Path,
    as_json: bool,
    **settings: Any,
) -> None:
    """Evaluate recorded outputs or a run's guard: F1, counted in three ways, with 95 % intervals.

    A file is read like `wizloop import --split test` reads it, and refused where that refuses it.
    """
    from wizloop.loop.data.records import ImportRefused
    from wizloop.loop.evaluation import answered_rows

    if guard == "":
        _list_guards(as_json)
        return
    if predictions and not (round is None and model is None and guard is None):
        refuse("--predictions scores recorded outputs: leave out --round, --model and --guard")
    if guard is not None and (round is not None or (model is None and recipe is None)):
        refuse("--guard evaluates a published guard without a run: give its folder with --model, and no --round")
    if recipe is not None and round is not None:
        refuse("--recipe evaluates without a run, and only a run has rounds: leave out --round")
    how = _how(settings, task, benchmark, recorded=bool(predictions))
    if predictions and perturb is not None:
        refuse("--perturb asks the guard again, and recorded outputs cannot be perturbed: give the guard itself")
    more = evaluate_robustness.wanted(perturb, None if predictions else group, benchmark)
    if texts and rows is None:
        refuse("--texts is for --rows: name the file of rows")
    new_folder(report)
    new_file(rows)
    notes: dict[str, Any] = {}
    asked = evaluate_guards.Asked(how, notes, more)
    of_run = not predictions and recipe is None
    words = evaluate_guards.words_of(workspace, recipe, model, guard)
    with report_errors(ImportRefused):
        evaluate_against.check(against, predictions, workspace, recipe, words)
        if predictions:
            found = evaluate_guards.recorded(predictions, benchmark, task, reader, group, notes, words)
        elif guard is not None:
            found = evaluate_guards.published_guard(guard, recipe or "imported", benchmark, model, asked)
        elif recipe is not None:
            found = evaluate_guards.without_a_run(recipe, benchmark, model, asked)
        elif model is not None and evaluate_guards.is_alone(model, benchmark, workspace):
            found, of_run = evaluate_guards.of_export(model, benchmark, asked), False
        else:
            found = evaluate_guards.of_a_run(workspace, benchmark, round, model, asked)
        who = evaluate_against.name_of(round, model, recipe, guard)
        first = evaluate_against.Evaluated(who, *found, workspace, recipe, reader, words)
        compared = evaluate_against.compared(first, predictions, against)
    measured = [one for one, _ in found.scored]
    errors = answered_rows.count_errors(found.answered)
    if as_json:
        from wizloop.loop.evaluation.against import to_json as comparison
        from wizloop.loop.evaluation.report import to_json

        beside = {"errors": [asdict(one) for one in errors]} | comparison(compared) | more.to_json()
        put(to_json(measured, notes | beside))
    else:
        from wizloop.loop.commands import evaluate_table

        evaluate_table.show(measured, notes, errors)
        against_table.show(compared)
        evaluate_robustness.show(more.found)
    if report is not None:
        evaluate_files.write_report(report, found.scored, errors, compared, more.found, notes)
        if of_run and guard is None:
            evaluate_files.log_report(workspace, report, measured, round, model)
    if rows is not None:
        evaluate_files.write_rows(rows, more.ordered(found.answered), texts=texts)


def _how(settings: dict[str, Any], task: str | None, names: Sequence[str], *, recorded: bool) -> dict[str, Any]:
    """Return how files of rows are read, as settings of [[data]]."""
    how = {name: value for name, value in reading(**settings).items() if value}
    if recorded and how:
        refuse("--predictions has its own columns: leave out --map, --label, --format, --turns and --skip-bad")
    if not recorded and task is not None:
        how["task"] = task
    if how and not recorded and not any(Path(name).is_file() for name in names):
        refuse("--map, --label, --format, --turns, --task and --skip-bad are for a file; a test set has its own labels")
    return how


def _list_guards(as_json: bool) -> None:
    from wizloop.loop.guard.published import registry

    with report_errors():
        sources = {name: registry.named(name).source for name in registry.names()}
    if as_json:
        put(sources)
        return
    for name, source in sources.items():
        show(f"{name:<18} {source}")
