"""Scores of verdicts against labels, with 95 % intervals: pure functions of labels, verdicts and probabilities.

Nothing here parses a trace or reads a store. What is undefined is None, never 0: a set with no negative row has no
false-positive rate.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wizloop.loop.measures.resampling import Counts, cluster_sums, percentile_interval, resampled_sums

Z95 = 1.959963984540054


@dataclass(frozen=True)
class Score:
    """How one task's verdicts fared. Rates are fractions in 0..1; an interval is 95 %."""

    n: int
    unparsed: int
    """Rows without a verdict; each is counted once, as wrong."""
    unparsed_low: float | None
    """Of the share of unparsed rows. Intervals of rates are Wilson's, which takes rows as independent."""
    unparsed_high: float | None
    tp: int
    fp: int
    fn: int
    tn: int
    precision: float | None
    precision_low: float | None
    precision_high: float | None
    recall: float | None
    recall_low: float | None
    recall_high: float | None
    f1: float | None
    """F1 of the positive label."""
    f1_low: float | None
    """Bootstrap over prompts; a set of fewer than two prompts has no interval."""
    f1_high: float | None
    macro_f1: float | None
    """Plain mean of the F1 of both labels; None unless both occur in the truth."""
    macro_f1_low: float | None
    macro_f1_high: float | None
    accuracy: float | None
    accuracy_low: float | None
    accuracy_high: float | None
    fpr: float | None
    """Share of the truly negative rows that were not let through (over-refusal, where the task is `request`)."""
    fpr_low: float | None
    fpr_high: float | None
    with_probability: int
    """Rows that the four figures below are measured on."""
    ece: float | None
    brier: float | None
    auroc: float | None
    average_precision: float | None


def wilson(k: int, n: int) -> tuple[float, float] | tuple[None, None]:
    """Wilson's 95 % interval of k successes in n trials, as fractions; (None, None) for n = 0."""
    if not 0 <= k <= n:
        raise ValueError(f"wilson: {k} successes in {n} trials")
    if n == 0:
        return None, None
    centre = (k + Z95**2 / 2) / (n + Z95**2)
    half = Z95 / (n + Z95**2) * (k * (n - k) / n + Z95**2 / 4) ** 0.5
    # At the ends the formula is 0 and 1 but for rounding.
    return 0.0 if k == 0 else centre - half, 1.0 if k == n else centre + half


def outcome_rows(labels: Sequence[str], verdicts: Sequence[str | None], positive: str) -> Counts:
    """One row of (tp, fp, fn, tn) per sample. No verdict, or a foreign word, is wrong: fn or fp by the label."""
    if len(labels) != len(verdicts):
        raise ValueError(f"{len(labels)} labels and {len(verdicts)} verdicts: each sample needs one of both")
    rows = np.zeros((len(labels), 4), dtype=np.int64)
    truth = np.array([label == positive for label in labels], dtype=bool)
    right = np.array([label == verdict for label, verdict in zip(labels, verdicts, strict=True)], dtype=bool)
    rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3] = truth & right, ~truth & ~right, truth & ~right, ~truth & right
    return rows


def f1_of(counts: Counts) -> NDArray[np.float64]:
    """F1 of the positive label for counts (…, 4) as of `outcome_rows`; NaN where no row is or was called positive."""
    tp, fp, fn, _ = np.moveaxis(counts, -1, 0)
    return _ratio(2 * tp, 2 * tp + fp + fn)


def macro_f1_of(counts: Counts) -> NDArray[np.float64]:
    """Mean F1 of both labels for counts (…, 4); NaN unless both labels occur in the truth."""
    tp, fp, fn, tn = np.moveaxis(counts, -1, 0)
    both = (tp + fn > 0) & (fp + tn > 0)
    return np.where(both, (f1_of(counts) + f1_of(counts[..., ::-1])) / 2, np.nan)


def fpr_of(counts: Counts) -> NDArray[np.float64]:
    """False-positive rate for counts (…, 4); NaN without a negative row."""
    _, fp, _, tn = np.moveaxis(counts, -1, 0)
    return _ratio(fp, fp + tn)


def score(
    labels: Sequence[str],
    verdicts: Sequence[str | None],
    probabilities: Sequence[float | None],
    *,
    positive: str,
    clusters: Sequence[str],
    rng: np.random.Generator,
    resamples: int = 1000,
) -> Score:
    """Score one task, strictly: a sample without a verdict counts once, as wrong.

    `probabilities` are P(positive) in 0..1, None where there is none; `clusters` names each sample's prompt. Raises
    ValueError where the four do not have the same length or a probability is outside 0..1.
    """
    if not len(labels) == len(verdicts) == len(probabilities) == len(clusters):
        raise ValueError("labels, verdicts, probabilities and clusters must have the same length")
    rows = outcome_rows(labels, verdicts, positive)
    counts = rows.sum(axis=0)
    tp, fp, fn, tn = (int(count) for count in counts)
    sums = cluster_sums(rows, clusters)
    draws = resampled_sums(sums, resamples, rng) if len(sums) > 1 else sums[:0]
    f1_low, f1_high = percentile_interval(f1_of(draws))
    macro_f1_low, macro_f1_high = percentile_interval(macro_f1_of(draws))
    unparsed = sum(verdict is None for verdict in verdicts)
    unparsed_low, unparsed_high = wilson(unparsed, len(labels))
    precision_low, precision_high = wilson(tp, tp + fp)
    recall_low, recall_high = wilson(tp, tp + fn)
    accuracy_low, accuracy_high = wilson(tp + tn, len(labels))
    fpr_low, fpr_high = wilson(fp, fp + tn)
    truth = [int(label == positive) for label, p in zip(labels, probabilities, strict=True) if p is not None]
    given = [p for p in probabilities if p is not None]
    brier, auroc, average_precision = _ranking(truth, given)
    return Score(
        n=len(labels),
        unparsed=unparsed,
        unparsed_low=unparsed_low,
        unparsed_high=unparsed_high,
        tp=tp,
        fp=fp,
        fn=fn,
        tn=tn,
        precision=tp / (tp + fp) if tp + fp else None,
        precision_low=precision_low,
        precision_high=precision_high,
        recall=tp / (tp + fn) if tp + fn else None,
        recall_low=recall_low,
        recall_high=recall_high,
        f1=_defined(f1_of(counts)),
        f1_low=f1_low,
        f1_high=f1_high,
        macro_f1=_defined(macro_f1_of(counts)),
        macro_f1_low=macro_f1_low,
        macro_f1_high=macro_f1_high,
        accuracy=(tp + tn) / len(labels) if len(labels) else None,
        accuracy_low=accuracy_low,
        accuracy_high=accuracy_high,
        fpr=_defined(fpr_of(counts)),
        fpr_low=fpr_low,
        fpr_high=fpr_high,
        with_probability=len(given),
        ece=ece(truth, given),
        brier=brier,
        auroc=auroc,
        average_precision=average_precision,
    )


def ece(labels01: Sequence[int], probabilities: Sequence[float], *, bins: int = 10) -> float | None:
    """Expected calibration error of P(positive) over `bins` equal widths; None for no rows (Guo et al. 2017, eq. 3).

    A bin holds its upper edge, not its lower one; the first holds both.
    """
    if not len(labels01):
        return None
    truth, p = _checked(labels01, probabilities)
    place = np.clip(np.ceil(p * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(place, weights=truth - p, minlength=bins)
    return float(np.abs(gaps).sum() / len(p))


def best_threshold(positive: Sequence[float], probabilities: Sequence[float]) -> float:
    """The threshold t in (0, 1) with the best macro-F1 of `probability >= t`: midway between neighbouring scores.

    `positive` is 1 or 0 for each row, or how likely it is positive: then the sums are those to be expected. Macro-F1 is
    the mean F1 of both labels, as the gate compares it: the positive label's alone is at its best near "always" where
    both labels are about as frequent. Of equally good cuts it takes the widest gap, then the one nearest to 0.5, then
    the lower. Raises ValueError where a class is missing: nothing can be chosen from one class.
    """
    truth, p = _checked(positive, probabilities)
    if not 0 < truth.sum() < len(truth):
        raise ValueError("a threshold needs rows of both classes: give dev samples of the missing one")
    edges = np.unique(np.concatenate([[0.0], p, [1.0]]))
    cuts = (edges[:-1] + edges[1:]) / 2
    # Two neighbouring floats have no midpoint between them.
    apart = (edges[:-1] < cuts) & (cuts < 1)
    cuts, gaps = cuts[apart], np.diff(edges)[apart]
    order = np.argsort(p, kind="stable")
    below = np.searchsorted(p[order], cuts)
    hits_below = np.concatenate([[0], np.cumsum(truth[order])])[below]
    of_positive = 2 * (truth.sum() - hits_below) / (len(p) - below + truth.sum())
    of_negative = 2 * (below - hits_below) / (below + len(p) - truth.sum())
    return float(cuts[np.lexsort((cuts, np.abs(cuts - 0.5), -gaps, -(of_positive + of_negative)))[0]])


def _ranking(truth: Sequence[int], given: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """Brier score, AUROC and average precision, each None where it is undefined."""
    if not truth:
        return None, None, None
    from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

    brier = float(brier_score_loss(truth, given, pos_label=1))
    if len(set(truth)) < 2:
        return brier, None, None
    return brier, float(roc_auc_score(truth, given)), float(average_precision_score(truth, given))


def _checked(
    labels01: Sequence[float], probabilities: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both as arrays of floats. Raises ValueError for lengths that differ or a probability outside 0..1."""
    truth, p = np.asarray(labels01, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    if truth.shape != p.shape:
        raise ValueError(f"{len(truth)} labels and {len(p)} probabilities: each row needs one of both")
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("a probability is outside 0..1")
    return truth, p


def _ratio(part: Counts, whole: Counts) -> NDArray[np.float64]:
    """part / whole as floats, NaN where the whole is 0."""
    ratio = np.full(np.shape(whole), np.nan)
    np.divide(part, whole, out=ratio, where=np.asarray(whole) > 0)
    return ratio


def _defined(value: NDArray[np.float64]) -> float | None:
    """A scalar array as a float, or None for NaN."""
    return None if np.isnan(value) else float(value)
