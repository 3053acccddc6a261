"""Plan of a run, for `wizloop start --dry-run`: phases, samples, teacher calls, cost and duration."""

from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from wizloop.loop.guard import shown_policies
from wizloop.loop.measures.gate_bound import gate_bound
from wizloop.loop.phases.order import phases_of
from wizloop.loop.preflight.checks import Preflight, opened
from wizloop.loop.preflight.data_sources import SPLITS, Source, rows_of
from wizloop.loop.preflight.memory import TrainingMemory, training_memory
from wizloop.loop.preflight.teacher_costs import TeacherCost, picked, teacher_costs
from wizloop.loop.preflight.vector_reading import VectorReading, vector_reading
from wizloop.loop.teaching.prices import PriceError
from wizloop.loop.words import Declaration
from wizloop.plugins import PluginError
from wizloop.recipes.policies import PolicyError
from wizloop.recipes.schema import Recipe
from wizloop.store import control, spending, steps
from wizloop.store.db import Connection


@dataclass(frozen=True, slots=True)
class Duration:
    """Seconds from now to the end of the run, measured and never guessed."""

    seconds: float | None
    """None if a remaining phase was never measured."""
    per_phase: dict[str, float]
    """Seconds of each phase's last uninterrupted run in this workspace."""
    unmeasured: tuple[str, ...]
    """Remaining phases that were never measured."""


@dataclass(frozen=True)
class Plan:
    """Work and cost of a run, from now to its end."""

    recipe: str
    rounds: int
    """After round 0."""
    phases: dict[str, tuple[str, ...]]
    """Of round 0, and of the others."""
    samples: dict[str, int | None]
    """Maximum by split; None if unknown without the network."""
    questions: int
    """Questions to the guard about a sample: as many as policies where each is asked about alone."""
    picked: int | None
    """Maximum number of samples taught in the whole run."""
    a_round: int
    """Of these, in each round after round 0."""
    teachers: list[TeacherCost]
    budget_usd: float | None
    spent_usd: float
    """Spent by this workspace's run so far, reserved money included."""
    until: str | None
    time: Duration
    training: TrainingMemory
    gate: str | None
    """What the gates can exclude on dev; None if dev's labels are unknown without the network."""
    vectors: VectorReading | None
    """Reading of the base's hidden states; None for a recipe that reads none."""

    @property
    def left_usd(self) -> float | None:
        """Rest of the budget, or None without one."""
        return None if self.budget_usd is None else max(self.budget_usd - self.spent_usd, 0.0)

    @property
    def expected_usd(self) -> float | None:
        """Expected cost, ignoring the budget; None if the first paid teacher's is unknown.

        The others count as far as their share was measured.
        """
        paid = [cost.expected for cost in self.teachers if cost.usd != 0]
        usd = [None if one is None else one.usd for at, one in enumerate(paid) if at == 0 or one is not None]
        known = [each for each in usd if each is not None]
        return sum(known) if len(known) == len(usd) else None

    @property
    def most_usd(self) -> float | None:
        """Maximum cost, or None if nothing limits it."""
        known = [cost.usd for cost in self.teachers if cost.usd is not None]
        worst = sum(known) if len(known) == len(self.teachers) else None
        return min((bound for bound in (worst, self.left_usd) if bound is not None), default=None)

    def as_json(self) -> dict[str, Any]:
        """Return the plan as `wizloop start --dry-run --json` prints it."""
        return asdict(self) | {"expected_usd": self.expected_usd, "most_usd": self.most_usd}


def plan_of(workspace: Path, found: Preflight, now: datetime) -> Plan | None:
    """Plan the start of a checked run, or return None without a usable recipe."""
    if (recipe := found.recipe) is None:
        return None
    rounds, budget_usd = found.limits.rounds or 0, found.limits.budget_usd
    costs, spent, time = list[TeacherCost](), 0.0, Duration(None, {}, ())
    with opened(workspace) as (store, _), nullcontext() if store is None else store.read() as db:
        # A check reports these errors.
        with suppress(PriceError, PolicyError, PluginError):
            costs = teacher_costs(recipe, found.sources, rounds, now, db)
        if db is not None and control.get_run(db) is not None:
            money = spending.budget(db)
            spent, time = (money.settled_micro + money.reserved_micro) / 1e6, _time_left(db, rounds)
    return Plan(
        recipe=recipe.name,
        rounds=rounds,
        phases={"round 0": phases_of(0), "each round": phases_of(1)},
        samples={split: rows_of(found.sources, split) for split in SPLITS},
        questions=_questions(recipe),
        picked=picked(recipe, found.sources, rounds),
        a_round=recipe.select.budget,
        teachers=costs,
        budget_usd=budget_usd,
        spent_usd=spent,
        until=found.limits.until,
        time=time,
        training=training_memory(recipe),
        gate=_gate(recipe, found.sources, rounds),
        vectors=vector_reading(recipe, found.sources, workspace),
    )


def _questions(recipe: Recipe) -> int:
    with suppress(PolicyError):
        policies = shown_policies.read(recipe.guard)
        return 1 if policies is None else len(shown_policies.questions(policies))
    return 1


def _gate(recipe: Recipe, sources: Sequence[Source], rounds: int) -> str | None:
    """Return what the gates can exclude on dev, duplicates and leaks still included."""
    known = [each.labels for each in sources if each.split == "dev"]
    counts = Counter[tuple[str, str]]()
    for labels in known:
        for task, of_task in (labels or {}).items():
            counts.update({(task, label): n for label, n in of_task.items()})
    classes = [
        (counts[task, positive], sum(counts[task, other] for other in others))
        for task, (positive, *others) in Declaration.of(recipe.tasks).by_task.items()
    ]
    bound = gate_bound(classes, rows_of(sources, "dev") or 0, rounds + 1)
    return None if bound is None or None in known else bound.sentence(recipe.gate.margin)


def _time_left(db: Connection, rounds: int) -> Duration:
    """Return the time for the rest of the run, to the end of round `rounds`."""
    taken = {each.number: steps.steps(db, each.number) for each in steps.rounds(db)}
    measured = _measured([step for number in sorted(taken) for step in taken[number]])
    left = [
        phase
        for number in range(rounds + 1)
        for phase in phases_of(number)
        if not any(step.phase == phase and step.state == "done" for step in taken.get(number, ()))
    ]
    unmeasured = tuple(dict.fromkeys(phase for phase in left if phase not in measured))
    return Duration(None if unmeasured else sum(measured[phase] for phase in left), measured, unmeasured)


def _measured(taken: Sequence[steps.Step]) -> dict[str, float]:
    """Return the seconds of each phase in its newest round; an interrupted one is not measured."""
    return {
        step.phase: (step.ended_at - step.started_at).total_seconds()
        for step in taken
        if step.state == "done" and step.attempts == 1 and step.ended_at is not None
    }
