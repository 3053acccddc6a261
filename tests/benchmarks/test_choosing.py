"""choosing.py: its pools, its further strategies, and the ratio that its table shows."""

import json
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from tests.benchmarks.running import module, printed
from tests.where import NEEDS_SHARED_DATA
from wizloop.plugins import Candidate

LABELS = [100, 200, 300, 400, 500]


@pytest.fixture(scope="module")
def choosing() -> ModuleType:
    return module("choosing.py")


@pytest.mark.long
@NEEDS_SHARED_DATA
def test_a_cell_measures_five_numbers_of_labels_and_a_try_is_not_kept(choosing: ModuleType) -> None:
    before = choosing.results()
    (line,) = printed("choosing.py", "cell", "openai_moderation", "tfidf", "disagreement", "--seeds", "1").splitlines()
    found = json.loads(line)
    assert (found["labels"], found["strategy"]) == (LABELS, "disagreement")
    assert all(0 < ap < 1 for ap in found["ap"])
    assert choosing.results() == before


@NEEDS_SHARED_DATA
def test_a_thinned_pool_shares_no_prompt_with_what_is_measured_at_its_rate() -> None:
    choosing_pools = module("choosing_pools.py")
    rows = choosing_pools.read("openai_moderation")
    one, other = (choosing_pools.divide("openai_moderation", rows, seed) for seed in (0, 1))
    assert rows.harmful[one.pool].mean() == pytest.approx(0.05, abs=0.002)
    assert one.weights[rows.harmful[one.test]].sum() / one.weights.sum() == pytest.approx(rows.harmful[one.pool].mean())
    assert not {rows.groups[at] for at in one.pool} & {rows.groups[at] for at in one.test}
    assert set(one.pool) != set(other.pool)


@pytest.mark.parametrize(("curve", "level", "needed"), [
    ([0.1, 0.2, 0.3, 0.4, 0.5], 0.3, 300),
    ([0.1, 0.2, 0.3, 0.4, 0.5], 0.25, 250),
    ([0.4, 0.4, 0.4, 0.4, 0.4], 0.3, 100),
    ([0.1, 0.1, 0.1, 0.1, 0.1], 0.3, 1000),
])  # fmt: skip
def test_the_labels_that_a_level_needs(choosing: ModuleType, curve: list[float], level: float, needed: float) -> None:
    assert choosing.labels_needed(np.array(curve), level, LABELS) == pytest.approx(needed)


def test_twice_as_fast_is_a_ratio_of_a_half_with_an_interval_around_it(choosing: ModuleType) -> None:
    rng = np.random.default_rng(0)
    chance = np.array([[0.1, 0.2, 0.3, 0.4, 0.5]] * 10) + rng.normal(size=(10, 5)) / 100
    chosen = np.array([[0.25, 0.5, 0.6, 0.7, 0.8]] * 10) + rng.normal(size=(10, 5)) / 100
    at, low, high = choosing.ratio(chosen, chance, LABELS)
    assert low < at < high
    assert at == pytest.approx(0.4, abs=0.02)


@pytest.mark.parametrize("name", ["bald", "epig", "greedy", "badge", "typiclust"])
def test_each_further_strategy_ranks_all_that_are_left(name: str) -> None:
    further, rng = module("choosing_strategies.py"), np.random.default_rng(0)
    y = rng.random(300) < 0.3
    X = csr_matrix(np.column_stack([y + rng.normal(size=300) / 2, rng.normal(size=(300, 80))]).astype(np.float32))
    known = further.Known(X, y, np.arange(40), rng.random(300), 10.0, 0)
    left = [Candidate(at, "", 0.5, 0.5, None, None) for at in range(40, 300)]
    scored: Any = further.FURTHER[name](known).score(left, 1)
    assert len(scored) == 260
    assert np.isfinite(scored).all()
    assert len(set(scored)) > 100
    assert scored == further.FURTHER[name](known).score(left, 1)
