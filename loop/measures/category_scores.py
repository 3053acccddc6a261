"""Scores of the categories that a guard names, with 95 % intervals: each one's F1, their macro-F1, and exact matches.

A category's F1 is that of "the text is in it" over all rows. An undefined figure is None, never 0.
"""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wizloop.loop.measures.metrics import best_threshold, f1_of, outcome_rows, ratio, score, wilson
from wizloop.loop.measures.promotion import Difference
from wizloop.loop.measures.resampling import cluster_sums, percentile_interval, resampled_sums

IN, OUT = "in", "out"
_KEPT = ("tp", "fp", "fn", "tn", "f1", "f1_low", "f1_high", "precision", "recall", "average_precision")
Categories = Sequence[AbstractSet[str]]
"""The categories of each row."""
Named = Sequence[AbstractSet[str] | None]
"""Those that a guard names; None where its answer cannot be read."""


def score_categories(
    names: Sequence[str],
    truth: Categories,
    named: Named,
    probabilities: Sequence[Mapping[str, float]],
    *,
    clusters: Sequence[str],
    rng: np.random.Generator,
    resamples: int = 1000,
) -> dict[str, Any]:
    """Return n, unparsed, exact, macro_f1, their intervals, and the figures of each category under `by_category`.

    A row whose answer cannot be read (None) is never an exact match, and names nothing. Macro-F1 is the mean over the
    categories that occur in the truth. Raises ValueError for lists of different lengths.
    """
    if not len(truth) == len(named) == len(probabilities) == len(clusters):
        raise ValueError("truth, named, probabilities and clusters must have the same length")
    answers = [frozenset() if one is None else one for one in named]
    exact = sum(said is not None and set(said) == set(known) for said, known in zip(named, truth, strict=True))
    low, high = wilson(exact, len(truth))
    by_category = {}
    for name in names:
        found = score(
            _words(truth, name),
            _words(answers, name),
            [p.get(name) for p in probabilities],
            positive=IN,
            clusters=clusters,
            rng=rng,
            resamples=resamples,
        )
        by_category[name] = {"n": found.tp + found.fn, **{key: getattr(found, key) for key in _KEPT}}
    return {
        "n": len(truth),
        "unparsed": sum(one is None for one in named),
        "exact": exact / len(truth) if truth else None,
        "exact_low": low,
        "exact_high": high,
        **_macro(names, truth, answers, clusters, rng, resamples),
        "by_category": by_category,
    }


def compare_categories(
    names: Sequence[str],
    truth: Categories,
    theirs: Named,
    ours: Named,
    *,
    clusters: Sequence[str],
    rng: np.random.Generator,
    resamples: int = 4000,
) -> dict[str, Difference]:
    """Compare two guards on the same rows, by paired bootstrap over prompts; `ours` is the challenger.

    Returns category_macro_f1, category_exact and category.NAME of each category. Raises ValueError for lists of
    different lengths.
    """
    if not len(truth) == len(theirs) == len(ours) == len(clusters):
        raise ValueError("truth, theirs, ours and clusters must have the same length")
    sums = cluster_sums(np.concatenate([_counted(names, truth, each) for each in (theirs, ours)], axis=1), clusters)
    drawn = resampled_sums(sums, resamples, rng) if len(sums) > 1 else sums[:0]
    point, draws = (each.reshape(-1, 2, 4 * len(names) + 2) for each in (sums.sum(axis=0), drawn))
    of_names = {name: slice(4 * at, 4 * at + 4) for at, name in enumerate(names)}
    there = [at for name in names if _occurs(name, truth) for at in range(of_names[name].start, of_names[name].stop)]
    measures: dict[str, Callable[[NDArray[np.int64]], NDArray[np.float64]]] = {
        "category_macro_f1": lambda counts: (
            _mean_f1(counts[..., there]) if there else np.full(counts.shape[:2], np.nan)
        ),
        "category_exact": lambda counts: ratio(counts[..., -2], counts[..., -1]),
    }
    found = {name: _difference(measure(point), measure(draws)) for name, measure in measures.items()}
    return found | {
        f"category.{name}": _difference(f1_of(point[..., at]), f1_of(draws[..., at])) for name, at in of_names.items()
    }


def _counted(names: Sequence[str], truth: Categories, named: Named) -> NDArray[np.int64]:
    """Return (tp, fp, fn, tn) of each category, and (exact match, 1), for each row."""
    answers = [frozenset() if one is None else one for one in named]
    exact = [[int(said is not None and set(said) == set(known)), 1] for said, known in zip(named, truth, strict=True)]
    blocks = [outcome_rows(_words(truth, name), _words(answers, name), IN) for name in names]
    return np.concatenate([*blocks, np.array(exact, dtype=np.int64).reshape(-1, 2)], axis=1)


def _difference(point: NDArray[np.float64], draws: NDArray[np.float64]) -> Difference:
    """Compare values of both guards, (1, 2) measured and (resamples, 2) drawn."""
    theirs, ours = (None if np.isnan(value) else float(value) for value in point[0])
    if theirs is None or ours is None:
        return Difference(theirs, ours, None, None, None)
    return Difference(theirs, ours, ours - theirs, *percentile_interval(draws[:, 1] - draws[:, 0]))


def thresholds(
    names: Sequence[str], truth: Categories, probabilities: Sequence[Mapping[str, float]]
) -> dict[str, float]:
    """Return the probability from which each category is named, best on these rows.

    A category without rows in it, or without others, is left out. Only rows that were asked about count: of one that is
    let through, the guard says nothing.
    """
    found = {}
    for name in names:
        rows = [(name in known, p[name]) for known, p in zip(truth, probabilities, strict=True) if any(p.values())]
        if len({known for known, _ in rows}) == 2:
            found[name] = best_threshold([float(known) for known, _ in rows], [p for _, p in rows])
    return found


def _words(rows: Categories, name: str) -> list[str]:
    return [IN if name in row else OUT for row in rows]


def _macro(
    names: Sequence[str],
    truth: Categories,
    answers: Categories,
    clusters: Sequence[str],
    rng: np.random.Generator,
    resamples: int,
) -> dict[str, float | None]:
    """Return macro-F1 with its interval, by bootstrap over prompts: every category on the same draws."""
    blocks = [outcome_rows(_words(truth, name), _words(answers, name), IN) for name in names if _occurs(name, truth)]
    if not blocks:
        return dict.fromkeys(("macro_f1", "macro_f1_low", "macro_f1_high"))
    sums = cluster_sums(np.concatenate(blocks, axis=1), clusters)
    draws = resampled_sums(sums, resamples, rng) if len(sums) > 1 else sums[:0]
    low, high = percentile_interval(_mean_f1(draws))
    return {"macro_f1": float(_mean_f1(sums.sum(axis=0))), "macro_f1_low": low, "macro_f1_high": high}


def _occurs(name: str, truth: Categories) -> bool:
    return any(name in known for known in truth)


def _mean_f1(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean F1 of categories with counts (..., 4 each); a draw without any row of one leaves that one out."""
    each = f1_of(counts.reshape(*counts.shape[:-1], -1, 4))
    defined = ~np.isnan(each)
    mean: NDArray[np.float64] = np.where(defined, each, 0.0).sum(axis=-1) / np.maximum(defined.sum(axis=-1), 1)
    return mean
