"""Select the samples for the teacher: a batch mixed from strategies by shares, without near-duplicates.

Pure functions from candidates to picks; the scorers are in `strategies`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from wizloop.loop.data.similarity import Fingerprint, NearDuplicates
from wizloop.loop.measures.strategies import RANKED, Reason, Scores, words
from wizloop.plugins import Candidate, SelectionStrategy, blamed

ORDER: tuple[str, ...] = get_args(Reason)
"""Strategies pick in this order, so that the random share is drawn from what the others left."""
NO_PLUGINS: Mapping[str, SelectionStrategy] = MappingProxyType({})

SHORTLIST = 8
"""Candidates that diversity compares for each pick; the whole pool would take minutes."""
SPREAD = 8
"""Candidates from which each of the shortlist is drawn, evenly by policy."""

Full = Callable[[Sequence[Candidate]], Sequence[Candidate]]
"""Returns candidates with their text and policy, for a pool too large to hold all of them."""
Vectors = Callable[[Sequence[Candidate]], NDArray[np.float16] | None]
"""Returns the base's vectors of candidates, row by row, or None."""


def _no_vectors(candidates: Sequence[Candidate]) -> None:
    """Return None."""


@dataclass(frozen=True)
class Pick:
    """One sample for the teacher, with the reason."""

    sample_id: int
    reason: str
    score: float
    """By strategy: minus the confidence, the disagreement, one minus the similarity, or the propensity."""
    rank: int
    """1 is picked first."""
    propensity: float | None
    """Probability of being drawn, in the random share: 1 / propensity weighs the pick in an estimate of the pool. None
    for the other strategies, whose picks represent only themselves."""
    words: str
    """A sentence for the reviewer."""


def choose(
    candidates: Sequence[Candidate],
    *,
    budget: int,
    shares: Mapping[str, float],
    rng: np.random.Generator,
    near_duplicate: float = 0.8,
    installed: Mapping[str, SelectionStrategy] = NO_PLUGINS,
    full: Full = list,
    vectors: Vectors = _no_vectors,
) -> list[Pick]:
    """Pick at most `budget` candidates, in teaching order.

    `shares` maps strategies to their share of the batch (any positive numbers; they are scaled to sum to one). A
    strategy that runs out passes the rest of its share on. Fewer than `budget` are returned where no strategy finds
    more, or only near-duplicates (Jaccard of word 3-shingles of `near_duplicate` or more). The order of `candidates`
    does not matter. A random draw that nearly repeats a pick is drawn again: in a pool full of copies the propensity is
    a little too low.

    `installed` are the plugins that `shares` may name; they pick after the built-in strategies that rank. `full` gives
    candidates their text and policy where they have none yet; plugins score them as they are. Diversity compares
    `vectors` where there are any, and else wording.

    Raises ValueError for an unknown strategy, no positive share, a negative number, or a sample that occurs twice,
    PluginError for a plugin that fails.
    """
    quotas = split_budget(budget, shares, picking_order(installed))
    batch = _Batch(candidates, near_duplicate, installed, full, vectors)
    rest = 0
    # Two passes: what the last strategies could not use goes back to the first.
    for reason, quota in [*quotas.items(), *((reason, 0) for reason in quotas)]:
        if not (want := quota + rest):
            continue
        left = batch.left()
        if reason == "random":
            order: Iterator[tuple[Candidate, float]] = ((left[int(at)], 0.0) for at in rng.permutation(len(left)))
        elif reason == "diversity":
            order = _most_diverse(batch, left, want, rng)
        elif reason in installed:
            order = _best_first(left, _scored(reason, installed[reason], left, int(rng.integers(2**31))))
        else:
            order = _best_first(left, np.array(batch.built_in[reason].score(left, 0), dtype=np.float64))
        rest = want - batch.take(reason, order, want, len(left))
    return batch.picks


def picking_order(installed: Iterable[str]) -> tuple[str, ...]:
    """Return all strategies in the order in which they pick, with the plugins among those that rank."""
    return (*RANKED, *sorted(installed), *ORDER[len(RANKED) :])


def split_budget(budget: int, shares: Mapping[str, float], order: Sequence[str] = ORDER) -> dict[str, int]:
    """Split the budget over the strategies with a positive share, by largest remainder, in picking order.

    Raises ValueError for an unknown strategy, no positive share, or a negative number.
    """
    if unknown := sorted(set(shares) - set(order)):
        raise ValueError(f"unknown strategy {unknown[0]!r}: choose one of {', '.join(order)}")
    if budget < 0 or any(share < 0 for share in shares.values()):
        raise ValueError("the budget and the shares must not be negative")
    named = [reason for reason in order if shares.get(reason, 0) > 0]
    if not named:
        raise ValueError(f"no strategy has a share above 0: give one of {', '.join(order)}")
    total = sum(shares[reason] for reason in named)
    exact = {reason: budget * shares[reason] / total for reason in named}
    quotas = {reason: int(part) for reason, part in exact.items()}
    by_remainder = sorted(named, key=lambda reason: (quotas[reason] - exact[reason], order.index(reason)))
    for reason in by_remainder[: budget - sum(quotas.values())]:
        quotas[reason] += 1
    return quotas


class _Batch:
    """The picks so far and the remaining candidates."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        near_duplicate: float,
        installed: Mapping[str, SelectionStrategy],
        full: Full,
        vectors: Vectors,
    ) -> None:
        self._pool = sorted(candidates, key=lambda one: one.sample_id)
        for one, following in zip(self._pool, self._pool[1:], strict=False):
            if one.sample_id == following.sample_id:
                raise ValueError(f"sample {one.sample_id} occurs twice among the candidates")
        self.built_in = {name: make(self._pool) for name, make in RANKED.items()}
        self._installed, self.full, self._vectors = installed, full, vectors
        self._gone: set[int] = set()
        self.near = NearDuplicates(near_duplicate)
        self._fingerprints: list[Fingerprint] = []
        self.policies: Counter[str | None] = Counter()
        self.picks: list[Pick] = []
        self._picked: list[Candidate] = []
        self._by_vectors = False

    def left(self) -> list[Candidate]:
        """Return the candidates that were not tried yet, by sample id."""
        return [one for one in self._pool if one.sample_id not in self._gone]

    def take(self, reason: str, order: Iterator[tuple[Candidate, float]], want: int, left: int) -> int:
        """Pick from `order` until `want` are picked or it ends; return the number picked."""
        before = len(self.picks)
        while len(self.picks) - before < want and (ranked := next(order, None)) is not None:
            self._try(reason, *ranked, left)
        taken = len(self.picks) - before
        if reason == "random":
            chance = taken / left if left else 0.0
            self.picks[before:] = [replace(pick, score=chance, propensity=chance) for pick in self.picks[before:]]
        return taken

    def _try(self, reason: str, one: Candidate, score: float, left: int) -> None:
        """Pick the candidate unless it nearly repeats a pick; either way it is not tried again."""
        self._gone.add(one.sample_id)
        [one] = self.full([one])
        fingerprint = self.near.fingerprint(one.text)
        if self.near.find(fingerprint) is not None:
            return
        self.near.add(fingerprint)
        self._fingerprints.append(fingerprint)
        self._picked.append(one)
        self.policies[one.policy] += 1
        told = self._words(reason, one, score, left)
        self.picks.append(Pick(one.sample_id, reason, score, len(self.picks) + 1, None, told))

    def likeness(self, listed: Sequence[Candidate]) -> Callable[[int], NDArray[np.float64]]:
        """Return a function that says how alike pick number i is to each of the listed, 0..1.

        That is the cosine of vectors, standardized by the listed ones, or without vectors the Jaccard of wordings.
        """
        vectors = self._vectors(listed)
        self._by_vectors = vectors is not None
        if vectors is None:
            values = np.stack([self.near.fingerprint(one.text).values for one in listed])
            return lambda number: (values == self._fingerprints[number].values).mean(axis=1)
        known = vectors.astype(np.float32)
        center, scale = known.mean(axis=0), np.maximum(known.std(axis=0), 1e-3)
        units = _units((known - center) / scale)

        def of_pick(number: int) -> NDArray[np.float64]:
            vector = self._vectors([self._picked[number]])
            assert vector is not None
            unit = _units((vector.astype(np.float32) - center) / scale)[0]
            return np.asarray(np.clip(units @ unit, 0, 1), np.float64)

        return of_pick

    def _words(self, reason: str, one: Candidate, score: float, left: int) -> str:
        if reason in self.built_in:
            return self.built_in[reason].explain(one, score)
        if reason not in self._installed:
            return words(reason, one, score, left, by_vectors=self._by_vectors)
        with blamed("strategy", reason):
            return str(self._installed[reason].explain(one, score))


def _scored(name: str, strategy: SelectionStrategy, left: Sequence[Candidate], seed: int) -> Scores:
    """Return one score per candidate from a plugin, NaN for None. Raises PluginError for anything else."""
    with blamed("strategy", name):
        given = [np.nan if score is None else float(score) for score in strategy.score(left, seed)]
        if len(given) != len(left) or np.isinf(given).any():
            raise ValueError(f"it must give {len(left)} finite scores or None, and gave {len(given)}")
        return np.array(given, dtype=np.float64)


def _best_first(left: Sequence[Candidate], scores: Scores) -> Iterator[tuple[Candidate, float]]:
    """Yield the candidates that a strategy scores, highest first, ties by sample id."""
    for at in np.argsort(-scores, kind="stable"):
        if np.isnan(scores[at]):
            return
        yield left[int(at)], float(scores[at])


def _most_diverse(
    batch: _Batch, left: Sequence[Candidate], want: int, rng: np.random.Generator
) -> Iterator[tuple[Candidate, float]]:
    """Yield candidates of a random shortlist: always the least similar to the picks, from the least picked policy."""
    listed = _shortlist(batch, left, SHORTLIST * want, rng)
    if not listed:
        return
    to_pick = batch.likeness(listed)
    likeness, seen, open_ = np.zeros(len(listed)), 0, np.ones(len(listed), dtype=bool)
    while open_.any():
        for number in range(seen, len(batch.picks)):
            likeness = np.maximum(likeness, to_pick(number))
        seen = len(batch.picks)
        picked = np.array([batch.policies[one.policy] for one in listed])
        at = int(np.lexsort((likeness, picked, ~open_))[0])
        open_[at] = False
        yield listed[at], float(1 - likeness[at])


def _units(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the rows with norm 1."""
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6))


def _shortlist(batch: _Batch, left: Sequence[Candidate], size: int, rng: np.random.Generator) -> list[Candidate]:
    """Draw at most `size` candidates at random, spread evenly over the policies; return them by sample id."""
    shuffled = list(batch.full([left[int(at)] for at in rng.permutation(len(left))[: SPREAD * size]]))
    turn: Counter[str | None] = Counter()
    turns = []
    for one in shuffled:
        turns.append(turn[one.policy])
        turn[one.policy] += 1
    shuffled = [shuffled[int(at)] for at in np.argsort(turns, kind="stable")]
    return sorted(shuffled[:size], key=lambda one: one.sample_id)
