"""A guard asked about benchmarks outside of a night: test sets of the workspace, or files. It stores nothing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wizloop.loop.context import Context
from wizloop.loop.data.containers import ImportRefused
from wizloop.loop.data.importing import read_samples
from wizloop.loop.evaluation.scoring import Judged, Measured, measure
from wizloop.loop.guard.asking import Manner, Trace, ask_direct, ask_traces, signals
from wizloop.loop.guard.rendering import main_task, tasks_of
from wizloop.loop.pages import usable
from wizloop.loop.phases import standing
from wizloop.loop.phases.calibration import Calibration, judge
from wizloop.loop.phases.evaluate import by_benchmark
from wizloop.loop.phases.measured import labels_of
from wizloop.loop.words import TASKS, Task
from wizloop.store import models

PIECE = 128
"""Rows that are asked about together."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a benchmark."""

    prompt: str
    response: str | None
    labels: Mapping[Task, str]
    group: str | None
    """Its policy, or the attack that it was made with."""


def benchmarks(ctx: Context, names: Sequence[str]) -> dict[str, list[Row]]:
    """The rows by benchmark: dev and the test sets of the workspace by their names, or files by their paths.

    Without names, every test set. Raises ImportRefused for a name that is neither, and for a file without a label.
    """
    with_dev = {"dev": list(usable(ctx.store, "dev")), **by_benchmark(ctx, list(usable(ctx.store, "test")))}
    known = {
        name: [Row(one.prompt, one.response, labels_of(one), one.policy) for one in found]
        for name, found in with_dev.items()
        if found
    }
    wanted = names or [name for name in known if name != "dev"]
    if not wanted:
        raise ImportRefused("the workspace has no test set: name a file with --benchmark, or import one")
    return {name: known[name] if name in known else _of_file(name, list(known)) for name in wanted}


def _of_file(name: str, known: Sequence[str]) -> list[Row]:
    path = Path(name)
    if not path.exists():
        raise ImportRefused(f"{name}: no file, and no test set of the workspace (it has {', '.join(known) or 'none'})")
    read = read_samples(path, split="test")
    if not read.rows:
        first = read.refused[0]
        raise ImportRefused(f"{name}: no row of it can be used; the first reason is in row {first.row}: {first.reason}")
    return [Row(row.prompt, row.response, row.labels, row.policy) for row in read.rows]


def of_folder(ctx: Context, folder: Path) -> tuple[Context, models.Model]:
    """A context and a model for a guard that lies in a folder: it was never measured on dev, and cuts at one half."""
    guard = ctx.recipe.guard.model_copy(update={"base": str(folder), "engine": "here", "server": None})
    alone = replace(ctx, recipe=ctx.recipe.model_copy(update={"guard": guard}))
    return alone, models.Model(
        id=0,
        name=folder.name,
        role="base",
        round=0,
        parent_id=None,
        path=str(folder),
        sha256="",
        meta_json="{}",
        calibration_json=None,
        created_at=ctx.now(),
    )


def evaluate(
    ctx: Context, model: models.Model, name: str, rows: Sequence[Row]
) -> list[tuple[Measured, Sequence[Judged]]]:
    """Ask a guard about a benchmark and score each task that its rows are labelled for; with the rows of each."""
    said = list(_answers(ctx, model, rows, name))
    found: list[tuple[Measured, Sequence[Judged]]] = []
    for task in TASKS:
        judged = [
            Judged(row.prompt, row.labels[task], verdict.get(task), probability.get(task), row.group)
            for row, (verdict, probability) in zip(rows, said, strict=True)
            if task in row.labels
        ]
        if judged:
            skipped = len(rows) - len(judged)
            measured = measure(name, task, judged, rng=ctx.rng("evaluate", name, task), skipped=skipped)
            found.append((measured, judged))
    return found


def _answers(
    ctx: Context, model: models.Model, rows: Sequence[Row], name: str
) -> Iterator[tuple[Mapping[str, str | None], Mapping[str, float]]]:
    """Verdicts and P(positive) of each row, in order; traces are drawn only where a verdict is their vote."""
    guard, renderer, longest = ctx.guard(model), standing.renderer(ctx), ctx.recipe.guard.max_prompt_tokens
    how = ctx.recipe.classify
    known = Calibration.from_json(model.calibration_json)
    if model.calibration_json is None and (how.verdict == "traces" or ctx.recipe.guard.opening == "none"):
        # A published guard never learned to answer at once.
        known = Calibration(source=dict.fromkeys(TASKS, "traces"))
    manner = Manner(
        how.most, how.most, how.temperature, how.top_p, ctx.recipe.guard.max_trace_tokens, standing.window(ctx, model)
    )
    for number, piece in enumerate(ctx.pieces(rows, PIECE)):
        direct = ask_direct(guard, renderer, piece, max_tokens=longest)
        drawn: Sequence[Sequence[Trace]] = [()] * len(piece)
        if "traces" in known.source.values():
            seed = ctx.seed("evaluate", name, number)
            drawn = ask_traces(guard, renderer, piece, manner, max_tokens=longest, seed=seed)
        for row, at_once, traces in zip(piece, direct, drawn, strict=True):
            found = signals(row, at_once, traces)
            judged = judge(found, known, tasks_of(row), main_task(row), alone=True)
            yield judged.verdict, judged.probability
