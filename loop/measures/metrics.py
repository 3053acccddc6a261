"""Scores of verdicts against labels, with 95 % intervals: pure functions of labels, verdicts and probabilities.

An undefined figure is None, never 0: a set with no negative row has no false-positive rate.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wizloop.loop.measures.classes import LabelScore, against_rest, exact, score_classes
from wizloop.loop.measures.resampling import Counts, cluster_sums, percentile_interval, resampled_sums

Z95 = 1.959963984540054
FEW = 30
"""Prompts below which a bootstrap of F1 covers too rarely: 86 % at 7, 92 % at 13; Wilson's covers 95 and 97."""


@dataclass(frozen=True)
class Score:
    """The scores of one task. Rates are fractions in 0..1; intervals are 95 %."""

    n: int
    unparsed: int
    """Rows without a verdict; each counts once, as wrong."""
    unparsed_low: float | None
    """Interval of the share of unparsed rows. Intervals of rates are Wilson's, which treats rows as independent."""
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
    """By bootstrap over prompts. With few prompts, no hit or no error, Wilson's interval of tp / (tp + fp + fn)."""
    f1_high: float | None
    macro_f1: float | None
    """Unweighted mean F1 of both labels; None unless both occur in the truth."""
    macro_f1_low: float | None
    macro_f1_high: float | None
    accuracy: float | None
    accuracy_low: float | None
    accuracy_high: float | None
    fpr: float | None
    """Share of truly negative rows that were not let through (over-refusal for the task `request`)."""
    fpr_low: float | None
    fpr_high: float | None
    with_probability: int
    """Rows behind the four figures below."""
    ece: float | None
    brier: float | None
    auroc: float | None
    average_precision: float | None
    by_label: dict[str, LabelScore] = field(default_factory=dict)
    """Each label's scores, if there are more than two; macro-F1 and accuracy are then over all of them."""

    def to_json(self) -> dict[str, Any]:
        """Return the scores as JSON has them; no `by_label` of two labels."""
        return {name: value for name, value in asdict(self).items() if name != "by_label" or value}


def wilson(k: float, n: float) -> tuple[float, float] | tuple[None, None]:
    """Return Wilson's 95 % interval of k successes in n trials, as fractions; (None, None) for n = 0.

    Raises ValueError unless 0 <= k <= n.
    """
    if not 0 <= k <= n:
        raise ValueError(f"wilson: {k} successes in {n} trials")
    if n == 0:
        return None, None
    center = (k + Z95**2 / 2) / (n + Z95**2)
    half = Z95 / (n + Z95**2) * (k * (n - k) / n + Z95**2 / 4) ** 0.5
    # At the ends the formula is 0 and 1 but for rounding.
    return 0.0 if k == 0 else center - half, 1.0 if k == n else center + half


def outcome_rows(labels: Sequence[str], verdicts: Sequence[str | None], positive: str) -> Counts:
    """Return one row of (tp, fp, fn, tn) per sample: (n, 4).

    No verdict or an unknown word is wrong: fn or fp by the label. Raises ValueError for lists of different lengths.
    """
    if len(labels) != len(verdicts):
        raise ValueError(f"{len(labels)} labels and {len(verdicts)} verdicts: each sample needs one of both")
    rows = np.zeros((len(labels), 4), dtype=np.int64)
    truth = np.array([label == positive for label in labels], dtype=bool)
    right = np.array([label == verdict for label, verdict in zip(labels, verdicts, strict=True)], dtype=bool)
    rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3] = truth & right, ~truth & ~right, truth & ~right, ~truth & right
    return rows


def f1_of(counts: Counts) -> NDArray[np.float64]:
    """Return F1 of the positive label for counts (…, 4) of `outcome_rows`; NaN without a positive label or verdict."""
    tp, fp, fn, _ = np.moveaxis(counts, -1, 0)
    return ratio(2 * tp, 2 * tp + fp + fn)


def macro_f1_of(counts: Counts) -> NDArray[np.float64]:
    """Return the mean F1 of both labels for counts (…, 4); NaN unless both labels occur in the truth."""
    tp, fp, fn, tn = np.moveaxis(counts, -1, 0)
    both = (tp + fn > 0) & (fp + tn > 0)
    return np.where(both, (f1_of(counts) + f1_of(counts[..., ::-1])) / 2, np.nan)


def fpr_of(counts: Counts) -> NDArray[np.float64]:
    """Return the false-positive rate for counts (…, 4); NaN without a negative row."""
    _, fp, _, tn = np.moveaxis(counts, -1, 0)
    return ratio(fp, fp + tn)


def score(
    labels: Sequence[str],
    verdicts: Sequence[str | None],
    probabilities: Sequence[float | None],
    *,
    positive: str,
    clusters: Sequence[str],
    rng: np.random.Generator,
    resamples: int = 1000,
    classes: Sequence[str] = (),
) -> Score:
    """Score one task strictly: a sample without a verdict counts once, as wrong.

    `probabilities` are P(positive) in 0..1 or None; `clusters` names each sample's prompt; `classes` are the labels if
    there are more than two. Raises ValueError for lists of different lengths or a probability outside 0..1.
    """
    if not len(labels) == len(verdicts) == len(probabilities) == len(clusters):
        raise ValueError("labels, verdicts, probabilities and clusters must have the same length")
    together: dict[str, Any] = {}
    if classes:
        macro, by_label = score_classes(
            labels, verdicts, classes, clusters=clusters, rng=rng.spawn(1)[0], resamples=resamples
        )
        together = {"macro_f1": macro.value, "macro_f1_low": macro.low, "macro_f1_high": macro.high}
        together |= _with_interval("accuracy", exact(labels, verdicts), len(labels)) | {"by_label": by_label}
        labels, verdicts = [label or "" for label in against_rest(labels, positive)], against_rest(verdicts, positive)
    rows = outcome_rows(labels, verdicts, positive)
    counts = rows.sum(axis=0)
    tp, fp, fn, tn = (int(count) for count in counts)
    sums = cluster_sums(rows, clusters)
    draws = resampled_sums(sums, resamples, rng) if len(sums) > 1 else sums[:0]
    unparsed = sum(verdict is None for verdict in verdicts)
    truth = [int(label == positive) for label, p in zip(labels, probabilities, strict=True) if p is not None]
    given = [p for p in probabilities if p is not None]
    figures = {
        **_ranking(truth, given),
        **_bootstrapped("f1", f1_of(counts), f1_of(draws)) | _of_few("f1", sums),
        **_bootstrapped("macro_f1", macro_f1_of(counts), macro_f1_of(draws)) | _macro_of_few(sums),
        **_with_interval("precision", tp, tp + fp),
        **_with_interval("recall", tp, tp + fn),
        **_with_interval("accuracy", tp + tn, len(labels)),
        **_with_interval("fpr", fp, fp + tn),
        **_with_interval("unparsed", unparsed, len(labels)) | {"unparsed": unparsed},
        **together,
    }
    return Score(
        n=len(labels), tp=tp, fp=fp, fn=fn, tn=tn, with_probability=len(given), ece=ece(truth, given), **figures
    )


def ece(labels01: Sequence[int], probabilities: Sequence[float], *, bins: int = 10) -> float | None:
    """Return the expected calibration error of P(positive) over `bins` equal widths (Guo et al. 2017, eq. 3).

    A bin includes its upper edge, not its lower one; the first includes both. None for no rows.
    """
    if not len(labels01):
        return None
    truth, p = _checked(labels01, probabilities)
    place = np.clip(np.ceil(p * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(place, weights=truth - p, minlength=bins)
    return float(np.abs(gaps).sum() / len(p))


def best_threshold(positive: Sequence[float], probabilities: Sequence[float]) -> float:
    """Return the threshold t in (0, 1) with the best macro-F1 of `probability >= t`, midway between two scores.

    `positive` is 1 or 0 for each row, or its probability of being positive: then the counts are expected counts.
    Macro-F1 is the mean F1 of both labels, as the gate compares it; where both labels are about equally frequent, the
    positive label's F1 alone is best near "always". Ties go to the widest gap, then to the cut nearest to 0.5, then to
    the lower one. Raises ValueError where a class is missing.
    """
    truth, p = _checked(positive, probabilities)
    if not 0 < truth.sum() < len(truth):
        raise ValueError("a threshold needs rows of both classes: give dev samples of the missing one")
    edges = np.unique(np.concatenate([[0.0], p, [1.0]]))
    cuts = (edges[:-1] + edges[1:]) / 2
    # Two neighboring floats have no midpoint between them.
    apart = (edges[:-1] < cuts) & (cuts < 1)
    cuts, gaps = cuts[apart], np.diff(edges)[apart]
    order = np.argsort(p, kind="stable")
    below = np.searchsorted(p[order], cuts)
    hits_below = np.concatenate([[0], np.cumsum(truth[order])])[below]
    of_positive = 2 * (truth.sum() - hits_below) / (len(p) - below + truth.sum())
    of_negative = 2 * (below - hits_below) / (below + len(p) - truth.sum())
    return float(cuts[np.lexsort((cuts, np.abs(cuts - 0.5), -gaps, -(of_positive + of_negative)))[0]])


def ratio(part: Counts, whole: Counts) -> NDArray[np.float64]:
    """Return part / whole as floats, NaN where the whole is 0."""
    found = np.full(np.shape(whole), np.nan)
    np.divide(part, whole, out=found, where=np.asarray(whole) > 0)
    return found


def _with_interval(name: str, k: int, n: int) -> dict[str, Any]:
    """Return a rate, None for n = 0, with Wilson's interval, as fields of Score."""
    low, high = wilson(k, n)
    return {name: k / n if n else None, f"{name}_low": low, f"{name}_high": high}


def _bootstrapped(name: str, value: NDArray[np.float64], draws: NDArray[np.float64]) -> dict[str, Any]:
    """Return a figure, None for NaN, with its bootstrap interval, as fields of Score."""
    low, high = percentile_interval(draws)
    return {name: None if np.isnan(value) else float(value), f"{name}_low": low, f"{name}_high": high}


def _of_few(name: str, sums: Counts) -> dict[str, Any]:
    """Return F1's interval as fields of Score where a bootstrap over prompts says too little; else nothing.

    F1 is 2J / (1 + J), J = tp / (tp + fp + fn). J's interval is Wilson's over the prompts that have such rows, so that
    rows of one prompt count once.
    """
    tp, wrong = int(sums[:, 0].sum()), int(sums[:, 1:3].sum())
    prompts = int((sums[:, :3].sum(axis=1) > 0).sum())
    if not prompts or (prompts >= FEW and tp and wrong):
        return {}
    ends = (end for end in wilson(prompts * tp / (tp + wrong), prompts) if end is not None)
    low, high = (2 * end / (1 + end) for end in ends)
    return {f"{name}_low": low, f"{name}_high": high}


def _macro_of_few(sums: Counts) -> dict[str, Any]:
    """Return macro-F1's interval as the mean of both labels' intervals, where both are those of few prompts."""
    both = [_of_few("macro_f1", side) for side in (sums, sums[:, ::-1])]
    if not all(both) or np.isnan(macro_f1_of(sums.sum(axis=0))):
        return {}
    return {name: (both[0][name] + both[1][name]) / 2 for name in both[0]}


def _ranking(truth: Sequence[int], given: Sequence[float]) -> dict[str, Any]:
    """Return Brier score, AUROC and average precision, each None where undefined, as fields of Score."""
    figures: dict[str, Any] = dict.fromkeys(("brier", "auroc", "average_precision"))
    if not truth:
        return figures
    from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

    figures["brier"] = float(brier_score_loss(truth, given, pos_label=1))
    if len(set(truth)) > 1:
        figures["auroc"] = float(roc_auc_score(truth, given))
        figures["average_precision"] = float(average_precision_score(truth, given))
    return figures


def _checked(
    labels01: Sequence[float], probabilities: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both as float arrays. Raises ValueError for different lengths or a probability outside 0..1."""
    truth, p = np.asarray(labels01, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    if truth.shape != p.shape:
        raise ValueError(f"{len(truth)} labels and {len(p)} probabilities: each row needs one of both")
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("a probability is outside 0..1")
    return truth, p
