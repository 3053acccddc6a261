"""Known sets of comments that raters scored from 0 to 1: the share of them who found the comment toxic.

Columns as published: Jigsaw's three Kaggle competitions (`comment_text` with `toxic` or `target`; a `toxic` of -1 was
not scored), which the hub has as google/jigsaw_toxicity_pred and google/jigsaw_unintended_bias, and
google/civil_comments (`text` with `toxicity`).
"""

from collections.abc import Callable
from functools import partial
from math import isfinite

from wizloop.loop.data.formats import HARMFUL, UNHARMFUL, Content, Format, columns
from wizloop.loop.data.records import Record, RowRefused

CUT = 0.5
"""The competitions count a comment as toxic from here on."""
NOT_SCORED = -1
CLASSES = {"false": "0", "true": "1"}
"""Names of the two classes on the hub."""
KINDS = columns(
    "severe_toxic severe_toxicity obscene threat insult identity_hate identity_attack sexual_explicit sexual"
)
"""Columns that say which kind of toxicity."""


def _scored(record: Record, text: str, column: str) -> Content:
    score = _score(record[column], column)
    if score is None:
        return Content(record[text])
    return Content(record[text], None, HARMFUL if score >= CUT else UNHARMFUL, policy=_kind(record))


def _score(value: object, column: str) -> float | None:
    """Return a score, or None if nobody scored the comment. Raises RowRefused."""
    if value is None or value == "":
        return None
    try:
        score = float(CLASSES.get(value, value) if isinstance(value, str) else value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        score = float("inf")
    if score == NOT_SCORED or score != score:
        return None
    if not isfinite(score) or not 0 <= score <= 1:
        raise RowRefused(f"the column {column} is {str(value)[:40]!r}, not a score from 0 to 1")
    return score


def _is_civil(record: Record, _name: str) -> bool:
    """Return whether the column `toxicity`, which others have too, begins with a score."""
    try:
        return _score(record["toxicity"], "toxicity") is not None
    except RowRefused:
        return False


def _kind(record: Record) -> str | None:
    """Return the kind with the highest score from the cut on, or None."""
    scores = {name: _score(value, name) or 0.0 for name, value in record.items() if name in KINDS}
    name = max(scores, key=lambda name: (scores[name], name), default=None)
    return name if name is not None and scores[name] >= CUT else None


def _comments(
    name: str, text: str, column: str, recognizes: Callable[[Record, str], bool] = lambda _record, _name: True
) -> Format:
    """Return the format of comments in the column `text` with their score in `column`."""
    note = (
        f"a {column} of {CUT} or more is harmful, less is unharmful: the published cut for comments, "
        "which is weak for requests"
    )
    return Format(name, frozenset((text, column)), partial(_scored, text=text, column=column), recognizes, note)


SCORE_SETS: tuple[Format, ...] = (
    _comments("jigsaw unintended bias", "comment_text", "target"),
    _comments("jigsaw", "comment_text", "toxic"),
    _comments("civil comments", "text", "toxicity", _is_civil),
)
