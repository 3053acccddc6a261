"""A run's guard outside of a night: on texts that somebody hands in, or written for others. It stores nothing."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from wizloop.backends import artifacts
from wizloop.loop.context import Context
from wizloop.loop.guard.asking import Direct, Manner, Trace, ask_direct, ask_traces, signals
from wizloop.loop.guard.rendering import main_task, tasks_of
from wizloop.loop.phases import standing
from wizloop.loop.phases.calibration import Calibration, judge
from wizloop.loop.phases.card import card
from wizloop.loop.phases.export import compare, facts
from wizloop.recipes.schema import Recipe, RecipeError, recipe_hash, stored
from wizloop.store import control, errors, models, steps
from wizloop.store.db import Connection, Store

PIECE = 32
"""Texts that are read before the first is answered."""
EXPORT_PARTS = 4
"""So many parts of an export are told of, each as it begins; two fewer where there is no dev sample to ask."""


class BadLine(ValueError):
    """A line of the input is no text to classify."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A text to judge: a prompt and, or not, a response."""

    prompt: str
    response: str | None = None
    line: int = field(default=0, compare=False)
    """Where it stood in what was read."""


@dataclass
class Alone(Context):
    """A context outside of a night: no phase's progress is written, and nobody interrupts."""

    def between_pieces(self, done: int, total: int, waiting: str = "") -> None:
        """Nothing waits between two pieces."""


def context(store: Store, workspace: Path, recipe: Recipe, what: str, now: datetime) -> Alone:
    """A context for `what` is done."""
    return Alone(store, workspace, recipe, 0, what, lambda: now, lambda: False)


def recipe_of(db: Connection) -> Recipe:
    """The recipe of the workspace's run. Raises errors.NoRun, errors.OtherVersion."""
    run = control.get_run(db)
    if run is None:
        raise errors.NoRun
    try:
        return stored(run.recipe_json)
    except RecipeError as error:
        raise errors.OtherVersion(str(error)) from None


def guard_of(db: Connection, round: int | None) -> models.Model:
    """The champion after a round, or the one that stands. Raises errors.NotFound."""
    if round is None:
        champion = standing.champion(db)
        if champion is None:
            raise errors.NotFound("no challenger has become champion yet: see `wizloop rounds`")
        return champion
    made = steps.get_round(db, round)
    if made is None or made.champion_after is None:
        raise errors.NotFound(f"round {round} has no champion (yet): see `wizloop rounds`")
    return models.get(db, made.champion_after)


def read_lines(lines: Iterable[str]) -> Iterator[Asked]:
    """One text a line, plain or as an object with `prompt` and, or not, `response`; empty lines are skipped.

    Raises BadLine.
    """
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield replace(_asked(number, line.rstrip("\r\n")), line=number)


def classify(ctx: Context, model: models.Model, asked: Iterable[Asked]) -> Iterator[dict[str, Any]]:
    """What the guard says of each text, in order, a piece at a time."""
    left = iter(asked)
    for number in range(1_000_000_000):
        piece = list(islice(left, PIECE))
        if not piece:
            return
        yield from _answers(ctx, model, piece, ctx.seed("classify", number))


def export(ctx: Context, model: models.Model, form: str, to: Path, told: Callable[[str], None]) -> None:
    """Write a guard, its card and a check of its answers into the new folder `to`; `told` hears what begins.

    Unlike a night's own export it clears nothing away beside `to`, which is the person's folder. Raises BackendError,
    FileExistsError, ValueError.
    """
    adapter = ctx.adapter(model)
    if adapter is None:
        raise ValueError(f"{model.name} is the base model itself: there is nothing to export")
    about = {"model": model.name, "sha256": model.sha256, "format": form, "recipe": recipe_hash(ctx.recipe)}
    with artifacts.writing(to.absolute(), about) as folder:
        told("writing the weights")
        ctx.backend.export(form, ctx.base(), adapter, folder)
        compared = compare(ctx, model, form, folder, told)
        told("writing the card and the hashes")
        (folder / "README.md").write_text(card(facts(ctx, model, form, compared)), encoding="utf-8")


def _asked(number: int, line: str) -> Asked:
    asked = _object(number, line) if line.lstrip().startswith("{") else Asked(line)
    try:
        f"{asked.prompt}{asked.response}".encode()
    except UnicodeEncodeError:
        raise BadLine(f"line {number}: half a character in it, or bytes that are not UTF-8: write it whole") from None
    return asked


def _object(number: int, line: str) -> Asked:
    """The text that an object holds; what only looks like one is a text itself."""
    try:
        given = json.loads(line)
    except (ValueError, RecursionError):
        return Asked(line)
    prompt, response = given.get("prompt"), given.get("response")
    if not isinstance(prompt, str) or not (response is None or isinstance(response, str)):
        raise BadLine(f"line {number}: an object needs a text as its prompt and, or not, one as its response")
    return Asked(prompt, response)


def _answers(ctx: Context, model: models.Model, piece: Sequence[Asked], seed: int) -> Iterator[dict[str, Any]]:
    guard, renderer, most = ctx.guard(model), standing.renderer(ctx), ctx.recipe.guard.max_prompt_tokens
    how = ctx.recipe.classify
    manner = Manner(
        how.least,
        how.most,
        how.temperature,
        how.top_p,
        ctx.recipe.guard.max_trace_tokens,
        standing.window(ctx, model),
        consensus=how.consensus,
    )
    direct = ask_direct(guard, renderer, piece, max_tokens=most)
    traces = ask_traces(guard, renderer, piece, manner, max_tokens=most, seed=seed)
    known = Calibration.from_json(model.calibration_json)
    for one, at_once, drawn in zip(piece, direct, traces, strict=True):
        yield _answer(one, at_once, drawn, known)


def _answer(asked: Asked, direct: Direct, drawn: Sequence[Trace], known: Calibration) -> dict[str, Any]:
    judged = judge(signals(asked, direct, drawn), known, tasks_of(asked), main_task(asked), alone=True)
    return {
        "line": asked.line,
        "verdict": judged.verdict,
        "probability": judged.probability,
        "confidence": judged.confidence,
        "cell": judged.cell,
        "trace": _speaking_for(judged.verdict, drawn),
        "cut_tokens": direct.cut,
    }


def _speaking_for(verdict: dict[str, str | None], drawn: Sequence[Trace]) -> str | None:
    """The surest trace that ends in the verdict that was given; None where none does."""
    agreeing = [trace for trace in drawn if trace.verdict == verdict]
    return max(agreeing, key=lambda trace: trace.measures.bottom).text if agreeing else None
