"""`evaluate`: recorded outputs, or a guard, against labels."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from wizloop.loop.commands import against_table, declared, evaluate_against, evaluate_files, evaluate_robustness
from wizloop.loop.commands.common import (
    FILE,
    ROUND,
    in_workspace_with_json,
    new_file,
    new_folder,
    put,
    refuse,
    report_errors,
    run_models,
    say,
    show,
)
from wizloop.loop.commands.completion import recipe_names
from wizloop.loop.commands.reading import reading, with_reading

if TYPE_CHECKING:
    from wizloop.loop.data.sample_reader import SampleFile
    from wizloop.loop.evaluation.answered_rows import AnsweredRow, BenchmarkRow
    from wizloop.loop.evaluation.benchmark_guard import Tell
    from wizloop.loop.evaluation.scoring import BenchmarkResult, ScoredRow
    from wizloop.loop.guard.judge import Judge
    from wizloop.loop.guard.published.judge import PublishedJudge

Scored = tuple["BenchmarkResult", Sequence["ScoredRow"]]


class Found(NamedTuple):
    """What an evaluation found: the results with their rows, and every row that was answered."""

    scored: list[Scored]
    answered: "list[AnsweredRow]"


class Asked(NamedTuple):
    """What an evaluation of a guard is told, and what it says besides its results."""

    how: dict[str, Any]
    """How files of rows are read, as settings of [[data]]."""
    notes: dict[str, Any]
    more: evaluate_robustness.More


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
    help="Evaluate without a run: --model, or the recipe's base, with this recipe.",
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
    if predictions and not (round is None and model is None and recipe is None and guard is None):
        refuse("--predictions scores recorded outputs: leave out --round, --model, --recipe and --guard")
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
    asked = Asked(how, notes, more)
    of_run = not predictions and recipe is None
    with report_errors(ImportRefused):
        evaluate_against.check(against, predictions, workspace, recipe)
        if predictions:
            found = _recorded(predictions, benchmark, task, reader, group, notes)
        elif guard is not None:
            found = _published(guard, recipe or "imported", benchmark, model, asked)
        elif recipe is not None:
            found = _without_a_run(recipe, benchmark, model, asked)
        elif model is not None and _is_export(model) and _only_files(benchmark, workspace):
            found, of_run = _of_export(model, benchmark, asked), False
        else:
            found = _of_a_run(workspace, benchmark, round, model, asked)
        who = evaluate_against.name_of(round, model, recipe, guard)
        first = evaluate_against.Evaluated(who, *found, workspace, recipe, reader)
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
        evaluate_files.write_report(report, found.scored, errors, compared)
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


def _teller(notes: dict[str, Any]) -> "Tell":
    """Return what says which rows of a file were left out, and adds their number to the notes."""

    def tell(name: str, file: "SampleFile") -> None:
        from wizloop.loop.data.import_file import list_refused

        notes.setdefault("left_out", {})[name] = len(file.refused)
        say(f"{name}: format {file.format}" + (f"; {file.note}" if file.note else ""))
        if file.refused:
            say(f"{len(file.refused):,} of its {len(file.rows) + len(file.refused):,} rows are left out")
        for line in list_refused(file.refused):
            say(f"  {line}")

    return tell


def _recorded(
    files: Sequence[Path], names: Sequence[str], task: Any, reader: Any, group: str | None, notes: dict[str, Any]
) -> Found:
    import numpy as np

    from wizloop.loop.evaluation import published, recorded_predictions
    from wizloop.loop.evaluation.scoring import measure

    if names and len(names) != len(files):
        refuse(f"{len(files)} files of predictions and {len(names)} names: give one --benchmark per file, or none")
    for path in files:
        if not path.is_file():
            refuse(f"{path}: " + ("a folder; give a file in it" if path.is_dir() else "no such file; check the name"))
    found = Found([], [])
    differing: dict[str, int] = {}
    named = names or [recorded_predictions.benchmark_of(path) for path in files]
    outputs = recorded_predictions.outputs_of(files, named)
    for path, name, output in zip(files, named, outputs, strict=True):
        known = published.benchmark(name, task)
        if task is None and known is None:
            refuse(f"{name} is not a published benchmark with one task: give the task of its labels with --task")
        about = task or known.task if known is not None else task
        shown = known.name if known is not None else name
        whole = shown if output is None else f"{shown}, {output}"
        read = recorded_predictions.read(path, about, reader, group, benchmark=whole)
        result = measure(shown, about, read.rows, rng=np.random.default_rng(0), skipped=read.skipped)
        found.scored.append((replace(result, output=output), read.rows))
        found.answered.extend(read.answered)
        differing[str(path)] = read.differing
    notes |= {"reader": reader, "read_otherwise": differing}
    return found


def _of_a_run(workspace: Path, names: Sequence[str], round: int | None, folder: Path | None, asked: Asked) -> Found:
    from wizloop.loop.evaluation import benchmark_guard
    from wizloop.loop.phases import model_roles

    with run_models(workspace, "evaluate", ValueError) as ctx:
        if folder is not None and not folder.exists():
            refuse(f"{folder}: no such folder; give one with a model's config.json and safetensors, or a GGUF file")
        rows = benchmark_guard.workspace_rows(ctx.store, ctx.recipe, names, asked.how, _teller(asked.notes))
        asked.more.sources = [Path(data.path) for data in ctx.recipe.data if data.hub_split is None]
        if folder is not None and _is_export(folder):
            judge, seed = _exported(folder)
            return _scored(judge, rows, seed, asked)
        if folder is not None:
            judge = benchmark_guard.judge_of_folder(ctx, folder)
            _say_uncalibrated(folder, ctx.recipe.name)
        else:
            with ctx.store.read() as db:
                model = model_roles.champion_after(db, round)
            judge = benchmark_guard.judge_of_run(ctx, model)
        return _scored(judge, rows, ctx.recipe.seed, asked)


def _is_export(folder: Path) -> bool:
    """Return whether a folder says itself how its guard is asked."""
    from wizloop.loop.guard import guard_file

    return (folder / guard_file.NAME).is_file()


def _only_files(names: Sequence[str], workspace: Path) -> bool:
    """Return whether these benchmarks can be no test sets: they are files, or there is no workspace."""
    from wizloop.store.sqlite import DB_NAME

    return bool(names) and (all(Path(name).is_file() for name in names) or not (workspace / DB_NAME).exists())


def _of_export(folder: Path, files: Sequence[str], asked: Asked) -> Found:
    from wizloop.backends.guard_types import BackendError
    from wizloop.loop.evaluation import benchmark_guard

    with report_errors(ValueError, failures=(BackendError,)), redirect_stdout(sys.stderr):
        rows = benchmark_guard.file_rows(files, asked.how, _teller(asked.notes), declared.of_export(folder))
        judge, seed = _exported(folder)
        return _scored(judge, rows, seed, asked)


def _exported(folder: Path) -> "tuple[Judge, int]":
    """Load an exported guard as its guard.json says; return it with its seed."""
    from wizloop.loop.guard import guard_file

    found = guard_file.load(folder, None)
    if not found.calibrated:
        say(f"{folder}: its guard.json has no calibration, so every threshold is 0.5")
    return found.judge, found.recipe.seed


def _without_a_run(named: str, files: Sequence[str], folder: Path | None, asked: Asked) -> Found:
    from wizloop.backends.guard_types import BackendError
    from wizloop.loop.evaluation import benchmark_guard
    from wizloop.recipes import policies, schema

    bad_input = (schema.RecipeError, policies.PolicyError)
    with report_errors(*bad_input, failures=(BackendError,)), redirect_stdout(sys.stderr):
        recipe = schema.load(named)
        if folder is None and recipe.guard.base == "tiny":
            refuse(f"{recipe.name}: this recipe has its guard built from scratch by a run: give a model with --model")
        words = declared.of_recipe(recipe, Path())
        rows = benchmark_guard.file_rows(files, asked.how, _teller(asked.notes), words)
        judge = benchmark_guard.judge_of_recipe(recipe, folder, files)
        _say_uncalibrated(folder or recipe.guard.base, recipe.name)
        return _scored(judge, rows, recipe.seed, asked)


def _published(name: str, named: str, files: Sequence[str], folder: Path | None, asked: Asked) -> Found:
    from wizloop.backends.guard_types import BackendError
    from wizloop.loop.evaluation import benchmark_guard
    from wizloop.loop.guard.published import registry
    from wizloop.recipes import schema

    with report_errors(schema.RecipeError, failures=(BackendError,)), redirect_stdout(sys.stderr):
        registry.named(name)
        recipe = schema.load(named)
        if folder is not None and not folder.is_dir():
            refuse(f"{folder}: no such folder; give one with a model's config.json and safetensors")
        if folder is None and recipe.guard.base == "tiny":
            refuse(f"{recipe.name}: this recipe has its guard built from scratch by a run: give a model with --model")
        rows = benchmark_guard.file_rows(files, asked.how, _teller(asked.notes))
        judge = registry.load(name, recipe.guard, folder)
        say(f"{folder or recipe.guard.base}: evaluated as {name}, by {judge.form.source}")
        labeled = {task for found in rows.values() for row in found for task in row.labels}
        for task in sorted(labeled - set(judge.tasks)):
            say(f"{name} does not judge the task {task}: its labels are left out")
        return _scored(judge, rows, recipe.seed, asked)


def _list_guards(as_json: bool) -> None:
    from wizloop.loop.guard.published import registry

    with report_errors():
        sources = {name: registry.named(name).source for name in registry.names()}
    if as_json:
        put(sources)
        return
    for name, source in sources.items():
        show(f"{name:<18} {source}")


def _say_uncalibrated(model: Path | str, recipe: str) -> None:
    say(f"{model}: evaluated with the recipe {recipe}; not calibrated on dev, so every threshold is 0.5")


def _scored(
    judge: "Judge | PublishedJudge", rows: "Mapping[str, Sequence[BenchmarkRow]]", seed: int, asked: Asked
) -> Found:
    """Evaluate on every benchmark; add how the verdicts were read, and figures by policy, to the notes."""
    from wizloop.loop.evaluation import answered_by_policy, benchmark_guard
    from wizloop.loop.guard import speed

    notes, found = asked.notes, Found([], [])
    notes["reader"] = judge.reads
    policies = getattr(getattr(judge, "renderer", None), "policies", None)
    judge, meter = speed.metered(judge)
    for name, each in rows.items():
        scored, answered = asked.more.evaluated(judge, name, each, seed)
        found.scored.extend(scored)
        found.answered.extend(answered)
    notes |= benchmark_guard.category_notes(judge, found.answered, seed=seed)
    if policies is not None:
        notes["by_policy"] = answered_by_policy.record_of(found.answered, policies, seed)
    again = sum(one.asked for one in asked.more.found)
    every = [row for each in rows.values() for row in each]
    notes["speed"] = speed.figures(judge, meter, every, seed=seed, again=again)
    known = getattr(judge, "calibration", None)
    if known is not None:
        tasks = dict.fromkeys(one.task for one, _ in found.scored)
        notes["reading"] = {task: known.reading(task)._asdict() for task in tasks}
        if point := known.operating():
            notes["operating"] = point | {"source": dict(known.source)}
    return found
