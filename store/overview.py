"""Where the run stands and what each round came to, gathered from the modules beside it for a screen or a script.

It writes nothing and words nothing: how this is shown or printed is decided by who asks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from wizloop.store import (
    control,
    errors,
    evaluations,
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
    """The run at this moment. `round` is the latest that began, None before the first."""

    run: control.Run
    controller: control.Controller | None
    round: int | None
    phases: Sequence[steps.Step]
    """Of that round, in the order in which they began."""
    budget: spending.Budget
    to_review: int
    """Traces that wait for a person."""

    @property
    def step(self) -> steps.Step | None:
        """The latest phase that began."""
        return self.phases[-1] if self.phases else None


@dataclass(frozen=True, slots=True)
class RoundSummary:
    """One round. `evaluations` are the challenger's; empty until it was measured, or where training gave none."""

    round: steps.Round
    evaluations: Sequence[evaluations.Evaluation]
    selected: dict[str, int]
    answers: int
    """Teacher's answers that hold a trace."""
    spent_micro: int
    exports: Sequence[exports.Export]


def overview(db: Connection) -> Overview:
    """Where the run stands. Raises errors.NoRun."""
    run = control.get_run(db)
    if run is None:
        raise errors.NoRun
    begun = steps.rounds(db)
    latest = begun[-1].number if begun else None
    of_latest = [] if latest is None else steps.steps(db, latest)
    return Overview(run, control.controller(db), latest, of_latest, spending.budget(db), reviews.waiting_count(db))


def summaries(db: Connection) -> list[RoundSummary]:
    """Every round that has begun, in order."""
    return [summary(db, each) for each in steps.rounds(db)]


def summary(db: Connection, round: steps.Round) -> RoundSummary:
    """What a round that has begun came to so far."""
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
    )


def _challenger(db: Connection, round: steps.Round) -> int | None:
    """The model that the gate judged, or is about to judge."""
    if round.challenger is not None:
        return round.challenger
    made = [model.id for model in models.in_round(db, round.number) if model.role == "challenger"]
    return made[-1] if made else None
