"""Outputs that people rate, drawn once into a set, and their ratings, append only.

A rater's latest row on an output counts: a rating, or an undo, which takes it back. No rater is shown another's.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Select, func, select

from wizloop.store import errors, rating_tables, rows

COHERENCE: Mapping[int, str] = {
    1: "none: no reasoning to follow, or about another text",
    2: "poor: steps contradict each other or the text",
    3: "partly: gaps, or the conclusion does not follow",
    4: "mostly: follows, with one small gap or an idle step",
    5: "fully: every step follows and leads to the conclusion",
}
"""The scale of coherence: a word and what it means."""
COHERENT = 4
"""Reasoning rated so or higher counts as coherent."""
PERSON = "person:"
MOST_NAME = 80
"""Characters of a rater's name."""
Questions = Sequence[tuple[str, Sequence[str]]]
"""Tasks with their labels, in the order in which they are asked."""


@dataclass(frozen=True, slots=True)
class RatingSet:
    """A set of outputs that raters share."""

    id: int
    of: str
    """guard, teacher or file."""
    name: str
    """The guard, the teachers or the file."""
    round: int | None
    seed: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class NewOutput:
    """An output to rate: a text, the reasoning about it without its verdict, and what is asked."""

    sample_id: int | None
    row_ref: str
    """Where it comes from."""
    prompt: str
    response: str | None
    reasoning: str
    """Empty: its coherence is not asked."""
    questions: Questions
    verdict: Mapping[str, str | None]
    """The output's own, by task; empty if it is unparsed."""


@dataclass(frozen=True, slots=True)
class Output(NewOutput):
    """An output of a set."""

    id: int
    set_id: int
    position: int
    """From 1."""
    digest: str
    """SHA-256, hexadecimal, of what a rater is shown."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a rater says of an output."""

    verdict: Mapping[str, str]
    """A label for each question."""
    coherence: int | None
    """1 to 5; None without reasoning."""


@dataclass(frozen=True, slots=True)
class Rating:
    """One row of the log."""

    id: int
    output_id: int
    by: str
    decision: str
    """rate or undo."""
    verdict: Mapping[str, str]
    coherence: int | None
    rated_at: datetime

    @property
    def answer(self) -> Answer:
        """What was said."""
        return Answer(self.verdict, self.coherence)


_SETS, _OUTPUTS, _RATINGS = rating_tables.rating_sets, rating_tables.rated_outputs, rating_tables.ratings
_OUTPUT = select(*rows.columns(_OUTPUTS, Output)).order_by(_OUTPUTS.c.position)
_RATING = select(*rows.columns(_RATINGS, Rating)).order_by(_RATINGS.c.id)


def person(name: str) -> str:
    """Return a rater of that name, as it is stored. Raises errors.BadDecision for an empty or long one."""
    bare = " ".join(name.split())
    if not bare or len(bare) > MOST_NAME or not bare.isprintable():
        raise errors.BadDecision(
            f"{name[:40]!r} is no name for a rater: give 1 to {MOST_NAME} letters that can be printed"
        )
    return f"{PERSON}{bare}"


def add_set(
    db: Connection,
    *,
    of: str,
    name: str,
    round: int | None,
    seed: int,
    outputs: Sequence[NewOutput],
    now: datetime,
) -> int:
    """Add a set with its outputs, in this order, and return its id. Raises errors.BadText for a lone surrogate."""
    new = {"of": of, "name": name, "round": round, "seed": seed, "created_at": now}
    set_id = int(db.execute(_SETS.insert().values(**new).returning(_SETS.c.id)).scalar_one())
    db.execute(
        _OUTPUTS.insert(),
        [
            rows.values(one) | {"set_id": set_id, "position": at, "digest": _digest(one)}
            for at, one in enumerate(outputs, start=1)
        ],
    )
    return set_id


def _digest(one: NewOutput) -> str:
    shown = [one.prompt, one.response, one.reasoning, one.questions]
    try:
        return hashlib.sha256(json.dumps(shown, ensure_ascii=False).encode()).hexdigest()
    except UnicodeEncodeError as error:
        raise errors.BadText(f"{one.row_ref}: not valid Unicode ({error.reason}): write the whole character") from None


def sets(db: Connection) -> list[RatingSet]:
    """Return every set, the newest last."""
    return rows.every(db, RatingSet, select(*rows.columns(_SETS, RatingSet)).order_by(_SETS.c.id))


def get_set(db: Connection, set_id: int | None = None) -> RatingSet:
    """Return a set, by default the newest. Raises errors.NotFound."""
    found = sets(db)
    if not found:
        raise errors.NotFound("there is nothing to rate yet: draw outputs with `wizloop rate draw`")
    if set_id is None:
        return found[-1]
    if (known := next((one for one in found if one.id == set_id), None)) is None:
        raise errors.NotFound(f"there is no rating set {set_id}: the newest is {found[-1].id}")
    return known


def outputs(db: Connection, set_id: int) -> list[Output]:
    """Return the outputs of a set, in order."""
    return rows.every(db, Output, _OUTPUT.where(_OUTPUTS.c.set_id == set_id))


def output(db: Connection, output_id: int) -> Output:
    """Return an output. Raises errors.NotFound."""
    found = rows.first(db, Output, _OUTPUT.where(_OUTPUTS.c.id == output_id))
    if found is None:
        raise errors.NotFound(f"there is no output {output_id} to rate here")
    return found


def log(db: Connection, output_id: int) -> list[Rating]:
    """Return every rating and undo of an output, in order."""
    return rows.every(db, Rating, _RATING.where(_RATINGS.c.output_id == output_id))


def standing(db: Connection, set_id: int) -> dict[str, dict[int, Rating]]:
    """Return the ratings in effect of a set: {rater: {output id: rating}}, raters by name."""
    found: dict[str, dict[int, Rating]] = {}
    for row in rows.every(db, Rating, _latest(set_id)):
        if row.decision == "rate":
            found.setdefault(row.by, {})[row.output_id] = row
    return dict(sorted(found.items()))


def of_rater(db: Connection, set_id: int, by: str) -> dict[int, Rating]:
    """Return a rater's own ratings in effect by output id, the oldest first."""
    mine = rows.every(db, Rating, _latest(set_id).where(_RATINGS.c.by == by))
    return {row.output_id: row for row in mine if row.decision == "rate"}


def _latest(set_id: int) -> Select[tuple[object, ...]]:
    """Select each rater's latest row on each output of a set."""
    newest = select(func.max(_RATINGS.c.id)).join(_OUTPUTS, _OUTPUTS.c.id == _RATINGS.c.output_id)
    newest = newest.where(_OUTPUTS.c.set_id == set_id).group_by(_RATINGS.c.output_id, _RATINGS.c.by)
    return _RATING.where(_RATINGS.c.id.in_(newest))


def rate(
    db: Connection, output_id: int, by: str, answer: Answer, *, now: datetime, rating_id: str, change: bool = False
) -> None:
    """Record a rating. Repeating a `rating_id` changes nothing.

    Raises errors.BadDecision if it does not answer the output's questions, and errors.AlreadyDecided if the rater has
    rated the output, unless it is to `change` that.
    """
    if db.scalar(select(_RATINGS.c.id).where(_RATINGS.c.rating_id == rating_id)) is not None:
        return
    one = output(db, output_id)
    _check(one, by, answer)
    before = of_rater(db, one.set_id, by).get(output_id)
    if before is not None and not change:
        raise errors.AlreadyDecided(f"you have rated output {one.position} already, in another window")
    _add(db, output_id, by, "rate", answer, now, rating_id)


def undo(db: Connection, set_id: int, by: str, *, now: datetime, rating_id: str) -> int:
    """Take back the rater's latest rating of a set, and return its output. Raises errors.NothingToUndo."""
    mine = of_rater(db, set_id, by)
    if not mine:
        raise errors.NothingToUndo("you have no rating to undo")
    last = max(mine.values(), key=lambda row: row.id)
    _add(db, last.output_id, by, "undo", Answer({}, None), now, rating_id)
    return last.output_id


def _add(db: Connection, output_id: int, by: str, decision: str, answer: Answer, now: datetime, rating_id: str) -> None:
    new = {"output_id": output_id, "by": by, "decision": decision, "rated_at": now, "rating_id": rating_id}
    db.execute(_RATINGS.insert().values(**new, verdict=dict(answer.verdict), coherence=answer.coherence))


def _check(one: Output, by: str, answer: Answer) -> None:
    if not by.startswith(PERSON) or by == PERSON:
        raise errors.BadDecision(f"{by!r} is not a rater: use {PERSON}<name>")
    asked = dict(one.questions)
    if other := set(answer.verdict) - set(asked):
        raise errors.BadDecision(f"output {one.position}: {min(other)[:40]!r} is not asked: leave it out")
    for task, labels in asked.items():
        label = answer.verdict.get(task)
        if label not in labels:
            said = "has no answer" if label is None else f"is {label[:40]!r}"
            raise errors.BadDecision(f"output {one.position}: {task} {said}: give {' or '.join(labels)}")
    if (answer.coherence is None) == bool(one.reasoning):
        wanted = "1 to 5" if one.reasoning else "none, because there is no reasoning"
        raise errors.BadDecision(f"output {one.position}: coherence must be {wanted}")
    if answer.coherence is not None and answer.coherence not in COHERENCE:
        raise errors.BadDecision(f"output {one.position}: coherence is {answer.coherence}: give 1 to 5")
