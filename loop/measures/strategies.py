"""The built-in selection strategies, of the same interface as a plugin's. `acquisition` picks from what they rank."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wizloop.plugins import Candidate, SelectionStrategy

Reason = Literal["uncertain_compliance", "disagreement", "low_confidence", "diversity", "random"]
Scores = NDArray[np.float64]
Scored = Sequence[float | None]


class UncertainCompliance(SelectionStrategy):
    """Samples allowed with low confidence, lowest confidence first: the riskiest mistakes."""

    def __init__(self, pool: Sequence[Candidate]) -> None:
        passing = ("uncertain_pass", "confident_pass")
        self._let_through = _ascending(one.confidence for one in pool if one.cell in passing)

    def score(self, candidates: Sequence[Candidate], seed: int) -> Scored:
        """Score by low confidence; only what is allowed is picked."""
        return [_negated(one.confidence) if one.cell == "uncertain_pass" else None for one in candidates]

    def explain(self, candidate: Candidate, score: float) -> str:
        """Compare the confidence with that of all that the guard allows."""
        share, answer = _above(self._let_through, -score), _answer(candidate)
        return f"Allowed at {answer} with confidence {-score:.2f}, lower than {share} of what the guard allows."


class Disagreement(SelectionStrategy):
    """Samples on which the members, or the committee's copies, are farthest apart; full agreement is never picked."""

    def __init__(self, pool: Sequence[Candidate]) -> None:
        self._disagreements = _ascending(one.disagreement for one in pool)

    def score(self, candidates: Sequence[Candidate], seed: int) -> Scored:
        """Score by the disagreement."""
        return [one.disagreement or None for one in candidates]

    def explain(self, candidate: Candidate, score: float) -> str:
        """Compare the disagreement with that on the pool."""
        who = "The committee disagrees" if candidate.asked == "committee" else "The members disagree"
        share = _below(self._disagreements, score)
        return f"{who} by {score:.2f}, more than on {share} of the pool; guard: {_answer(candidate)}."


class LowConfidence(SelectionStrategy):
    """The least confident samples, whatever the verdict."""

    def __init__(self, pool: Sequence[Candidate]) -> None:
        self._confidences = _ascending(one.confidence for one in pool)

    def score(self, candidates: Sequence[Candidate], seed: int) -> Scored:
        """Score by low confidence."""
        return [_negated(one.confidence) for one in candidates]

    def explain(self, candidate: Candidate, score: float) -> str:
        """Compare the confidence with that of the pool."""
        share = _above(self._confidences, -score)
        return f"Confidence {-score:.2f}, lower than {share} of the pool, at {_answer(candidate)}."


RANKED: Mapping[str, Callable[[Sequence[Candidate]], SelectionStrategy]] = MappingProxyType(
    {
        "uncertain_compliance": UncertainCompliance,
        "disagreement": Disagreement,
        "low_confidence": LowConfidence,
    }
)
"""The built-in strategies that score candidates one by one, in the order in which they pick: plugins that know all
candidates of the round, to compare a pick with."""


def words(reason: str, one: Candidate, score: float, left: int, *, by_vectors: bool = False) -> str:
    """Return the sentence for a pick of the strategies that score nothing; `left` candidates were left for them.

    `by_vectors` is whether diversity compared the base's vectors, and not wording.
    """
    if reason == "diversity":
        where = f", under the policy {one.policy}" if one.policy else ""
        if by_vectors:
            return (
                f"Unlike the other picks{where}: its vector has a cosine of at most {1 - score:.2f} with any of them."
            )
        return f"Unlike the other picks{where}: at most {100 * (1 - score):.0f} % of the wording is shared."
    return f"Drawn at random from the {left:,} remaining samples, for an unbiased estimate of the pool."


def _answer(one: Candidate) -> str:
    return "an unreadable answer" if one.p is None else f"P(harmful) {one.p:.2f}"


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
