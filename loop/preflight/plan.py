"""What a run would do: rounds, phases, samples, calls, what they cost about and at most, the time.

Worked out, and not looked for: what is there and what is missing is found in `ahead`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from wizloop.loop.controller.starting import Limits
from wizloop.loop.phases.order import phases_of
from wizloop.loop.preflight import data_sources, hours, teacher_costs
from wizloop.loop.preflight.data_sources import SPLITS, Source
from wizloop.loop.preflight.hours import NOTHING_MEASURED, Duration
from wizloop.loop.preflight.teacher_costs import Asking
from wizloop.recipes.schema import Recipe
from wizloop.store import control, spending
from wizloop.store.db import Store


@dataclass(frozen=True)
class Plan:
    """What a run would do."""

    recipe: str
    rounds: int
    """After round 0."""
    phases: dict[str, tuple[str, ...]]
    """Of round 0, and of the others."""
    samples: dict[str, int | None]
    """By split, at most; None where that is not known without the network."""
    picked: int | None
    """Samples that go to a teacher in the whole run, at most."""
    a_round: int
    """Of these, in each round after round 0."""
    teachers: list[Asking]
    budget_usd: float | None
    spent_usd: float
    """By this workspace's run so far, with what is reserved."""
    until: str | None
    time: Duration

    @property
    def left_usd(self) -> float | None:
        """What the budget leaves, or None without one."""
        return None if self.budget_usd is None else max(self.budget_usd - self.spent_usd, 0.0)

    @property
    def expected_usd(self) -> float | None:
        """What the run will still cost, about, were there no budget; None where that of the first teacher that costs
        is not known. What it leaves to others counts as far as it was measured.
        """
        paid = [one.expected for one in self.teachers if one.usd != 0]
        told = [None if one is None else one.usd for at, one in enumerate(paid) if at == 0 or one is not None]
        known = [usd for usd in told if usd is not None]
        return sum(known) if len(known) == len(told) else None

    @property
    def most_usd(self) -> float | None:
        """What the run can still cost, or None where nothing bounds it."""
        known = [one.usd for one in self.teachers if one.usd is not None]
        worst = sum(known) if len(known) == len(self.teachers) else None
        bounds = [bound for bound in (worst, self.left_usd) if bound is not None]
        return min(bounds, default=None)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far a run would go."""

    rounds: int
    budget_usd: float | None
    spent_usd: float = 0.0
    time: Duration = NOTHING_MEASURED


def bounds_of(recipe: Recipe, store: Store | None, limits: Limits) -> Bounds:
    """As the command line says, or the workspace's run, or the recipe."""
    rounds, budget, spent, time = recipe.rounds, recipe.budget_usd, 0.0, NOTHING_MEASURED
    if store is not None:
        with store.read() as db:
            if (run := control.get_run(db)) is not None:
                money = spending.budget(db)
                rounds, budget = run.rounds_wanted, None if run.cap_micro is None else run.cap_micro / 1e6
                spent = (money.settled_micro + money.reserved_micro) / 1e6
            rounds = rounds if limits.rounds is None else limits.rounds
            time = hours.duration(db, rounds)
    rounds = rounds if limits.rounds is None else limits.rounds
    return Bounds(rounds, budget if limits.budget_usd is None else limits.budget_usd, spent, time)


def plan_of(recipe: Recipe, found: Sequence[Source], bounds: Bounds, limits: Limits, askings: list[Asking]) -> Plan:
    """The plan of a recipe on the sources that were found."""
    return Plan(
        recipe=recipe.name,
        rounds=bounds.rounds,
        phases={"round 0": phases_of(0), "each round": phases_of(1)},
        samples={split: data_sources.rows_of(found, split) for split in SPLITS},
        picked=teacher_costs.picked(recipe, found, bounds.rounds),
        a_round=recipe.select.budget,
        teachers=askings,
        budget_usd=bounds.budget_usd,
        spent_usd=bounds.spent_usd,
        until=limits.until or recipe.until,
        time=bounds.time,
    )
