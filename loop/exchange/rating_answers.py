"""Record people's ratings that come back from other programs. A person's new answer replaces the older one."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from wizloop.loop.exchange.rating_files import GRADE, RATER, VERDICTS
from wizloop.loop.exchange.tool_answers import Answer
from wizloop.store import errors, ratings
from wizloop.store.db import Connection
from wizloop.store.ratings import PERSON


@dataclass
class Outcome:
    """How many ratings were recorded, changed or known already, and what was not recorded, with the reasons."""

    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


class BadAnswer(ValueError):
    """An answer cannot be a rating; the message is the reason."""


def record(db: Connection, answers: Sequence[Answer], now: datetime) -> Outcome:
    """Record ratings; repeating it changes nothing. Of two different answers for one rater none is recorded."""
    outcome = Outcome()
    by_rater: dict[tuple[int, str], list[Answer]] = {}
    for one in answers:
        try:
            by_rater.setdefault((one.item, _rater(one)), []).append(one)
        except errors.BadDecision as error:
            outcome.problems.append(f"record {one.row}: {error}")
    for (output_id, by), given in by_rater.items():
        try:
            outcome.counts[_record(db, output_id, by, given, now)] += 1
        except (BadAnswer, errors.NotFound, errors.BadDecision) as error:
            outcome.problems.append(f"record {given[0].row}: {error}")
    return outcome


def _rater(answer: Answer) -> str:
    return ratings.person(answer.kept.get(RATER, answer.by.removeprefix(PERSON)))


def _record(db: Connection, output_id: int, by: str, given: Sequence[Answer], now: datetime) -> str:
    """Record a rater's answer on an output, and return what that was: new, changed or known."""
    one = ratings.output(db, output_id)
    if any(each.digest != one.digest for each in given):
        raise BadAnswer(f"output {output_id} is another text here: is it from another workspace?")
    if len({json.dumps(dict(each.given), sort_keys=True) for each in given}) > 1:
        raise BadAnswer(f"output {one.position}: {len(given)} different answers of {by.removeprefix(PERSON)}: keep one")
    said = answer_of(given[0])
    before = ratings.of_rater(db, one.set_id, by).get(output_id)
    if before is not None and before.answer == said:
        return "known"
    told = json.dumps([output_id, by, dict(said.verdict), said.coherence, len(ratings.log(db, output_id))]).encode()
    rating_id = f"answer-{hashlib.sha256(told).hexdigest()}"
    ratings.rate(db, output_id, by, said, now=now, rating_id=rating_id, change=True)
    return "new" if before is None else "changed"


def answer_of(answer: Answer) -> ratings.Answer:
    """Return what an answer says. Raises BadAnswer for a grade that is no number of the scale."""
    given = {name: text.strip() for name, text in answer.given.items()}
    verdict = {str(task): given[name] for task, name in VERDICTS.items() if name in given}
    return ratings.Answer(verdict, _grade(given[GRADE]) if GRADE in given else None)


def _grade(text: str) -> int:
    """Return the grade that a text begins with: 4, 4.0 or `4 mostly`. Raises BadAnswer."""
    number = text.split()[0].removesuffix(".0")
    if number not in map(str, ratings.COHERENCE):
        raise BadAnswer(f"{GRADE} is {text[:40]!r}: give 1 to 5")
    return int(number)
