"""What a gate can exclude on a dev set: the smallest loss of macro-F1 that its paired one-sided test rules out.

A night decides several times, so each gate tests at 5 % over the number of gates (Bonferroni, Dunn 1961). The loss is
worked out before any challenger exists, so that the test's error does not depend on what is measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from wizloop.loop.measures.metrics import macro_f1_of

NIGHT_LEVEL: Final = 0.05
"""Largest chance that a night ends on a challenger that is worse by what its gates can exclude."""
POWER: Final = 0.8
"""Chance that a challenger which is as good is told from one that loses so much."""
RIGHT: Final = 0.8
"""Assumed share of right answers."""
APART: Final = 0.2
"""Assumed share of rows on which one of two guards alone is right: 6 to 39 % were seen in nights, by task, and 5 to 8 %
between recorded guards (`benchmarks/gate.py`)."""
_TRIALS: Final = 4000


@dataclass(frozen=True)
class GateBound:
    """The smallest loss that a run's gates can exclude."""

    loss: float
    """Macro-F1, a fraction."""
    level: float
    """One-sided level of one gate."""
    gates: int
    prompts: int
    """Distinct labeled prompts of dev."""

    def sentence(self, margin: float) -> str:
        """Return what the gates can bound, for a person; `margin` is the recipe's, a fraction."""
        most, gates = 100 * max(self.loss, margin), "one gate" if self.gates == 1 else f"{self.gates} gates"
        return (
            f"With {self.prompts:,} dev prompts, {gates} can exclude a loss of more than {most:.1f} points of macro-F1 "
            f"(at {100 * NIGHT_LEVEL:.0f} % over the run)"
        )


def gate_bound(classes: Sequence[tuple[int, int]], prompts: int, gates: int) -> GateBound | None:
    """Return what each of `gates` gates can exclude on dev; `classes` are (positive, negative) labels by task.

    The loss is (z(1 - level) + z(power)) standard errors of a paired difference of macro-F1, simulated for two guards
    that are equally good. None where no task has both classes. Raises ValueError for less than one gate.
    """
    from scipy.stats import norm

    if gates < 1:
        raise ValueError(f"a run has at least one gate, not {gates}")
    both = [(positive, negative) for positive, negative in classes if positive and negative]
    if not both:
        return None
    level = NIGHT_LEVEL / gates
    # Tasks share prompts, but not their errors: on stored predictions these add up as if they were independent.
    error = float(np.sqrt(np.sum([_standard_error(*each) ** 2 for each in both]))) / len(both)
    return GateBound(float((norm.ppf(1 - level) + norm.ppf(POWER)) * error), level, gates, prompts)


def lower_bound(draws: NDArray[np.float64], estimate: float, level: float) -> float | None:
    """Return the one-sided lower bound of a difference at a level, from its bootstrap draws; None without any.

    The smaller of the percentile and of the normal bound: a percentile alone errs too often on few prompts.
    """
    from scipy.stats import norm

    defined = draws[~np.isnan(draws)]
    if len(defined) < 2:
        return None
    normal = estimate - float(norm.ppf(1 - level)) * float(defined.std(ddof=1))
    return min(normal, float(np.percentile(defined, 100 * level)))


def _standard_error(positive: int, negative: int) -> float:
    """Return the standard error of macro-F1's paired difference for two guards that are equally good."""
    rng = np.random.default_rng(0)
    split = [RIGHT - APART / 2, APART / 2, APART / 2, 1 - RIGHT - APART / 2]
    of_positive, of_negative = (rng.multinomial(n, split, size=_TRIALS) for n in (positive, negative))
    first, second = (_counts(of_positive, of_negative, alone) for alone in (1, 2))
    return float(np.nanstd(macro_f1_of(second) - macro_f1_of(first)))


def _counts(of_positive: NDArray[np.int64], of_negative: NDArray[np.int64], alone: int) -> NDArray[np.int64]:
    """Return (tp, fp, fn, tn) of one guard, from the rows that both, it alone, the other alone or none got right."""
    tp, tn = (rows[:, 0] + rows[:, alone] for rows in (of_positive, of_negative))
    return np.stack([tp, of_negative.sum(axis=1) - tn, of_positive.sum(axis=1) - tp, tn], axis=1)
