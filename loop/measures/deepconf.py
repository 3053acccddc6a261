"""DeepConf (arXiv:2508.15260): confidence measures of a trace, confidence-weighted votes, and early stopping.

The token confidences are given: minus the mean log-probability (natural) of the k most likely tokens at a position
(section 2.1), from raw logits, before temperature and top-p. Higher is more confident. The values have no upper bound
and depend on model, tokenizer and quantization: never compare them across models. `uncertainty.choose_measure` finds
out on dev whether one of them tells right from wrong. Where paper and released code differ: votes sum their weights
(both formulas do; a figure averages), the paper's consensus stop is implemented, and percentages name the share kept.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = Sequence[float] | NDArray[np.float64]


def window_for(mean_tokens: float) -> int:
    """Return the group window in tokens for traces of `mean_tokens` on average: half of it, within 4 to 128.

    That is 32 to 128 for traces of 64 to 256 tokens. The paper's 2048 never fills on a guard's traces: every group
    measure would be the plain mean, and the online cut would never fire.
    """
    return int(min(128, max(4, mean_tokens / 2)))


def groups(confidences: Floats, window: int) -> NDArray[np.float64]:
    """Return the mean of each full window, one token apart: (n - window + 1,).

    A trace shorter than the window is one group, its mean; an empty trace is one group of 0.
    """
    _at_least_one("window", window)
    values = np.asarray(confidences, dtype=np.float64)
    if len(values) < window:
        return np.array([_mean(values)])
    # No running sum: it would drift, and a group must have the same bits here and in OnlineGroup.
    means: NDArray[np.float64] = np.lib.stride_tricks.sliding_window_view(values, window).mean(axis=1)
    return means


@dataclass(frozen=True)
class Measures:
    """The four measures of one trace; all 0 for an empty trace."""

    mean: float
    tail: float
    """Mean over the last tokens."""
    lowest: float
    """Smallest group: the only measure that can be watched while a trace is written."""
    bottom: float
    """Mean of the lowest tenth of the groups (rounded down, at least one group)."""


def measures(confidences: Floats, *, window: int, tail: int) -> Measures:
    """Return all four measures of one trace; `window` and `tail` in tokens."""
    _at_least_one("tail", tail)
    values = np.asarray(confidences, dtype=np.float64)
    by_group = np.sort(groups(values, window))
    # The small term keeps 0.1 of 10 groups at 1, not 0.
    tenth = max(1, int(len(by_group) * 0.1 + 1e-9))
    return Measures(_mean(values), _mean(values[-tail:]), float(by_group[0]), float(by_group[:tenth].mean()))


def stop_threshold(lowest_groups: Floats, keep_top_percent: float) -> float:
    """Return the group confidence below which further traces are cut, from the lowest groups of the warm-up traces.

    It is their (100 - `keep_top_percent`)th percentile with linear interpolation. 10 is DeepConf-low, the 90th
    percentile (strict); 90 is DeepConf-high, the 10th (lenient) (section 3.2). Raises ValueError for no traces or a
    percentage outside 0 to 100.
    """
    if not 0 <= keep_top_percent <= 100:
        raise ValueError(f"keep_top_percent is {keep_top_percent}: give a percentage from 0 to 100")
    if not len(lowest_groups):
        raise ValueError("no warm-up traces to learn the stop threshold from")
    return float(np.percentile(np.asarray(lowest_groups, dtype=np.float64), 100 - keep_top_percent))


class OnlineGroup:
    """Watch one trace while it is written and report when to cut it."""

    def __init__(self, window: int, threshold: float) -> None:
        _at_least_one("window", window)
        self.window = window
        self.threshold = threshold
        self._last: deque[float] = deque(maxlen=window)

    def push(self, confidence: float) -> bool:
        """Add the next token's confidence; return whether to cut the trace here.

        Only a full window counts, and a group exactly at the threshold is not cut.
        """
        self._last.append(confidence)
        if len(self._last) < self.window:
            return False
        return float(np.array(self._last, dtype=np.float64).mean()) < self.threshold


@dataclass(frozen=True)
class Votes:
    """The traces' vote on one task of one sample."""

    sums: Mapping[str, float]
    """Weight by answer, in the order of first appearance."""
    winner: str | None
    """None when no trace had an answer."""
    share: float
    """The winner's share of the total weight (beta in the paper), 0 when there is no weight."""


def weighted_votes(answers: Sequence[str | None], weights: Floats) -> Votes:
    """Return the weighted vote of the traces. An unparsed answer (None) never votes; on a tie the first seen wins.

    Raises ValueError for lists of different lengths or a weight below 0.
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


def keep_sampling(votes: Votes, n_traces: int, *, least: int, most: int, consensus: float) -> bool:
    """Return whether to sample another trace after `n_traces` (section 3.2, adaptive sampling).

    At least `least` and at most `most` are sampled; between them sampling stops once the winner's share reaches
    `consensus` (0.95 in the paper).
    """
    if not 1 <= least <= most:
        raise ValueError(f"least {least} and most {most} traces: need 1 <= least <= most")
    return n_traces < least or (n_traces < most and votes.share < consensus)


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else 0.0


def _at_least_one(what: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{what} is {value} tokens: it must be 1 or more")
