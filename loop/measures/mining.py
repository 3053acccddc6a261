"""Preference pairs from hard samples: a right and a wrong trace of one guard on one sample (arXiv:2501.18492, HS-DPO).

A sample is hard if the guard's own traces are both right and wrong against the known label. The members' disagreement,
which needs no label, is in `uncertainty`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from wizloop.loop.words import NONE, Task, Verdict

ORDER: Final[tuple[Task, ...]] = ("request", "response", "completion")
"""The order in which tasks are tried; the first hard one yields the sample's only pair."""


@dataclass(frozen=True)
class Generation:
    """One sampled trace of a guard."""

    text: str
    verdict: Verdict | None
    """None if unparsed."""
    contradicts: bool = False
    """Whether its reasoning speaks against its verdict: it is never chosen."""


@dataclass(frozen=True)
class MinedPair:
    """A chosen and a rejected trace for preference training."""

    sample_id: int
    task: Task
    chosen: str
    rejected: str
    n_right: int
    n_wrong: int
    weight: float = 1.0
    """Alpha of the loss, from `weigh`."""


def mine(sample_id: int, truth: Verdict, has_response: bool, generations: Sequence[Generation]) -> MinedPair | None:
    """Return the sample's pair on its first hard task, or None if no task is hard.

    A prompt without a response has the task request only. Chosen is the longest right trace, rejected the longest
    wrong one, in characters, ties by the earliest. Unlike the released code, a trace that is right on every known task
    is preferred to a longer one that is right on this task only, and one that contradicts itself is never chosen.
    """
    known = [task for task in ORDER if truth.get(task) is not None and (has_response or task == "request")]
    parsed = [generation for generation in generations if generation.verdict is not None]
    for task in known:
        right = [one for one in parsed if _label(one, task) == truth[task]]
        wrong = [one for one in parsed if _label(one, task) != truth[task]]
        sound = [one for one in right if not one.contradicts]
        if sound and wrong:
            right_on_all = [one for one in sound if all(_label(one, other) == truth[other] for other in known)]
            chosen = max(right_on_all or sound, key=lambda one: len(one.text)).text
            rejected = max(wrong, key=lambda one: len(one.text)).text
            return MinedPair(sample_id, task, chosen, rejected, len(right), len(wrong))
    return None


def weights(d: Sequence[int], gamma: float = 0.2) -> list[float]:
    """Return alpha for each raw weight: `d` scaled (min-max) to 1 - gamma to 1 + gamma; 1 when all are equal.

    `d` must hold all pairs that one guard mined from one data set. Raises ValueError unless 0 <= gamma < 1.
    """
    if not 0 <= gamma < 1:
        raise ValueError(f"gamma is {gamma}: it must be at least 0 and below 1")
    low, high = min(d, default=0), max(d, default=0)
    if low == high:
        return [1.0] * len(d)
    return [1 - gamma + 2 * gamma * (value - low) / (high - low) for value in d]


def weigh(
    pairs: Sequence[MinedPair], gamma: float = 0.2, favor: Literal["up", "equal", "down"] = "up"
) -> list[MinedPair]:
    """Return the pairs of one guard on one data set with their weights, from wrong minus right generations.

    up gives the hardest pairs the largest weight (the paper), down the smallest, equal weighs all as 1.
    """
    sign = {"up": 1, "equal": 0, "down": -1}[favor]
    alphas = weights([sign * (pair.n_wrong - pair.n_right) for pair in pairs], gamma)
    return [replace(pair, weight=alpha) for pair, alpha in zip(pairs, alphas, strict=True)]


def _label(generation: Generation, task: Task) -> str:
    """Return the label of a parsed trace; `None` in a trace is a (wrong) label, not a missing one."""
    return (generation.verdict or {}).get(task) or NONE
