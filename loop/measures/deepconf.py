"""DeepConf (arXiv:2508.15260): how sure a trace was of its own tokens, and the votes weighted by it.

Pure arithmetic on log-probabilities that somebody else computed, from raw logits, before temperature and top-p. High
is sure. The values have no upper bound and depend on model, tokenizer and quantisation: never compare them across
models. Whether any of them knows right from wrong on this guard is for `uncertainty.choose_measure` to find out.
Where paper and released code differ: votes sum their weights (both formulas do; a figure averages), the consensus
stop of the paper is implemented here, and percentages name what is kept.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = Sequence[float] | NDArray[np.float64]


def token_confidence(topk_logprobs: Floats) -> float:
    """Return minus the mean log-probability (natural) of the k likeliest tokens of one position (section 2.1).

    The paper takes k = 20; a smaller vocabulary has fewer. Raises ValueError for no candidates or one that is masked
    (minus infinity) or not a number.
    """
    return float(token_confidences(np.asarray(topk_logprobs, dtype=np.float64)[np.newaxis])[0])


def token_confidences(topk_logprobs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the token confidence of each position: (n, k) log-probabilities to (n,)."""
    logprobs = np.asarray(topk_logprobs, dtype=np.float64)
    if logprobs.ndim != 2 or logprobs.shape[1] == 0 or not np.isfinite(logprobs).all():
        raise ValueError(
            f"top-k log-probabilities of shape {logprobs.shape} must be (tokens, k >= 1) and finite: "
            "take them from the raw logits, before any mask"
        )
    confidences: NDArray[np.float64] = -logprobs.mean(axis=1)
    return confidences


def entropy(probs: Floats) -> float:
    """Return the entropy in nats of a distribution (low is sure); a probability of 0 adds nothing."""
    p = np.asarray(probs, dtype=np.float64)
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def window_for(mean_tokens: float) -> int:
    """Return the group window in tokens for traces of `mean_tokens` on average: half of it, within 4 to 128.

    So 32 to 128 for traces of 64 to 256 tokens, and half of a shorter trace. The paper's 2048 never fills on a guard's
    traces, which would make every group measure the plain mean and the online cut never fire.
    """
    return int(min(128, max(4, mean_tokens / 2)))


def groups(confidences: Floats, window: int) -> NDArray[np.float64]:
    """Return the mean of each full window, one token apart: (n - window + 1,).

    A trace shorter than the window is one group, its mean; an empty trace is one group of 0.
    """
    _at_least_one("window", window)
    values = np.asarray(confidences, dtype=np.float64)
    if len(values) < window:
        return np.array([mean(values)])
    # No running sum: it would drift, and a group must have the same bits here and in OnlineGroup.
    means: NDArray[np.float64] = np.lib.stride_tricks.sliding_window_view(values, window).mean(axis=1)
    return means


def mean(confidences: Floats) -> float:
    """Return the mean over the whole trace, 0 for an empty one."""
    values = np.asarray(confidences, dtype=np.float64)
    return float(values.mean()) if len(values) else 0.0


def tail(confidences: Floats, n: int) -> float:
    """Return the mean over the last n tokens, or over all of a shorter trace."""
    _at_least_one("tail", n)
    return mean(np.asarray(confidences, dtype=np.float64)[-n:])


def lowest_group(confidences: Floats, window: int) -> float:
    """Return the smallest group confidence: the only measure that can be watched while a trace is written."""
    return float(groups(confidences, window).min())


def bottom_groups(confidences: Floats, window: int, fraction: float = 0.1) -> float:
    """Return the mean of the lowest `fraction` of all groups (rounded down, at least one group)."""
    return _bottom(groups(confidences, window), fraction)


@dataclass(frozen=True)
class Measures:
    """The four measures of one trace."""

    mean: float
    tail: float
    lowest: float
    bottom: float
    """Mean of the lowest tenth of the groups."""


def measures(confidences: Floats, *, window: int, tail: int) -> Measures:
    """Return all four measures of one trace; `window` and `tail` in tokens."""
    _at_least_one("tail", tail)
    values = np.asarray(confidences, dtype=np.float64)
    by_group = groups(values, window)
    return Measures(mean(values), mean(values[-tail:]), float(by_group.min()), _bottom(by_group, 0.1))


def top_filter(weights: Floats, keep_top_percent: float) -> tuple[float, NDArray[np.bool_]]:
    """Return the cut and which weights are kept (at or above it): the top eta percent of section 3.1.

    The cut is the (100 - eta)th percentile with linear interpolation. Raises ValueError for no weights.
    """
    if not 0 <= keep_top_percent <= 100:
        raise ValueError(f"keep_top_percent is {keep_top_percent}: give a percentage from 0 to 100")
    values = np.asarray(weights, dtype=np.float64)
    if not len(values):
        raise ValueError("no weights to filter: at least one trace must have an answer")
    cut = float(np.percentile(values, 100 - keep_top_percent))
    return cut, values >= cut


def stop_threshold(lowest_groups: Floats, keep_top_percent: float) -> float:
    """Return the group confidence below which further traces are cut, from the lowest groups of the warm-up traces.

    10 is DeepConf-low, the 90th percentile (strict); 90 is DeepConf-high, the 10th (lenient) (section 3.2).
    """
    return top_filter(lowest_groups, keep_top_percent)[0]


class OnlineGroup:
    """Watches one trace while it is written, and says when to cut it."""

    def __init__(self, window: int, threshold: float) -> None:
        _at_least_one("window", window)
        self.window = window
        self.threshold = threshold
        self._last: deque[float] = deque(maxlen=window)

    def push(self, confidence: float) -> bool:
        """Take the next token's confidence; True if the trace is to be cut here.

        Only a full window is judged, and a group exactly at the threshold goes on.
        """
        self._last.append(confidence)
        if len(self._last) < self.window:
            return False
        return float(np.array(self._last, dtype=np.float64).mean()) < self.threshold


@dataclass(frozen=True)
class Votes:
    """What the traces of one sample say on one task."""

    sums: Mapping[str, float]
    """Weight by answer, in the order of first appearance."""
    winner: str | None
    """None when no trace had an answer."""
    share: float
    """The winner's part of all weight (beta in the paper), 0 when there is no weight."""


def weighted_votes(answers: Sequence[str | None], weights: Floats) -> Votes:
    """Return the vote of the traces, each with its weight. An unparsed answer (None) never votes; ties: first seen.

    Raises ValueError for lists of different lengths or a weight below 0 (a share would lose its meaning).
    """
    if len(answers) != len(weights):
        raise ValueError(f"{len(answers)} answers with {len(weights)} weights: need one each")
    sums: dict[str, float] = {}
    for answer, weight in zip(answers, weights, strict=True):
        if not weight >= 0:
            raise ValueError(f"the weight of a vote is {weight}: it must be a number, 0 or more")
        if answer is not None:
            sums[answer] = sums.get(answer, 0.0) + float(weight)
    winner = max(sums, key=sums.__getitem__, default=None)
    total = sum(sums.values())
    return Votes(sums, winner, sums[winner] / total if winner is not None and total > 0 else 0.0)


def keep_sampling(
    votes: Votes, n_traces: int, *, least: int, most: int, consensus: float, early_stop: bool = True
) -> bool:
    """Return whether to sample another trace, after `n_traces` of them (section 3.2, adaptive sampling).

    Never fewer than `least`, never more than `most`; between them sampling stops once the winner's share reaches
    `consensus` (0.95 in the paper), unless `early_stop` is off.
    """
    if not 1 <= least <= most:
        raise ValueError(f"least {least} and most {most} traces: need 1 <= least <= most")
    if n_traces < least or n_traces >= most:
        return n_traces < least
    return not early_stop or votes.share < consensus


def _bottom(by_group: NDArray[np.float64], fraction: float) -> float:
    # The small term keeps 0.29 of 100 groups at 29, not 28.
    count = max(1, int(len(by_group) * fraction + 1e-9))
    return float(np.sort(by_group)[:count].mean())


def _at_least_one(what: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{what} is {value} tokens: it must be 1 or more")
