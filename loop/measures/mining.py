"""Hard samples: pairs of a right and a wrong trace of the same guard on the same sample (arXiv:2501.18492, HS-DPO).

Hard means that the guard's own samples are right and wrong against the known label; the members' disagreement, which
needs no label, is another quantity and lives in `uncertainty`. Nothing is sampled or trained here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from wizloop.loop.words import NONE, Task, Verdict

ORDER: Final[tuple[Task, ...]] = ("request", "response", "completion")
"""The order in which tasks are tried; the first hard one gives the sample's one pair."""


@dataclass(frozen=True)
class Generation:
    """One sampled trace of a guard."""

    text: str
    verdict: Verdict | None
    """None if unparsed."""


class Hardness(NamedTuple):
    """How the parsed generations of a sample stand to the known label of one task."""

    n_right: int
    n_wrong: int
    hard: bool
    """Right and wrong both occur."""


@dataclass(frozen=True)
class MinedPair:
    """A chosen and a rejected trace for preference training."""

    sample_id: int | str
    task: Task
    chosen: str
    rejected: str
    n_right: int
    n_wrong: int
    all_right: bool
    """Whether the chosen trace is right on every task with a known label, not only on `task`."""
    weight: float = 1.0
    """Alpha of the loss, from `weigh`."""

    @property
    def d(self) -> int:
        """The raw weight: wrong minus right generations."""
        return self.n_wrong - self.n_right


def hardness(truth: str, labels: Sequence[str | None]) -> Hardness:
    """Count the labels that are and are not the truth; unparsed ones (None) are dropped."""
    parsed = [label for label in labels if label is not None]
    n_right = parsed.count(truth)
    n_wrong = len(parsed) - n_right
    return Hardness(n_right, n_wrong, n_right > 0 and n_wrong > 0)


def mine(
    sample_id: int | str, truth: Verdict, has_response: bool, generations: Sequence[Generation]
) -> MinedPair | None:
    """Return the sample's pair on its first hard task, or None if no task is hard.

    A prompt without a response is judged on the request only. Chosen is the longest right trace, rejected the longest
    wrong one, in characters, ties by the earliest. Unlike the released code, a trace that is right on every known task
    comes before a longer one that is right on this task alone.
    """
    known: list[Task] = [task for task in ORDER if truth.get(task) is not None and (has_response or task == "request")]
    for task in known:
        counts = hardness(truth[task] or NONE, [_label(generation, task) for generation in generations])
        if counts.hard:
            return _pair(sample_id, task, counts, truth, known, generations)
    return None


def weights(d: Sequence[int], gamma: float = 0.2) -> list[float]:
    """Return alpha for each raw weight: min-max over all of `d` onto 1 - gamma to 1 + gamma; 1 when all are equal.

    Give it all pairs that one guard mined from one data set, before any merge. Raises ValueError unless
    0 <= gamma < 1.
    """
    if not 0 <= gamma < 1:
        raise ValueError(f"gamma is {gamma}: it must be at least 0 and below 1")
    low, high = min(d, default=0), max(d, default=0)
    if low == high:
        return [1.0] * len(d)
    return [1 - gamma + 2 * gamma * (value - low) / (high - low) for value in d]


def weigh(pairs: Sequence[MinedPair], gamma: float = 0.2) -> list[MinedPair]:
    """Return the pairs of one guard on one data set with their weights."""
    alphas = weights([pair.d for pair in pairs], gamma)
    return [replace(pair, weight=alpha) for pair, alpha in zip(pairs, alphas, strict=True)]


def merge(sets: Iterable[Iterable[MinedPair]]) -> list[MinedPair]:
    """Return one pair a sample, the first in the order of the sets, with the weight that it already has."""
    kept: dict[int | str, MinedPair] = {}
    for pairs in sets:
        for pair in pairs:
            kept.setdefault(pair.sample_id, pair)
    return list(kept.values())


def _pair(
    sample_id: int | str,
    task: Task,
    counts: Hardness,
    truth: Verdict,
    known: Sequence[Task],
    generations: Sequence[Generation],
) -> MinedPair:
    parsed = [generation for generation in generations if generation.verdict is not None]
    right = [generation for generation in parsed if _label(generation, task) == truth[task]]
    wrong = [generation for generation in parsed if _label(generation, task) != truth[task]]
    right_on_all = [g for g in right if all(_label(g, other) == truth[other] for other in known)]
    chosen = max(right_on_all or right, key=lambda g: len(g.text))
    rejected = max(wrong, key=lambda g: len(g.text))
    return MinedPair(
        sample_id, task, chosen.text, rejected.text, counts.n_right, counts.n_wrong, all_right=bool(right_on_all)
    )


def _label(generation: Generation, task: Task) -> str | None:
    """None if unparsed; a parsed trace that found nothing to judge has the word for it, which is wrong, not missing."""
    if generation.verdict is None:
        return None
    return generation.verdict.get(task) or NONE
