"""The agreement of the raters of a set: two and two, all together, and how coherent each found the reasoning."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from wizloop.loop.data.similarity import normalize
from wizloop.loop.measures import agreement
from wizloop.loop.measures.agreement import Codes, Figure, Level, Pair
from wizloop.loop.measures.metrics import FEW
from wizloop.loop.words import TASKS, by_task
from wizloop.store import ratings
from wizloop.store.db import Connection
from wizloop.store.ratings import COHERENCE, COHERENT, PERSON, Output, Rating, RatingSet

GRADE = "coherence"


@dataclass(frozen=True)
class Question:
    """What was asked: a task, or the coherence of the reasoning."""

    name: str
    labels: Sequence[str]
    level: Level


@dataclass(frozen=True)
class Rater:
    """One rater, and how coherent that rater found the reasoning."""

    name: str
    rated: int
    grades: agreement.Ratings


@dataclass(frozen=True)
class Agreed:
    """Two raters on one question."""

    question: Question
    raters: tuple[str, str]
    pair: Pair


@dataclass(frozen=True)
class Alpha:
    """All raters on one question."""

    question: Question
    n: int
    """Outputs that two or more rated."""
    figure: Figure


@dataclass(frozen=True)
class Agreement:
    """All figures of a set."""

    set: RatingSet
    n: int
    """Outputs of the set."""
    prompts: int
    raters: Sequence[Rater]
    pairs: Sequence[Agreed]
    alphas: Sequence[Alpha]
    differing: Sequence[Mapping[str, Any]]
    """The outputs on which raters differ, as `--rows` writes them."""


def measure(db: Connection, found: RatingSet) -> Agreement:
    """Compare the raters of a set on what they rated; draws by the set's seed."""
    outputs, standing = ratings.outputs(db, found.id), ratings.standing(db, found.id)
    by = {name.removeprefix(PERSON): rated for name, rated in standing.items()}
    prompts = [normalize(one.prompt) or one.prompt for one in outputs]
    codes = {question: _codes(question, outputs, by) for question in questions(outputs)}
    rng = np.random.default_rng(found.seed)
    pairs, alphas = [], []
    for question, given in codes.items():
        k, level = len(question.labels), question.level
        for a, b in combinations(by, 2):
            compared = agreement.pair(given[a], given[b], k, prompts, level, rng)
            pairs.append(Agreed(question, (a, b), compared))
        if len(by) > 1:
            answers = np.array([given[name] for name in by])
            n = int(((answers >= 0).sum(axis=0) > 1).sum())
            alphas.append(Alpha(question, n, agreement.alpha(answers, k, prompts, level, rng)))
    return Agreement(
        found,
        len(outputs),
        len(set(prompts)),
        [Rater(name, len(rated), _grades(outputs, rated, prompts, rng)) for name, rated in by.items()],
        pairs,
        alphas,
        list(_differing(outputs, by)),
    )


def questions(outputs: Sequence[Output]) -> list[Question]:
    """Return what was asked of these outputs, in order."""
    asked = {task: tuple(labels) for one in outputs for task, labels in one.questions}
    tasks = [Question(task, asked[task], "nominal") for task in TASKS if task in asked]
    grades = tuple(map(str, COHERENCE))
    return tasks + ([Question(GRADE, grades, "ordinal")] if any(one.reasoning for one in outputs) else [])


def _said(question: Question, rating: Rating | None) -> str | None:
    if rating is None:
        return None
    if question.name == GRADE:
        return None if rating.coherence is None else str(rating.coherence)
    return rating.verdict.get(question.name)


def _codes(question: Question, outputs: Sequence[Output], by: Mapping[str, Mapping[int, Rating]]) -> dict[str, Codes]:
    """Return each rater's answers as numbers of labels, -1 where there is none."""
    number = {label: at for at, label in enumerate(question.labels)}
    return {
        name: np.array([number.get(_said(question, rated.get(one.id)) or "", -1) for one in outputs], dtype=np.int64)
        for name, rated in by.items()
    }


def _grades(
    outputs: Sequence[Output], rated: Mapping[int, Rating], prompts: Sequence[str], rng: np.random.Generator
) -> agreement.Ratings:
    given = [rated[one.id].coherence or 0 if one.id in rated else 0 for one in outputs]
    return agreement.grades(np.array(given, dtype=np.int64), COHERENT, prompts, rng)


def _differing(outputs: Sequence[Output], by: Mapping[str, Mapping[int, Rating]]) -> Iterator[dict[str, Any]]:
    """Yield the outputs that two raters answered differently, with every rater's answers."""
    for one in outputs:
        given = {name: rated[one.id] for name, rated in by.items() if one.id in rated}
        answers = {name: [*by_task(each.verdict).values(), each.coherence] for name, each in given.items()}
        apart = {json.dumps(answer) for answer in answers.values()}
        if len(apart) < 2:
            continue
        columns = zip(*answers.values(), strict=True)
        names = (*TASKS, GRADE)
        yield {
            "output": one.position,
            "row": one.row_ref,
            "sample": one.sample_id,
            "differ": [name for name, said in zip(names, columns, strict=True) if len(set(said)) > 1],
            "raters": {name: {**by_task(each.verdict), GRADE: each.coherence} for name, each in given.items()},
            "verdict": by_task(one.verdict),
            "prompt": one.prompt,
            "response": one.response,
            "reasoning": one.reasoning,
        }


TEXTS = ("prompt", "response", "reasoning")
"""Keys of a row that hold its texts."""


def too_few(found: Agreement) -> list[Agreed]:
    """Return the pairs on whose question too few prompts are rated by both for an interval."""
    return [one for one in found.pairs if one.pair.prompts < FEW]


def to_json(found: Agreement) -> dict[str, Any]:
    """Return all figures, undefined ones as None."""
    about = found.set
    return {
        "set": {"id": about.id, "of": about.of, "name": about.name, "round": about.round, "seed": about.seed},
        "outputs": found.n,
        "prompts": found.prompts,
        "raters": [
            {
                "rater": one.name,
                "rated": one.rated,
                "graded": one.grades.n,
                "mean_coherence": asdict(one.grades.mean),
                "coherent": asdict(one.grades.share),
            }
            for one in found.raters
        ],
        "pairs": [
            {
                "question": one.question.name,
                "raters": list(one.raters),
                "labels": list(one.question.labels),
                **asdict(one.pair),
                "weights": "quadratic" if one.question.level == "ordinal" else None,
                "too_few": one.pair.prompts < FEW,
            }
            for one in found.pairs
        ],
        "alpha": [
            {"question": one.question.name, "level": one.question.level, "n": one.n, **asdict(one.figure)}
            for one in found.alphas
        ],
        "differing": len(found.differing),
    }
