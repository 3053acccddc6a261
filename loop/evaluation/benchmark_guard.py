"""Evaluate a guard on benchmarks, test sets of the workspace or files, outside a night. Stores nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from wizloop.loop.context import Context, seed_of
from wizloop.loop.data.import_file import bad_rows
from wizloop.loop.data.records import ImportRefused
from wizloop.loop.data.sample_reader import AS_IT_IS, SampleFile, read_samples
from wizloop.loop.data.similarity import normalize
from wizloop.loop.evaluation.answered_rows import AnsweredRow, BenchmarkRow, answered_row, of_sample, scored
from wizloop.loop.evaluation.scoring import BenchmarkResult, ScoredRow, measure
from wizloop.loop.guard import guard_file, instructions, shown_policies
from wizloop.loop.guard.backend import choose_backend
from wizloop.loop.guard.judge import BATCH, Judge, Limits, load_guard, local, renderer_of, uncalibrated
from wizloop.loop.guard.published.judge import PublishedJudge
from wizloop.loop.measures.category_scores import score_categories
from wizloop.loop.phases.evaluate import by_benchmark
from wizloop.loop.phases.taught_categories import true_of
from wizloop.loop.stored_samples import usable
from wizloop.loop.words import DEFAULT, Declaration
from wizloop.recipes.schema import Recipe
from wizloop.recipes.sections import Data
from wizloop.store import categories, models
from wizloop.store.db import Store
from wizloop.store.samples import Sample

Tell = Callable[[str, SampleFile], None]
"""Takes a file's name and how it was read: its format, and the rows that were left out."""


def workspace_rows(
    store: Store,
    recipe: Recipe,
    names: Sequence[str],
    how: Mapping[str, Any] = AS_IT_IS,
    tell: Tell = lambda _name, _file: None,
) -> dict[str, list[BenchmarkRow]]:
    """Return rows by benchmark: dev and test sets of the workspace by name, or files by path; by default all test sets.

    Raises ImportRefused for a name that is neither, and for a file that `file_rows` refuses.
    """
    test, declared = by_benchmark(store, recipe, list(usable(store, "test"))), Declaration.of(recipe.tasks)
    known = {
        name: _of_samples(store, found, declared)
        for name, found in {"dev": list(usable(store, "dev")), **test}.items()
        if found
    }
    wanted = names or [name for name in known if name != "dev"]
    if not wanted:
        raise ImportRefused("the workspace has no test set: import one, or give a file with --benchmark")
    return {name: known[name] if name in known else _of_file(name, list(known), how, tell, declared) for name in wanted}


def _of_samples(store: Store, found: Sequence[Sample], declared: Declaration) -> list[BenchmarkRow]:
    with store.read() as db:
        named = categories.labels(db, [one.id for one in found])
    return [replace(of_sample(one, declared), categories=named.get(one.id)) for one in found]


def file_rows(
    names: Sequence[str],
    how: Mapping[str, Any] = AS_IT_IS,
    tell: Tell = lambda _name, _file: None,
    declared: Declaration = DEFAULT,
) -> dict[str, list[BenchmarkRow]]:
    """Return rows by file; `how` it is read is settings of [[data]].

    Raises ImportRefused for a file that is missing, and for one that an import into test refuses.
    """
    missing = [name for name in names if not Path(name).is_file()]
    if missing or not names:
        named = missing[0] if missing else "no file"
        raise ImportRefused(f"{named}: without a run only labeled files can be evaluated: give one with --benchmark")
    return {name: _of_file(name, [], how, tell, declared) for name in names}


def _of_file(
    name: str, known: Sequence[str], how: Mapping[str, Any], tell: Tell, declared: Declaration
) -> list[BenchmarkRow]:
    if not Path(name).exists():
        raise ImportRefused(
            f"{name}: neither a file nor a test set of the workspace (it has {', '.join(known) or 'none'})"
        )
    data = Data(path=name, split="test", **how)
    read = read_samples(data, declared)
    if read.rows and not data.skip_bad and (bad := [row for row in read.refused if row.bad]):
        raise ImportRefused(bad_rows(name, bad, len(read.rows) + len(read.refused), "measured"))
    if read.fault is not None:
        raise ImportRefused(read.fault)
    if not read.rows:
        first = read.refused[0]
        raise ImportRefused(f"{name}: no row can be used; the first reason is in row {first.row}: {first.reason}")
    tell(name, read)
    return [
        BenchmarkRow(row.prompt, row.response, row.labels, row.policy, row.row_ref, categories=row.categories)
        for row in read.rows
    ]


def judge_of_run(ctx: Context, model: models.Model) -> Judge:
    """Return a run's model as a judge; without a calibration on dev, the recipe decides how verdicts are read."""
    judge = ctx.judge(model)
    return judge if model.calibration_json else replace(judge, calibration=uncalibrated(ctx.recipe))


def judge_of_folder(ctx: Context, folder: Path) -> Judge:
    """Return the model in a folder as a judge with the run's recipe and without a calibration."""
    settings = local(ctx.recipe.guard, folder)
    guard = load_guard(settings, lambda: ctx.backend, str(folder), None)
    asked, frame = ctx.renderer, guard_file.frame_of(folder, settings)
    renderer = renderer_of(
        settings,
        str(folder),
        asked.instruction,
        frame,
        in_turn=asked.opening_in_turn,
        policies=asked.policies,
        declared=ctx.declared,
    )
    return Judge(guard, renderer, uncalibrated(ctx.recipe), Limits.of(ctx.recipe), guard_file.reader_of(folder))


def judge_of_recipe(recipe: Recipe, folder: Path | None, files: Sequence[str]) -> Judge:
    """Return the recipe's base, or the model in a folder, as a judge without a run: a published guard, for example.

    An instruction from a column is read from `files`. Raises ImportRefused, PolicyError, BackendError.
    """
    settings = recipe.guard if folder is None else local(recipe.guard, folder)
    data = tuple(Data(path=name, split="test") for name in files)
    instruction = instructions.read(recipe.model_copy(update={"data": data})) or ""
    guard = load_guard(settings, lambda: choose_backend(settings.backend, settings.device), settings.base, None)
    frame = None if folder is None else guard_file.frame_of(folder, settings)
    in_turn = recipe.guard.engine == "chat"
    words: dict[str, Any] = {"policies": shown_policies.read(recipe.guard), "declared": Declaration.of(recipe.tasks)}
    renderer = renderer_of(settings, settings.base, instruction, frame, in_turn=in_turn, **words)
    reader = guard_file.reader_of(Path(settings.base))
    return Judge(guard, renderer, uncalibrated(recipe), Limits.of(recipe), reader)


def evaluate(
    judge: Judge | PublishedJudge, name: str, rows: Sequence[BenchmarkRow], *, seed: int
) -> tuple[list[tuple[BenchmarkResult, Sequence[ScoredRow]]], list[AnsweredRow]]:
    """Ask a guard about a benchmark; return the result and the rows of each task with labels, and every answered row.

    Labels of tasks that the guard does not judge are left out.
    """
    answers = [
        one
        for start in range(0, len(rows), BATCH)
        for one in judge.answers(rows[start : start + BATCH], seed=_seed(seed, name))
    ]
    declared = judge.declared
    answered = [
        replace(
            answered_row(name, row, found.judgement, judge.tasks, found.judgement.decisions, declared),
            true_categories=None
            if isinstance(judge, PublishedJudge)
            else true_of(judge.renderer, row.labels, row.categories),
            categories=found.categories,
            names=categories_of(judge),
            category_p=found.category_p,
        )
        for row, found in zip(rows, answers, strict=True)
    ]
    promise = None if isinstance(judge, PublishedJudge) else judge.calibration.let_through
    measured: list[tuple[BenchmarkResult, Sequence[ScoredRow]]] = []
    for task in judge.tasks:
        if judged := scored(answered, task):
            rng = np.random.default_rng(_seed(seed, name, task))
            skipped = len(answered) - len(judged)
            how: dict[str, Any] = {"skipped": skipped, "let_through": promise, "declared": declared}
            measured.append((measure(name, task, judged, rng=rng, **how), judged))
    return measured, answered


def categories_of(judge: Judge | PublishedJudge) -> tuple[str, ...]:
    """Return the names of a guard's categories; empty for a guard without."""
    return judge.renderer.categories if isinstance(judge, Judge) else ()


def category_notes(judge: Judge | PublishedJudge, answered: Sequence[AnsweredRow], *, seed: int) -> dict[str, Any]:
    """Return {"categories": {benchmark: figures}} of the rows whose labels say which categories they are in.

    Empty for a guard without categories; a benchmark without such a row is left out.
    """
    by_name: dict[str, list[AnsweredRow]] = {}
    for row in answered if categories_of(judge) else ():
        if row.true_categories is not None:
            by_name.setdefault(row.benchmark, []).append(row)
    found = {
        name: score_categories(
            categories_of(judge),
            [frozenset(one.true_categories or ()) for one in rows],
            [None if one.categories is None else frozenset(one.categories) for one in rows],
            [one.category_p for one in rows],
            clusters=[normalize(one.prompt) for one in rows],
            rng=np.random.default_rng(_seed(seed, name, "categories")),
        )
        for name, rows in by_name.items()
    }
    return {"categories": found} if found else {}


def _seed(seed: int, *parts: str | int) -> int:
    return seed_of(seed, 0, "evaluate", "evaluate", *parts)
