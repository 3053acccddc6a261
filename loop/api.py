"""The public API: workspaces and guards for other programs. `import wizloop` loads these names on first use.

It is read-only: nothing here writes to a workspace.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from math import nextafter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from wizloop.loop.guard.rendering import InputText
from wizloop.loop.words import Task

if TYPE_CHECKING:
    from wizloop.loop.guard.judge import Answer, Judge
    from wizloop.loop.guard.published.judge import PublishedJudge
    from wizloop.loop.measures.calibration import Calibration
    from wizloop.loop.words import Declaration
    from wizloop.recipes.schema import Recipe

BATCH = 32
"""Texts per batch."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A guard's verdict on one text."""

    verdict: dict[str, str | None]
    """Label by task; None where the guard's answer is unparsed."""
    probability: dict[str, float]
    """P(positive label: harmful, refusal) by task; Platt-scaled if the guard is calibrated."""
    confidence: float
    """Higher is more confident; compare within one guard only."""
    cell: str | None
    """confident or uncertain, block or pass; None where the main task has no verdict."""
    trace: str | None
    """The most confident trace that ends in this verdict, or None."""
    cut_tokens: int
    """Number of tokens cut from the text."""
    categories: tuple[str, ...] | None = None
    """Categories that a harmful text is in; None for a guard without categories, and where they cannot be read."""
    category_probability: dict[str, float] = field(default_factory=dict)
    """P(the text is in it) by category; empty where `categories` is None."""
    line: int = 0
    """Line number of the text in its file, from 1; 0 without a file."""
    threshold: dict[str, float] = field(default_factory=dict)
    """By task, the probability from which the verdict is the positive label."""
    scale: dict[str, str] = field(default_factory=dict)
    """By task, "raw" or "platt": the scale of probability and threshold."""
    policies: dict[str, dict[str, float]] = field(default_factory=dict)
    """Raw P(positive label) by policy and task, for a guard that is asked about each policy alone."""
    decision: str | None = None
    """pass, defer or block, by the task that decides; None for a guard without a promised error."""


class Guard:
    """A guard that judges texts, with its instruction, limits and thresholds."""

    def __init__(self, judge: "Judge | PublishedJudge", recipe: "Recipe", name: str, *, calibrated: bool) -> None:
        self.name = name
        self.calibrated = calibrated
        """Whether it was calibrated on dev; otherwise probabilities are raw and thresholds are 0.5."""
        self._judge, self._recipe = judge, recipe

    def __repr__(self) -> str:
        return f"<Guard {self.name}{'' if self.calibrated else ', raw: not calibrated'}>"

    def judge(
        self, texts: Iterable[str | tuple[str, str | None] | InputText], *, traces: bool = True
    ) -> Iterator[Verdict]:
        """Judge prompts, or (prompt, response) pairs, in order, batch by batch.

        The draws of a text's traces follow from the recipe's seed and the text. Without `traces` they are drawn only
        where a verdict is read from them, which is many times as fast. Raises TypeError for one string.
        """
        if isinstance(texts, str):
            raise TypeError("judge takes several texts, and each character of a string would be one: judge([text])")
        from wizloop.loop.context import seed_of

        left = (_input(text) for text in texts)
        batches = iter(lambda: list(islice(left, BATCH)), [])
        seed = seed_of(self._recipe.seed, 0, "classify", "classify")
        sampling = self._judge.limits.sampling if traces else None
        for batch in batches:
            answers = self._judge.answers(batch, seed=seed, sampling=sampling)
            yield from (self._verdict(*answered) for answered in zip(batch, answers, strict=True))

    @property
    def categories(self) -> tuple[str, ...]:
        """The names of the categories that it knows; empty for a guard without."""
        renderer = getattr(self._judge, "renderer", None)
        return () if renderer is None else renderer.categories

    @property
    def calibration(self) -> "Calibration | None":
        """How it reads probabilities: `calibration.reading(task)` has source, threshold and scale of a task.

        None for a published guard, which has no threshold.
        """
        return getattr(self._judge, "calibration", None)

    @property
    def declared(self) -> "Declaration":
        """Its tasks and their label words."""
        return self._judge.declared

    def _verdict(self, text: InputText, answer: "Answer") -> Verdict:
        judgement, known = answer.judgement, self.calibration
        tasks = () if known is None else known.declared.tasks_of(text)
        readings = {
            task: known.reading(task, known.source_for(answer.signals, task)) for task in tasks if known is not None
        }
        return Verdict(
            verdict=judgement.verdict,
            probability=judgement.probability,
            confidence=judgement.confidence,
            cell=judgement.cell,
            trace=answer.rationale,
            cut_tokens=answer.direct.cut,
            line=text.line,
            categories=answer.categories,
            category_probability=dict(answer.category_p),
            threshold={task: reading.threshold for task, reading in readings.items()},
            scale={task: reading.scale for task, reading in readings.items()},
            policies={
                policy: {str(task): p for task, p in by.items()} for policy, by in answer.direct.by_policy.items()
            },
            decision=judgement.decisions.get(self.declared.main_task(text)),
        )


class Workspace:
    """A workspace folder, read-only."""

    def __init__(self, folder: str | Path = "runs") -> None:
        self.folder = Path(folder)

    def status(self) -> dict[str, Any]:
        """Return what `wizloop status --json` prints. Raises wizloop.store.errors.NoWorkspace."""
        from wizloop.loop.summaries import status_of
        from wizloop.store.status import run_status

        return status_of(run_status(self.folder), self.folder)

    def rounds(self) -> list[dict[str, Any]]:
        """Return what `wizloop rounds --json` prints, the base first. Raises wizloop.store.errors.StoreError."""
        from wizloop.loop.summaries import rounds_of
        from wizloop.store.db import Store

        with Store.open(self.folder, readonly=True) as store, store.read() as db:
            return rounds_of(db, self.folder)

    def recipe(self) -> "Recipe":
        """Return the recipe of the run. Raises wizloop.store.errors.NoRun."""
        from wizloop.loop.context import recipe_of
        from wizloop.store.db import Store

        with Store.open(self.folder, readonly=True) as store, store.read() as db:
            return recipe_of(db)

    def guard(self, round: int | None = None) -> Guard:
        """Load the champion after a round, or the current one.

        Raises wizloop.store.errors.NotFound, wizloop.backends.guard_types.BackendError.
        """
        from wizloop.loop.context import recipe_of, standalone
        from wizloop.loop.phases import model_roles
        from wizloop.store.db import Store

        with Store.open(self.folder, readonly=True) as store:
            with store.read() as db:
                recipe, model = recipe_of(db), model_roles.champion_after(db, round)
            judge = standalone(store, self.folder, recipe, "classify", datetime.now(UTC)).judge(model)
        return Guard(judge, recipe, model.name, calibrated=model.calibration_json is not None)


def load_recipe(path_or_name: str | Path) -> "Recipe":
    """Load and validate a recipe: a shipped one by name, or a TOML file. Raises wizloop.RecipeError."""
    from wizloop.recipes import schema

    return schema.load(path_or_name)


def load_guard(folder: str | Path, recipe: "Recipe | str | Path | None" = None) -> Guard:
    """Load an exported guard, with the settings and thresholds of its guard.json, or any model with those of a recipe.

    With a recipe it is not calibrated: probabilities are raw, thresholds are 0.5. Raises
    wizloop.backends.guard_types.BackendError, ValueError for a folder without guard.json if no recipe is named.
    """
    from wizloop.loop.guard import guard_file

    found = guard_file.load(Path(folder), recipe)
    return Guard(found.judge, found.recipe, Path(folder).name, calibrated=found.calibrated)


def load_published_guard(name: str, folder: str | Path, recipe: "Recipe | str | Path" = "imported") -> Guard:
    """Load another team's guard in a folder, to be asked in its own prompt: see `wizloop evaluate --guard`.

    Of the recipe only [guard]'s backend, device and quantise are used. Raises
    wizloop.plugins.PluginError for an unknown name, wizloop.backends.guard_types.BackendError.
    """
    from wizloop.loop.guard.published.registry import load

    found = recipe if not isinstance(recipe, str | Path) else load_recipe(recipe)
    return Guard(load(name, found.guard, Path(folder)), found, name, calibrated=False)


class Moderate(Protocol):
    """GuardBench's function."""

    def __call__(self, conversations: Sequence[Sequence[Mapping[str, Any]]]) -> list[float]:
        """Return each conversation's probability of being unsafe."""


def guardbench_moderate(guard: Guard) -> Moderate:
    """Return a guard as the function that GuardBench's `benchmark(moderate=...)` asks (Bassani and Sanchez 2024).

    It takes `conversations`, a list of lists of messages, and returns each one's probability of being unsafe: of its
    last answer, or of its last request if nobody answered. Earlier turns are read as part of the request. GuardBench
    calls what is above 0.5 unsafe, so each score is moved until the guard's threshold lies there, which keeps their
    order. A conversation without a readable verdict is unsafe, as in `wizloop serve`.
    """

    def moderate(conversations: Sequence[Sequence[Mapping[str, Any]]]) -> list[float]:
        # GuardBench's measurement of speed passes one conversation by itself.
        alone = bool(conversations) and isinstance(conversations[0], Mapping)
        texts = [_conversation(one) for one in ([conversations] if alone else conversations)]
        return [_unsafe(verdict, guard.declared) for verdict in guard.judge(texts, traces=False)]

    return moderate


def _conversation(messages: Any) -> InputText:
    """Return a conversation as one text; what has no user's turn is a request as a whole."""
    from wizloop.loop.data.conversations import parse
    from wizloop.loop.data.records import RowRefused

    try:
        asked, answer = parse(messages).whole()
    except RowRefused:
        return InputText("\n\n".join(str(message.get("content", "")) for message in messages))
    return InputText(asked.text, None if answer is None else answer.text)


def _unsafe(verdict: Verdict, declared: "Declaration") -> float:
    """Return a verdict as a score in 0..1 that is above 0.5 exactly where the guard blocks."""
    task: Task = "response" if "response" in verdict.verdict else "request"
    label, p, at = verdict.verdict[task], verdict.probability.get(task), verdict.threshold.get(task, 0.5)
    if label is None:
        return 1.0
    passes = declared.passes(task, label)
    if p is None:
        return 0.0 if passes else 1.0
    score = p / (2 * at) if p < at else 1 - (1 - p) / (2 * (1 - at) or 1)
    return min(score, 0.5) if passes else max(score, nextafter(0.5, 1))


def _input(text: str | tuple[str, str | None] | InputText) -> InputText:
    if isinstance(text, InputText):
        return text
    return InputText(text) if isinstance(text, str) else InputText(*text)
