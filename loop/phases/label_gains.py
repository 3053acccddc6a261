"""What a run's choosing saved and what the next labels bring, measured on dev with a cheap learner after each round."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from wizloop.console import label_gains as words
from wizloop.loop.context import Context
from wizloop.loop.measures import labels_saved
from wizloop.loop.phases.taught_lessons import Labeled
from wizloop.loop.stored_samples import labels_of
from wizloop.loop.words import Task
from wizloop.store import selections, steps, teacher_calls
from wizloop.store.samples import Sample

_COLUMNS = 2**16
_TASK: Final[Task] = "request"


def record_of(ctx: Context, lessons: Sequence[Labeled], dev: Sequence[Sample]) -> dict[str, Any]:
    """Return the round's record of its labels; empty in round 0, which chooses nothing."""
    if ctx.round == 0:
        return {}
    asked = _asked(ctx, lessons, dev)
    if asked is None:
        return {}
    gain = labels_saved.next_hundred(asked, ctx.rng("next labels"))
    return {
        words.KEY: {
            "saved": labels_saved.labels_saved(asked, ctx.rng("labels saved")).to_json(),
            "next": None if gain is None else gain.to_json() | {"usd": _usd_of_a_hundred(ctx)},
        }
    }


def _asked(ctx: Context, lessons: Sequence[Labeled], dev: Sequence[Sample]) -> labels_saved.Asked | None:
    """Return the labels on requests and dev as the measure takes them; None without any."""
    with ctx.store.read() as db:
        chosen = {one.sample_id: one for one in selections.of_samples(db, [one.sample.id for one in lessons])}
    known = [one for one in lessons if _TASK in one.labels and one.sample.id in chosen]
    known.sort(key=lambda one: (chosen[one.sample.id].round, chosen[one.sample.id].rank))
    held = [(one, label) for one in dev if (label := labels_of(one, ctx.declared).get(_TASK)) is not None]
    if not known or not held:
        return None
    positive = ctx.declared.positive(_TASK)
    asked, measured = _features([one.sample.prompt for one in known]), _features([one.prompt for one, _ in held])
    # A column that no label has is weighted 0 by every learner.
    columns = np.unique(asked.indices)
    return labels_saved.Asked(
        asked[:, columns],
        np.array([one.labels[_TASK] == positive for one in known]),
        np.array([chosen[one.sample.id].propensity or np.nan for one in known], dtype=np.float64),
        np.array([chosen[one.sample.id].reason == "seed" for one in known]),
        measured[:, columns],
        np.array([label == positive for _, label in held]),
    )


def _features(texts: Sequence[str]) -> Any:
    """Return hashed words and characters of texts, (texts, 2^17); nothing is fitted."""
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import HashingVectorizer

    words_of = HashingVectorizer(n_features=_COLUMNS, ngram_range=(1, 2), alternate_sign=False)
    characters = HashingVectorizer(n_features=_COLUMNS, analyzer="char_wb", ngram_range=(2, 4), alternate_sign=False)
    return hstack([words_of.transform(texts), characters.transform(texts)]).tocsr()


def _usd_of_a_hundred(ctx: Context) -> float:
    """Return what a hundred labels have cost in this run, in dollars."""
    with ctx.store.read() as db:
        rounds = [one.number for one in steps.rounds(db)]
        micro = sum(teacher_calls.spent_micro(db, number) for number in rounds)
        answers = sum(teacher_calls.call_counts(db, number).get("parsed", 0) for number in rounds)
    return 100 * micro / 1e6 / max(answers, 1)
