"""Whether one guard is better than another on the same rows, and what difference the rows could have shown. Pure.

Rows of one prompt are not independent: every test and interval here takes the prompt as its unit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wizloop.loop.measures.metrics import f1_of, macro_f1_of, outcome_rows, ratio
from wizloop.loop.measures.promotion import ROUNDING
from wizloop.loop.measures.resampling import Counts, cluster_sums, percentile_interval, resampled_sums

Conclusion = Literal["better", "worse", "cannot be told apart"]
_Measure = Callable[[Counts], NDArray[np.float64]]

ALPHA = 0.05
"""Level of the tests, two-sided, over all rows of a table."""
POWER = 0.8
RESAMPLES = 2000
SWAPS = 10_000


@dataclass(frozen=True)
class Pair:
    """Verdicts of two guards on the same labeled rows, as parallel sequences."""

    positive: str
    """The label that F1 is of."""
    labels: Sequence[str]
    ours: Sequence[str | None]
    """None where the answer could not be read; it counts as wrong."""
    theirs: Sequence[str | None]
    prompts: Sequence[str]
    """Normalized prompt of each row; rows of one prompt are drawn together, and vote once."""


@dataclass(frozen=True)
class Change:
    """One measure of both guards, as fractions; None where undefined."""

    ours: float | None
    theirs: float | None
    difference: float | None
    """Ours minus theirs."""
    low: float | None
    """95 % interval of the difference, paired bootstrap over prompts."""
    high: float | None
    detectable: float | None
    """The smallest true difference that these rows would have shown in 80 of 100 sets; None where no row tells."""


@dataclass(frozen=True)
class Paired:
    """Two guards on the same rows."""

    n: int
    prompts: int
    f1: Change
    macro_f1: Change
    accuracy: Change
    only_ours: int
    """Prompts on which ours is right more often; with one row to a prompt, rows that only ours has right."""
    only_theirs: int
    p: float
    """Of the difference in F1, by exchanging the two guards' answers prompt by prompt; in accuracy where no label is
    positive.
    """
    holm: float
    """The same, adjusted for all rows of the table."""
    mcnemar: float
    """Exact McNemar of the two counts above: whether one guard is right more often."""
    mcnemar_holm: float
    conclusion: Conclusion


class _Measured(NamedTuple):
    """What one pair shows by itself, before the other rows of its table count."""

    point: Counts
    draws: Counts
    prompts: int
    only_ours: int
    only_theirs: int
    p: float
    mcnemar: float


def compare(pairs: Sequence[Pair], *, seed: int = 0, resamples: int = RESAMPLES) -> list[Paired]:
    """Compare the guards of each row of a table.

    Ours is better where the p of the difference in F1, adjusted by Holm over the rows, is at most 5 % and the 95 %
    interval of the difference is above 0. Raises ValueError for sequences of different lengths.
    """
    found = [_measured(pair, np.random.default_rng(seed), resamples) for pair in pairs]
    adjusted = zip(holm([one.p for one in found]), holm([one.mcnemar for one in found]), strict=True)
    return [_paired(one, *ps, len(found)) for one, ps in zip(found, adjusted, strict=True)]


def mcnemar(only_ours: int, only_theirs: int) -> float:
    """Return the two-sided p of the exact McNemar test: a binomial test of the discordant pairs at one half.

    1 without a discordant pair. (McNemar 1947; exact form: Fagerland, Lydersen, Laake 2013.)
    """
    from scipy.stats import binomtest

    discordant = only_ours + only_theirs
    return float(binomtest(only_ours, discordant).pvalue) if discordant else 1.0


def holm(ps: Sequence[float]) -> list[float]:
    """Return p-values adjusted by Holm's step-down method, in the order given (Holm 1979)."""
    order = np.argsort(ps, kind="stable")
    raised = np.asarray(ps, dtype=np.float64)[order] * np.arange(len(ps), 0, -1)
    adjusted = np.empty(len(ps))
    adjusted[order] = np.minimum(np.maximum.accumulate(raised), 1.0)
    return [float(p) for p in adjusted]


def power(prompts: int, differ: float, difference: float, level: float = ALPHA) -> float:
    """Return the exact power of `mcnemar`: how often it shows a true difference, as a fraction.

    `differ` is the share of prompts on which one guard alone is right, `difference` the gap of the two shares that make
    it up. Summed over the number of discordant prompts (Duffy 1984, "Asymptotic and exact power for the McNemar test").
    """
    from scipy.stats import binom

    ends = binom.ppf([1e-9, 1 - 1e-9], prompts, differ)
    k = np.arange(max(1, ends[0]), ends[1] + 1)
    cut = binom.ppf(level / 2, k, 0.5)
    # The largest count in the lower tail whose two-sided p is within the level; -1 where even none is not.
    cut -= 2 * binom.cdf(cut, k, 0.5) > level
    ahead = min((differ + difference) / (2 * differ), 1.0)
    shown = binom.cdf(cut, k, ahead) + binom.sf(k - cut - 1, k, ahead)
    return float(binom.pmf(k, prompts, differ) @ np.where(cut < 0, 0.0, shown))


@cache
def detectable(prompts: int, differing: int, tests: int = 1) -> float | None:
    """Return the smallest difference that `mcnemar` shows with a power of 80 %, as a share of the prompts.

    As many prompts differ as do here; where these are too few to show anything, as many as the smallest difference
    needs if all are in one direction. With several tests, at the level of Holm's first step, 5 % / tests. None where
    the set is too small to show any.
    """
    from scipy.optimize import brentq

    level = ALPHA / tests
    if prompts and power(prompts, 1.0, 1.0, level) < POWER:
        return None

    def lacks(difference: float) -> float:
        return power(prompts, max(differing / prompts, difference), difference, level) - POWER

    return float(brentq(lacks, 1e-9, 1.0, xtol=1e-5)) if prompts else None


def _measured(pair: Pair, rng: np.random.Generator, resamples: int) -> _Measured:
    """Count one pair: totals (2, 4) and draws (resamples, 2, 4); axes: (ours, theirs), (tp, fp, fn, tn)."""
    if not len(pair.labels) == len(pair.prompts):
        raise ValueError(f"{len(pair.labels)} labels and {len(pair.prompts)} prompts: each row needs one of both")
    rows = np.stack([outcome_rows(pair.labels, said, pair.positive) for said in (pair.ours, pair.theirs)], axis=1)
    sums = cluster_sums(rows.reshape(len(rows), 8), pair.prompts)
    draws = resampled_sums(sums, resamples, rng) if len(sums) > 1 else sums[:0]
    right = sums.reshape(-1, 2, 4)[:, :, [0, 3]].sum(axis=2)
    ahead = right[:, 0] - right[:, 1]
    wins, losses = int((ahead > 0).sum()), int((ahead < 0).sum())
    point = sums.sum(axis=0).reshape(2, 4)
    p = _exchanged(sums, _tested(point), rng)
    return _Measured(point, draws.reshape(-1, 2, 4), len(sums), wins, losses, p, mcnemar(wins, losses))


def _tested(point: Counts) -> _Measure:
    """Return the measure that decides: F1, or accuracy where no label is positive."""
    return f1_of if point[0, 0] + point[0, 2] else _accuracy_of


def _exchanged(sums: Counts, measure: _Measure, rng: np.random.Generator) -> float:
    """Return the two-sided p of a difference by approximate randomization, for counts per prompt (prompts, 8).

    Were the guards alike, their answers to a prompt could be exchanged: how often is the difference as large? (Yeh
    2000, "More accurate tests for the statistical significance of result differences"; p never 0: Phipson and Smyth
    2010.) Prompts with the same counts are interchangeable, so the number exchanged of each kind is binomial.
    """
    differ = (sums[:, :4] != sums[:, 4:]).any(axis=1)
    kinds, occurrences = np.unique(sums[differ], axis=0, return_counts=True)
    exchanged = rng.binomial(occurrences, 0.5, size=(SWAPS, len(kinds)))
    gained = exchanged @ (kinds[:, 4:] - kinds[:, :4])
    ours, theirs = np.split(sums.sum(axis=0), 2)
    by_draw = np.abs(measure(ours + gained) - measure(theirs - gained))
    observed = float(np.abs(measure(ours) - measure(theirs)))
    return 1.0 if np.isnan(observed) else (1 + int((by_draw >= observed - ROUNDING).sum())) / (1 + SWAPS)


def _paired(one: _Measured, adjusted: float, mcnemar_adjusted: float, tests: int) -> Paired:
    least = detectable(one.prompts, one.only_ours + one.only_theirs, tests)
    scale = _scale(one, least)
    f1, macro_f1, accuracy = (_change(one, measure, scale) for measure in (f1_of, macro_f1_of, _accuracy_of))
    if scale is None:
        accuracy = replace(accuracy, detectable=least)
    return Paired(
        n=int(one.point[0].sum()),
        prompts=one.prompts,
        f1=f1,
        macro_f1=macro_f1,
        accuracy=accuracy,
        only_ours=one.only_ours,
        only_theirs=one.only_theirs,
        p=one.p,
        holm=adjusted,
        mcnemar=one.mcnemar,
        mcnemar_holm=mcnemar_adjusted,
        conclusion=_conclusion(f1 if _tested(one.point) is f1_of else accuracy, adjusted),
    )


def _conclusion(change: Change, adjusted: float) -> Conclusion:
    if adjusted > ALPHA or change.low is None or change.high is None or change.low <= 0 <= change.high:
        return "cannot be told apart"
    return "better" if change.low > 0 else "worse"


def _change(one: _Measured, measure: _Measure, scale: float | None) -> Change:
    """Compare a measure; a difference of `scale` standard errors can be shown."""
    ours, theirs = (None if np.isnan(value) else float(value) for value in measure(one.point))
    if ours is None or theirs is None:
        return Change(ours, theirs, None, None, None, None)
    by_draw = measure(one.draws)
    differences = by_draw[:, 0] - by_draw[:, 1]
    low, high = percentile_interval(differences)
    told = None if scale is None else scale * float(np.nanstd(differences))
    return Change(ours, theirs, ours - theirs, low, high, told)


def _scale(one: _Measured, least: float | None) -> float | None:
    """Return the smallest difference that can be shown, in standard errors; None where no prompt differs."""
    differing, ahead = one.only_ours + one.only_theirs, one.only_ours - one.only_theirs
    error = (differing / one.prompts - (ahead / one.prompts) ** 2) ** 0.5 / one.prompts**0.5
    return None if not error or least is None else least / error


def _accuracy_of(counts: Counts) -> NDArray[np.float64]:
    """Return the share of right rows for counts (..., 4)."""
    return ratio(counts[..., 0] + counts[..., 3], counts.sum(axis=-1))
