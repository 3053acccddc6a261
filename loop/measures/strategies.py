"""Scorers of the selection strategies. `acquisition` picks from what they rank.

A scorer returns one float per candidate: higher is picked sooner, NaN is never picked.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wizloop.plugins import Candidate

Reason = Literal["uncertain_compliance", "disagreement", "low_confidence", "diversity", "random"]
Scores = NDArray[np.float64]


def uncertain_compliance(candidates: Sequence[Candidate]) -> Scores:
    """Score samples allowed with low confidence, lowest confidence first: the riskiest mistakes."""
    return _scores(candidates, lambda one: None if one.cell != "uncertain_pass" else _negated(one.confidence))


def disagreement(candidates: Sequence[Candidate]) -> Scores:
    """Score by the members' disagreement; full agreement is never picked."""
    return _scores(candidates, lambda one: one.disagreement or None)


def low_confidence(candidates: Sequence[Candidate]) -> Scores:
    """Score by low confidence, whatever the verdict."""
    return _scores(candidates, lambda one: _negated(one.confidence))


RANKED: dict[str, Callable[[Sequence[Candidate]], Scores]] = {
    "uncertain_compliance": uncertain_compliance,
    "disagreement": disagreement,
    "low_confidence": low_confidence,
}
"""The strategies that score candidates one by one, in the order in which they pick."""


class Explainer:
    """Explain a pick in one sentence for a reviewer, by comparing it with all candidates of the round."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        passing = ("uncertain_pass", "confident_pass")
        self._let_through = _ascending(one.confidence for one in candidates if one.cell in passing)
        self._confidences = _ascending(one.confidence for one in candidates)
        self._disagreements = _ascending(one.disagreement for one in candidates)

    def words(self, reason: str, one: Candidate, score: float, left: int) -> str:
        """Return the sentence for one pick; `left` is the number of candidates that the strategy chose from."""
        answer = "an unreadable answer" if one.p is None else f"P(harmful) {one.p:.2f}"
        if reason == "uncertain_compliance":
            share = _above(self._let_through, -score)
            return f"Allowed at {answer} with confidence {-score:.2f}, lower than {share} of what the guard allows."
        if reason == "disagreement":
            share = _below(self._disagreements, score)
            return f"The members disagree by {score:.2f}, more than on {share} of the pool; guard: {answer}."
        if reason == "low_confidence":
            share = _above(self._confidences, -score)
            return f"Confidence {-score:.2f}, lower than {share} of the pool, at {answer}."
        if reason == "diversity":
            where = f", under the policy {one.policy}" if one.policy else ""
            return f"Unlike the other picks{where}: at most {100 * (1 - score):.0f} % of the wording is shared."
        return f"Drawn at random from the {left:,} remaining samples, for an unbiased estimate of the pool."


def _scores(candidates: Sequence[Candidate], score: Callable[[Candidate], float | None]) -> Scores:
    """Return one score per candidate, NaN for None."""
    return np.array([score(one) for one in candidates], dtype=np.float64)


def _negated(value: float | None) -> float | None:
    return None if value is None else -value


def _ascending(values: Iterable[float | None]) -> Scores:
    return np.sort(np.array([value for value in values if value is not None], dtype=np.float64))


def _above(ascending: Scores, value: float) -> str:
    """Return the share of the values that are higher, as text."""
    return _share(len(ascending) - int(np.searchsorted(ascending, value, side="right")), len(ascending))


def _below(ascending: Scores, value: float) -> str:
    """Return the share of the values that are lower, as text."""
    return _share(int(np.searchsorted(ascending, value, side="left")), len(ascending))


def _share(part: int, whole: int) -> str:
    # Rounded down: a value is never beyond 100 % of a set that contains it.
    return f"{100 * part // whole} %"
