"""The state of the run and the results of each round, gathered for screens and scripts. Writes and formats nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from wizloop.store import (
    control,
    errors,
    evaluations,
    events,
    exports,
    models,
    reviews,
    selections,
    spending,
    steps,
    teacher_calls,
)


@dataclass(frozen=True, slots=True)
class Overview:
    """The state of the run. `round` is the latest that began, None before the first."""

    run: control.Run
    controller: control.Controller | None
    round: int | None
    phases: Sequence[steps.Step]
    """Of that round, in the order in which they began."""
    budget: spending.Budget
    to_review: int
    """Traces that wait for a reviewer."""

    @property
    def step(self) -> steps.Step | None:
        """Latest phase that began."""
        return self.phases[-1] if self.phases else None


@dataclass(frozen=True, slots=True)
class BaseSummary:
    """Round "base": the base before anything was taught. `evaluations` are empty before phase base."""

    evaluations: Sequence[evaluations.Evaluation]
    record: dict[str, Any]
    """What phase base recorded: calibration, `baselines`."""

    @property
    def name(self) -> str:
        """The word in the place of a round's number."""
        return "base"


@dataclass(frozen=True, slots=True)
class RoundSummary:
    """One round. `evaluations` are the challenger's; empty before they are measured, or if training made none."""

    round: steps.Round
    evaluations: Sequence[evaluations.Evaluation]
    selected: dict[str, int]
    answers: int
    """Teacher's answers with a trace."""
    spent_micro: int
    exports: Sequence[exports.Export]
    speeds: Mapping[str, Any] = field(default_factory=dict)
    """What phase evaluate measured by a clock: `speed` of the guard and `linear_speed` of the linear head."""

    @property
    def name(self) -> str:
        """The round's number, as text."""
        return str(self.round.number)

    @property
    def record(self) -> dict[str, Any]:
        """What the round's phases recorded."""
        return self.round.record


Summary = BaseSummary | RoundSummary
"""What a table shows in one row or column."""


def overview(db: Connection) -> Overview:
    """Return the state of the run. Raises errors.NoRun."""
    run = control.get_run(db)
    if run is None:
        raise errors.NoRun
    begun = steps.rounds(db)
    latest = begun[-1].number if begun else None
    phases = [] if latest is None else steps.steps(db, latest)
    return Overview(run, control.controller(db), latest, phases, spending.budget(db), reviews.waiting_count(db))


def summaries(db: Connection) -> list[RoundSummary]:
    """Return the summary of every round that has begun, in order."""
    return [summary(db, each) for each in steps.rounds(db)]


def base_summary(db: Connection) -> BaseSummary | None:
    """Return the results of the base; None before the first round."""
    first = steps.get_round(db, 0)
    if first is None:
        return None
    base = models.by_name(db, "base")
    measured = [] if base is None else evaluations.of_model(db, base.id)
    return BaseSummary(measured, first.record.get("base_measured", {}))


def summary(db: Connection, round: steps.Round) -> RoundSummary:
    """Return the results so far of a round that has begun."""
    number = round.number
    challenger = _challenger(db, round)
    measured = [] if challenger is None else evaluations.of_model(db, challenger)
    return RoundSummary(
        round,
        measured,
        selections.by_reason(db, number),
        teacher_calls.call_counts(db, number).get("parsed", 0),
        teacher_calls.spent_micro(db, number),
        exports.of_round(db, number),
        events.speeds(db, number),
    )


def _challenger(db: Connection, round: steps.Round) -> int | None:
    """Return the model that the gate judged or is about to judge."""
    if round.challenger is not None:
        return round.challenger
    made = [model.id for model in models.in_round(db, round.number) if model.role == "challenger"]
    return made[-1] if made else None
