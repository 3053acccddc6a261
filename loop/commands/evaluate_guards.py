"""What `evaluate` measures: recorded outputs, a guard of a run, an export, a recipe's, or a published one."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from wizloop.loop.commands import declared, evaluate_robustness
from wizloop.loop.commands.common import refuse, report_errors, run_models, say
from wizloop.loop.words import DEFAULT, Declaration

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


def words_of(workspace: Path, recipe: str | None, model: Path | None, guard: str | None) -> Declaration:
    """Return the label words that recorded outputs and files of rows are read by."""
    if guard is not None:
        return DEFAULT
    if recipe is None and model is not None and is_export(model):
        return declared.of_export(model)
    return declared.of_recipe(recipe, workspace)


def teller(notes: dict[str, Any]) -> "Tell":
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


def recorded(
    files: Sequence[Path],
    names: Sequence[str],
    task: Any,
    reader: Any,
    group: str | None,
    notes: dict[str, Any],
    words: Declaration,
) -> Found:
    """Read recorded outputs, and score them. Raises ImportRefused."""
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
        read = recorded_predictions.read(path, about, reader, group, benchmark=whole, declared=words)
        result = measure(shown, about, read.rows, rng=np.random.default_rng(0), skipped=read.skipped, declared=words)
        found.scored.append((replace(result, output=output), read.rows))
        found.answered.extend(read.answered)
        differing[str(path)] = read.differing
    notes |= {"reader": reader, "read_otherwise": differing}
    return found


def of_a_run(workspace: Path, names: Sequence[str], round: int | None, folder: Path | None, asked: Asked) -> Found:
    """Evaluate a run's champion, or the model in a folder with the run's recipe. Raises ImportRefused."""
    from wizloop.loop.evaluation import benchmark_guard
    from wizloop.loop.phases import model_roles

    with run_models(workspace, "evaluate", ValueError) as ctx:
        if folder is not None and not folder.exists():
            refuse(f"{folder}: no such folder; give one with a model's config.json and safetensors, or a GGUF file")
        rows = benchmark_guard.workspace_rows(ctx.store, ctx.recipe, names, asked.how, teller(asked.notes))
        asked.more.sources = [Path(data.path) for data in ctx.recipe.data if data.hub_split is None]
        if folder is not None and is_export(folder):
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


def is_export(folder: Path) -> bool:
    """Return whether a folder says itself how its guard is asked."""
    from wizloop.loop.guard import guard_file

    return (folder / guard_file.NAME).is_file()


def is_alone(folder: Path, names: Sequence[str], workspace: Path) -> bool:
    """Return whether this is an export, and its benchmarks can be no test sets: files, or there is no workspace."""
    from wizloop.store.sqlite import DB_NAME

    return (
        is_export(folder)
        and bool(names)
        and (all(Path(name).is_file() for name in names) or not (workspace / DB_NAME).exists())
    )


def of_export(folder: Path, files: Sequence[str], asked: Asked) -> Found:
    """Evaluate an exported guard on files. Raises ImportRefused."""
    from wizloop.backends.guard_types import BackendError
    from wizloop.loop.evaluation import benchmark_guard

    with report_errors(ValueError, failures=(BackendError,)), redirect_stdout(sys.stderr):
        rows = benchmark_guard.file_rows(files, asked.how, teller(asked.notes), declared.of_export(folder))
        judge, seed = _exported(folder)
        return _scored(judge, rows, seed, asked)


def _exported(folder: Path) -> "tuple[Judge, int]":
    """Load an exported guard as its guard.json says; return it with its seed."""
    from wizloop.loop.guard import guard_file

    found = guard_file.load(folder, None)
    if not found.calibrated:
        say(f"{folder}: its guard.json has no calibration, so every threshold is 0.5")
    return found.judge, found.recipe.seed


def without_a_run(named: str, files: Sequence[str], folder: Path | None, asked: Asked) -> Found:
    """Evaluate a recipe's base, or the model in a folder with the recipe, on files. Raises ImportRefused."""
    from wizloop.backends.guard_types import BackendError
    from wizloop.loop.evaluation import benchmark_guard
    from wizloop.recipes import policies, schema

    bad_input = (schema.RecipeError, policies.PolicyError)
    with report_errors(*bad_input, failures=(BackendError,)), redirect_stdout(sys.stderr):
        recipe = schema.load(named)
        if folder is None and recipe.guard.base == "tiny":
            refuse(f"{recipe.name}: this recipe has its guard built from scratch by a run: give a model with --model")
        words = declared.of_recipe(recipe, Path())
        rows = benchmark_guard.file_rows(files, asked.how, teller(asked.notes), words)
        judge = benchmark_guard.judge_of_recipe(recipe, folder, files)
        _say_uncalibrated(folder or recipe.guard.base, recipe.name)
        return _scored(judge, rows, recipe.seed, asked)


def published_guard(name: str, named: str, files: Sequence[str], folder: Path | None, asked: Asked) -> Found:
    """Evaluate a published guard on files. Raises ImportRefused."""
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
        rows = benchmark_guard.file_rows(files, asked.how, teller(asked.notes))
        judge = registry.load(name, recipe.guard, folder)
        say(f"{folder or recipe.guard.base}: evaluated as {name}, by {judge.form.source}")
        labeled = {task for found in rows.values() for row in found for task in row.labels}
        for task in sorted(labeled - set(judge.tasks)):
            say(f"{name} does not judge the task {task}: its labels are left out")
        return _scored(judge, rows, recipe.seed, asked)


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
