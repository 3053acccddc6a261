"""Further ways of choosing, from the literature, as strategies that wizloop could install: BADGE, TypiClust and others.

Each sees the features and the labels so far (`Known`), which a plugin of a night does not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wizloop.loop.measures import committee
from wizloop.plugins import Candidate, SelectionStrategy


@dataclass(frozen=True)
class Known:
    """What is known when a batch is picked."""

    X: Any
    y: np.ndarray
    labeled: np.ndarray
    p: np.ndarray
    """The learner's P(harmful) of all rows."""
    strength: float
    seed: int

    def votes(self, rows: np.ndarray, copies: int = committee.COPIES) -> np.ndarray:
        """Return the committee's probabilities, of shape (copies, rows)."""
        seed = self.seed * 1000 + len(self.labeled)
        found = committee.fit(self.X[self.labeled], self.y[self.labeled], seed=seed, copies=copies)
        return np.zeros((1, len(rows))) if found is None else found.p(self.X[rows])

    def disagreement(self, rows: np.ndarray) -> np.ndarray:
        """Return the committee's spread."""
        return committee.spread(self.votes(rows))


class Further(SelectionStrategy):
    """A strategy that knows the features."""

    def __init__(self, known: Known) -> None:
        self.known = known

    def score(self, candidates: Sequence[Candidate], seed: int) -> Sequence[float | None]:
        rows = np.array([one.sample_id for one in candidates])
        return [float(one) for one in self.scores(rows, np.random.default_rng(seed))]

    def scores(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        raise NotImplementedError


class Bald(Further):
    """Mutual information of a copy and the label (Houlsby et al. 2011), by the committee."""

    def scores(self, rows, rng):
        p = self.known.votes(rows)
        return _entropy(p.mean(axis=0)) - _entropy(p).mean(axis=0)


class Epig(Further):
    """Expected predictive information gain on the pool (Bickford Smith et al. 2023), by 32 copies."""

    def scores(self, rows, rng):
        votes = self.known.votes(rows, copies=32).astype(np.float64)
        targets = votes[:, rng.permutation(len(rows))[:500]]
        joint = votes.T @ targets / len(votes)
        p, q = votes.mean(axis=0)[:, None], targets.mean(axis=0)[None, :]
        both = (joint, p - joint, q - joint, 1 - p - q + joint)
        apart = (p * q, p * (1 - q), (1 - p) * q, (1 - p) * (1 - q))
        cells = [(np.clip(a, 1e-12, 1), np.clip(b, 1e-12, 1)) for a, b in zip(both, apart, strict=True)]
        return sum(a * np.log(a / b) for a, b in cells).mean(axis=1)


class Greedy(Further):
    """The likeliest harmful first: relevance sampling, as document review has it."""

    def scores(self, rows, rng):
        return self.known.p[rows]


class Badge(Further):
    """k-means++ on gradient embeddings (Ash et al. 2020), of the linear head."""

    def scores(self, rows, rng):
        p = self.known.p[rows]
        X = self.known.X[rows].multiply((p - (p > 0.5))[:, None]).tocsr()
        return _in_order(_plus_plus(X, min(len(rows), 200), rng), len(rows))


class TypiClust(Further):
    """The most typical sample of each cluster that has the fewest labels (Hacohen et al. 2022)."""

    def scores(self, rows, rng):
        from sklearn.cluster import KMeans
        from sklearn.decomposition import TruncatedSVD
        from sklearn.neighbors import NearestNeighbors

        seed, every = int(rng.integers(2**31)), np.concatenate([self.known.labeled, rows])
        few, begun = TruncatedSVD(64, random_state=seed).fit_transform(self.known.X[every]), len(self.known.labeled)
        clusters = KMeans(min(begun + 100, len(every) // 2), n_init=1, random_state=seed).fit(few).labels_
        near = NearestNeighbors(n_neighbors=min(21, len(every))).fit(few).kneighbors(few)[0]
        typical = 1 / (near[:, 1:].mean(axis=1) + 1e-6)
        size, taken = np.bincount(clusters), np.bincount(clusters[:begun], minlength=clusters.max() + 1)
        order, open_ = [], set(range(begun, len(every)))
        while open_ and len(order) < 200:
            inside = sorted({int(clusters[at]) for at in open_})
            best = min(inside, key=lambda one: (taken[one], -size[one]))
            at = max((one for one in open_ if clusters[one] == best), key=lambda one: typical[one])
            open_.remove(at)
            taken[best] += 1
            order.append(at - begun)
        return _in_order(order, len(rows))


FURTHER: dict[str, Callable[[Known], SelectionStrategy]] = {
    "epig": Epig,
    "greedy": Greedy,
    "badge": Badge,
    "bald": Bald,
    "typiclust": TypiClust,
}


def _entropy(p: np.ndarray) -> np.ndarray:
    p = np.clip(p.astype(np.float64), 1e-9, 1 - 1e-9)
    return -p * np.log(p) - (1 - p) * np.log(1 - p)


def _plus_plus(X: Any, n: int, rng: np.random.Generator) -> list[int]:
    """Return n rows by k-means++, the longest first."""
    norms = np.asarray(X.multiply(X).sum(axis=1)).ravel()
    picked = [int(np.argmax(norms))]
    apart = np.full(len(norms), np.inf)
    while len(picked) < n:
        last = picked[-1]
        apart = np.minimum(apart, np.maximum(norms + norms[last] - 2 * (X @ X[last].T).toarray().ravel(), 0))
        apart[picked] = 0
        if not apart.sum():
            break
        picked.append(int(rng.choice(len(norms), p=apart / apart.sum())))
    return picked


def _in_order(order: Sequence[int], n: int) -> np.ndarray:
    found = -np.arange(1, n + 1, dtype=float) - n
    found[list(order)] = -np.arange(len(order))
    return found
