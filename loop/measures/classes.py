"""Scores of a task with more than two labels: each label's F1, their mean, and the share of exact verdicts.

What only knows positive and negative (thresholds, ranking, F1 of the positive label) holds the first label against all
others: see `against_rest`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wizloop.loop.measures.resampling import Counts, cluster_sums, percentile_interval, resampled_sums

REST = ""
"""In place of every label but the positive one."""


@dataclass(frozen=True)
class LabelScore:
    """One label against all others; figures are fractions, None where undefined."""

    n: int
    """Rows that have this label."""
    f1: float | None
    f1_low: float | None
    """95 % interval by bootstrap over prompts."""
    f1_high: float | None
    precision: float | None
    recall: float | None


@dataclass(frozen=True)
class MacroF1:
    """The mean of all labels' F1 with its interval; None unless every label occurs in the truth."""

    value: float | None
    low: float | None
    high: float | None


def against_rest(values: Sequence[str | None], positive: str) -> list[str | None]:
    """Return labels or verdicts as positive, REST or unparsed (None)."""
    return [value if value is None or value == positive else REST for value in values]


def class_rows(labels: Sequence[str], verdicts: Sequence[str | None], classes: Sequence[str]) -> Counts:
    """Return one row of (tp, fp, fn) of each class per sample: (n, 3 x classes).

    A sample without a verdict is an error of its own label only.
    """
    truth = np.array([[label == one for one in classes] for label in labels], dtype=bool).reshape(-1, len(classes))
    said = np.array([[verdict == one for one in classes] for verdict in verdicts], dtype=bool).reshape(truth.shape)
    rows = np.stack([truth & said, ~truth & said, truth & ~said], axis=-1)
    return rows.reshape(len(truth), -1).astype(np.int64)


def f1_by_class(counts: Counts) -> NDArray[np.float64]:
    """Return F1 of each class for counts (…, 3 x classes): (…, classes); NaN for a class that never occurs."""
    tp, fp, fn = np.moveaxis(counts.reshape(*counts.shape[:-1], -1, 3), -1, 0)
    whole = 2 * tp + fp + fn
    found = np.full(whole.shape, np.nan)
    np.divide(2 * tp, whole, out=found, where=whole > 0)
    return found


def macro_f1_by_class(counts: Counts) -> NDArray[np.float64]:
    """Return the mean F1 of all classes for counts (…, 3 x classes); NaN unless each occurs in the truth."""
    tp, _, fn = np.moveaxis(counts.reshape(*counts.shape[:-1], -1, 3), -1, 0)
    return np.where((tp + fn > 0).all(axis=-1), f1_by_class(counts).mean(axis=-1), np.nan)


def score_classes(
    labels: Sequence[str],
    verdicts: Sequence[str | None],
    classes: Sequence[str],
    *,
    clusters: Sequence[str],
    rng: np.random.Generator,
    resamples: int = 1000,
) -> tuple[MacroF1, dict[str, LabelScore]]:
    """Score each class, and all of them; `clusters` names each sample's prompt."""
    sums = cluster_sums(class_rows(labels, verdicts, classes), clusters)
    draws = resampled_sums(sums, resamples, rng) if len(sums) > 1 else sums[:0]
    total = sums.sum(axis=0)
    f1, drawn = f1_by_class(total), f1_by_class(draws)
    by_label = {
        label: _label_score(total[3 * at : 3 * at + 3], f1[at], drawn[:, at]) for at, label in enumerate(classes)
    }
    return MacroF1(_known(macro_f1_by_class(total)), *percentile_interval(macro_f1_by_class(draws))), by_label


def exact(labels: Sequence[str], verdicts: Sequence[str | None]) -> int:
    """Count the verdicts that are the label itself."""
    return sum(label == verdict for label, verdict in zip(labels, verdicts, strict=True))


def _label_score(counts: Counts, f1: float, draws: NDArray[np.float64]) -> LabelScore:
    tp, fp, fn = (int(count) for count in counts)
    precision, recall = (tp / whole if whole else None for whole in (tp + fp, tp + fn))
    return LabelScore(tp + fn, _known(f1), *percentile_interval(draws), precision, recall)


def _known(value: float | NDArray[np.float64]) -> float | None:
    return None if np.isnan(value) else float(value)
