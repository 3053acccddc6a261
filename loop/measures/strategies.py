"""How interesting each candidate is, by each strategy. Scorers only: what is picked of what they rank is `acquisition`.

A scorer returns one float per candidate, higher is picked sooner, NaN is never picked.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wizloop.plugins import Candidate

Reason = Literal["uncertain_compliance", "disagreement", "low_confidence", "diversity", "random"]
Scores = NDArray[np.float64]


def uncertain_compliance(candidates: Sequence[Candidate]) -> Scores:
    """What the guard lets through with low confidence, the lowest confidence first: the riskiest mistakes."""
    return _scores(candidates, lambda one: None if one.cell != "uncertain_pass" else _negated(one.confidence))


def disagreement(candidates: Sequence[Candidate]) -> Scores:
    """What the members disagree on most; where they agree there is nothing to pick."""
    return _scores(candidates, lambda one: one.disagreement or None)


def low_confidence(candidates: Sequence[Candidate]) -> Scores:
    """The lowest confidence, whatever the verdict."""
    return _scores(candidates, lambda one: _negated(one.confidence))


RANKED: dict[str, Callable[[Sequence[Candidate]], Scores]] = {
    "uncertain_compliance": uncertain_compliance,
    "disagreement": disagreement,
    "low_confidence": low_confidence,
}
"""The strategies that look at one candidate at a time, in the order in which they pick."""


class Explainer:
    """Says in one sentence, for a reviewer, why a candidate was picked, by comparing it with all of the round."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        passing = ("uncertain_pass", "confident_pass")
        self._let_through = _ascending(one.confidence for one in candidates if one.cell in passing)
        self._confidences = _ascending(one.confidence for one in candidates)
        self._disagreements = _ascending(one.disagreement for one in candidates)

    def words(self, reason: str, one: Candidate, score: float, left: int) -> str:
        """The sentence for one pick; `left` is how many candidates the strategy could choose from."""
        at = "an unreadable answer" if one.p is None else f"{one.p:.2f}"
        if reason == "uncertain_compliance":
            share = _above(self._let_through, -score)
            return f"Let through at {at} with confidence {-score:.2f}, lower than {share} of what it lets through."
        if reason == "disagreement":
            share = _below(self._disagreements, score)
            return f"The members disagree by {score:.2f}, more than on {share} of the pool; the guard is at {at}."
        if reason == "low_confidence":
            share = _above(self._confidences, -score)
            return f"Judged at {at} with confidence {-score:.2f}, lower than {share} of the pool."
        if reason == "diversity":
            where = f", under the policy {one.policy}" if one.policy else ""
            return f"Unlike what else was picked{where}: at most {100 * (1 - score):.0f} % of its wording is shared."
        return f"Drawn by chance from the {left:,} samples left, which keeps the estimate of the pool honest."


def _scores(candidates: Sequence[Candidate], score: Callable[[Candidate], float | None]) -> Scores:
    """One score per candidate, NaN for None."""
    given = (score(one) for one in candidates)
    return np.array([np.nan if value is None else value for value in given], dtype=np.float64)


def _negated(value: float | None) -> float | None:
    return None if value is None else -value


def _ascending(values: Iterable[float | None]) -> Scores:
    return np.sort(np.array([value for value in values if value is not None], dtype=np.float64))


def _above(ascending: Scores, value: float) -> str:
    """The share of the values that are higher, as words."""
    return _share(len(ascending) - int(np.searchsorted(ascending, value, side="right")), len(ascending))


def _below(ascending: Scores, value: float) -> str:
    """The share of the values that are lower, as words."""
    return _share(int(np.searchsorted(ascending, value, side="left")), len(ascending))


def _share(part: int, whole: int) -> str:
    # Rounded down: "100 %" would claim that it is beyond itself.
    return f"{100 * part // whole} %"
