"""`evaluate --against`: the second guard's answers to the rows that were evaluated, asked or read from a file."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from wizloop.loop.commands.common import refuse, report_errors, run_models, say

if TYPE_CHECKING:
    from wizloop.loop.evaluation.against import Line
    from wizloop.loop.evaluation.answered_rows import AnsweredRow, BenchmarkRow
    from wizloop.loop.evaluation.scoring import BenchmarkResult
    from wizloop.loop.guard.judge import Judge
    from wizloop.loop.guard.published.judge import PublishedJudge
    from wizloop.loop.words import Declaration

    Loader = Callable[[], AbstractContextManager[tuple[Judge | PublishedJudge, int]]]

WHAT = (
    "base, a round's number, a workspace or WORKSPACE:ROUND, a folder of a model, NAME=DIR of a published guard, or a "
    "file of recorded outputs or of --rows"
)


with_against = click.option("--against", metavar="B", help=f"Compare with B, row by row: {WHAT}.")


class Evaluated(NamedTuple):
    """What was evaluated first: its name, its results and rows, and the settings that it was asked with."""

    name: str
    scored: "Sequence[tuple[BenchmarkResult, Any]]"
    answered: "Sequence[AnsweredRow]"
    workspace: Path
    recipe: str | None
    reader: Any
    words: "Declaration"
    """The label words by which files are read."""


def name_of(round: int | None, model: Path | None, recipe: str | None, guard: str | None) -> str:
    """Return the name of the guard that these options of `evaluate` are of."""
    named = (guard, model, recipe, None if round is None else f"round {round}")
    return next((str(one) for one in named if one is not None), "the champion")


def check(named: str | None, files: Sequence[Path], workspace: Path, recipe: str | None, words: "Declaration") -> None:
    """Refuse what `--against` cannot name, before a guard is asked for minutes. Raises ImportRefused for bad rows."""
    from wizloop.loop.evaluation import against

    if named is None or files:
        return
    if _is_file(named):
        against.read(Path(named), words)
    else:
        _loader(named, workspace, recipe)


def compared(one: Evaluated, files: Sequence[Path], named: str | None) -> "list[Line]":
    """Compare with what `--against` names; several recorded outputs of one benchmark also without it."""
    if files:
        return _compared_recorded(one, files, named)
    return [] if named is None else _compared(one, named)


def _compared(one: Evaluated, named: str) -> "list[Line]":
    """Compare a guard with what `--against` names, on the same rows."""
    from wizloop.loop.evaluation import against

    benchmarks = list(dict.fromkeys(row.benchmark for row in one.answered))
    ours = {name: [row for row in one.answered if row.benchmark == name] for name in benchmarks}
    theirs = _of_file(Path(named), ours, one) if _is_file(named) else _asked(named, ours, one)
    sides = [against.Sides(name, one.name, named, ours[name], theirs[name]) for name in benchmarks]
    return _told(against.lines(sides), named)


def _compared_recorded(one: Evaluated, files: Sequence[Path], named: str | None) -> "list[Line]":
    """Compare recorded outputs with those that `--against` names, or else with the first of the same benchmark."""
    from wizloop.loop.evaluation import against

    sides = []
    first: dict[tuple[str, str], BenchmarkResult] = {}
    for (result, _), path in zip(one.scored, files, strict=True):
        known = first.setdefault((result.benchmark, result.task), result)
        rows, ours = _rows_of(one, result), result.output or (str(path) if len(files) == 1 else "the recorded outputs")
        if named is not None:
            other = _counterpart(Path(named), path, files)
            theirs = [] if other is None else _recorded(other, result, one)
            sides.append(against.Sides(result.benchmark, ours, named, rows, theirs))
        elif known is not result:
            sides.append(against.Sides(result.benchmark, ours, str(known.output), rows, _rows_of(one, known)))
    return _told(against.lines(sides), str(named)) if sides else []


def _is_file(named: str) -> bool:
    """Return whether `--against` names answers in a file, and no guard to ask."""
    return named != "base" and not named.isdigit() and not named.endswith(".gguf") and Path(named).is_file()


def _rows_of(one: Evaluated, result: "BenchmarkResult") -> "list[AnsweredRow]":
    return [row for row in one.answered if row.benchmark == result.name and result.task in row.labels]


def _told(found: "list[Line]", named: str) -> "list[Line]":
    if not found:
        refuse(f"--against {named}: it answered none of the rows that were evaluated")
    return found


def _counterpart(named: Path, path: Path, files: Sequence[Path]) -> Path | None:
    """Return the recorded outputs to hold against a file: `named`, or those in it under the same name, if any."""
    if named.is_dir():
        places = (named / path.absolute().parent.name / path.name, named / path.name)
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            say(f"{named}: it has no {' and no '.join(str(place.relative_to(named)) for place in places)}")
        return found
    if not named.is_file():
        refuse(f"--against {named}: no such file; with --predictions, give recorded outputs or a folder of them")
    if len(files) > 1:
        refuse(f"--against {named} is one file, and there are {len(files)} of --predictions: give a folder")
    return named


def _recorded(path: Path, result: "BenchmarkResult", one: Evaluated) -> "list[AnsweredRow]":
    """Read recorded outputs of a benchmark, or the rows of an evaluation of some. Raises ImportRefused."""
    from wizloop.loop.evaluation import against, recorded_predictions

    rows = against.read(path, one.words)
    if rows is None:
        return recorded_predictions.read(path, result.task, one.reader, declared=one.words).answered
    return _by_benchmark(rows, [result.benchmark])[result.benchmark]


def _of_file(path: Path, ours: "Mapping[str, Sequence[AnsweredRow]]", one: Evaluated) -> "dict[str, list[AnsweredRow]]":
    """Return the rows of a file by benchmark: rows of an evaluation, or recorded outputs for the one benchmark."""
    from wizloop.loop.evaluation import against

    rows = against.read(path, one.words)
    if rows is None:
        return {name: against.recorded_for(path, each, one.reader, one.words) for name, each in ours.items()}
    return _by_benchmark(rows, list(ours))


def _by_benchmark(rows: "list[AnsweredRow]", names: Sequence[str]) -> "dict[str, list[AnsweredRow]]":
    """Return the rows of each benchmark; all, if it is one that had another name where they were written."""
    named = {name: [row for row in rows if row.benchmark == name] for name in names}
    return dict.fromkeys(names, rows) if len(names) == 1 and not any(named.values()) else named


def _asked(named: str, ours: "Mapping[str, Sequence[AnsweredRow]]", one: Evaluated) -> "dict[str, list[AnsweredRow]]":
    """Ask another guard about the same rows, by benchmark."""
    from wizloop.loop.evaluation import benchmark_guard

    asked = {name: [_row(row) for row in rows] for name, rows in ours.items()}
    with _loader(named, one.workspace, one.recipe, list(ours))() as (judge, seed):
        return {name: benchmark_guard.evaluate(judge, name, rows, seed=seed)[1] for name, rows in asked.items()}


def _row(one: "AnsweredRow") -> "BenchmarkRow":
    from wizloop.loop.evaluation.answered_rows import BenchmarkRow

    return BenchmarkRow(one.prompt, one.response, one.labels, one.policy, one.row, one.sample)


def _loader(named: str, workspace: Path, recipe: str | None, files: Sequence[str] = ()) -> "Loader":
    """Return what loads the guard that `--against` names, with its seed; refuse a name of none."""
    from wizloop.loop.guard import guard_file
    from wizloop.loop.guard.published import registry
    from wizloop.store.sqlite import DB_NAME

    guard, _, folder = named.partition("=")
    other, _, round = named.rpartition(":")
    there, of_base = Path(named).exists(), named == "base"
    if (Path(named) / DB_NAME).exists():
        return partial(_of_run, Path(named), None)
    if other and round.isdigit() and (Path(other) / DB_NAME).exists():
        return partial(_of_run, Path(other), round)
    if Path(folder).is_dir() and folder and guard in registry.names():
        return partial(_of_recipe, recipe or "imported", Path(folder), files, guard)
    if (Path(named) / guard_file.NAME).is_file():
        return partial(_exported, Path(named))
    if recipe is not None and (of_base or there):
        return partial(_of_recipe, recipe, None if of_base else Path(named), files, None)
    if recipe is None and (workspace / DB_NAME).exists() and (of_base or named.isdigit() or there):
        return partial(_of_run, workspace, named)
    refuse(f"--against {named}: " + ("a model alone: add --recipe, or a workspace" if there else f"give {WHAT}"))


@contextmanager
def _of_run(workspace: Path, which: str | None) -> "Iterator[tuple[Judge, int]]":
    """Load a model of a run: its base, a folder's model with its recipe, or the champion (after a round)."""
    from wizloop.loop.evaluation import benchmark_guard
    from wizloop.loop.phases import model_roles

    with run_models(workspace, "evaluate", ValueError) as ctx:
        if which is not None and which != "base" and not which.isdigit():
            _say_uncalibrated(which)
            yield benchmark_guard.judge_of_folder(ctx, Path(which)), ctx.recipe.seed
            return
        with ctx.store.read() as db:
            if which is None:
                model = model_roles.standing(db)
            else:
                model = model_roles.base(db) if which == "base" else model_roles.champion_after(db, int(which))
        yield benchmark_guard.judge_of_run(ctx, model), ctx.recipe.seed


@contextmanager
def _exported(folder: Path) -> "Iterator[tuple[Judge, int]]":
    from wizloop.backends.guard_types import BackendError
    from wizloop.loop.guard import guard_file

    with report_errors(ValueError, failures=(BackendError,)), redirect_stdout(sys.stderr):
        found = guard_file.load(folder, None)
        if not found.calibrated:
            _say_uncalibrated(folder)
        yield found.judge, found.recipe.seed


@contextmanager
def _of_recipe(
    recipe: str, folder: Path | None, files: Sequence[str], published: str | None
) -> "Iterator[tuple[Judge | PublishedJudge, int]]":
    """Load a recipe's base, a folder's model with the recipe, or a published guard from the folder."""
    from wizloop.backends.guard_types import BackendError
    from wizloop.loop.evaluation import benchmark_guard
    from wizloop.loop.guard.published import registry
    from wizloop.recipes import schema

    with report_errors(schema.RecipeError, failures=(BackendError,)), redirect_stdout(sys.stderr):
        settings = schema.load(recipe)
        if published is not None:
            yield registry.load(published, settings.guard, folder), settings.seed
        else:
            _say_uncalibrated(folder or settings.guard.base)
            yield benchmark_guard.judge_of_recipe(settings, folder, files), settings.seed


def _say_uncalibrated(model: Path | str) -> None:
    say(f"{model}: not calibrated on dev, so every threshold is 0.5")
