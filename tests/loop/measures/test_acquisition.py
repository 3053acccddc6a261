"""What is picked, in which order and why, on small pools whose answer can be seen; and that a large pool is quick."""

import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from wizloop.loop.measures.acquisition import Pick, choose, split_budget
from wizloop.plugins import Candidate

MIX = {"uncertain_compliance": 0.3, "disagreement": 0.2, "low_confidence": 0.1, "diversity": 0.2, "random": 0.2}


def words(number: int, count: int = 12) -> str:
    """A text of its own for each number."""
    draw = random.Random(number)
    return " ".join(f"w{draw.randrange(10**6)}" for _ in range(count))


def candidate(number: int, confidence: float = 0.5, **changes: object) -> Candidate:
    plain = Candidate(number, words(number), p=0.3, confidence=confidence, cell="confident_pass", disagreement=0.0)
    return replace(plain, **changes)  # type: ignore[arg-type]


def chosen(pool: list[Candidate], budget: int, seed: int = 0, **shares: float) -> list[Pick]:
    return choose(pool, budget=budget, shares=shares or MIX, rng=np.random.default_rng(seed))


def mixed_pool(size: int) -> list[Candidate]:
    draw = random.Random(5)
    cells = ("uncertain_pass", "uncertain_block", "confident_pass", "confident_block")
    return [
        candidate(
            number,
            draw.random(),
            cell=draw.choice(cells),
            disagreement=draw.choice([0.0, 0.4, 1.2]),
            policy=draw.choice([None, "violence", "fraud"]),
        )
        for number in range(size)
    ]


@pytest.mark.parametrize(
    ("budget", "shares", "quotas"),
    [
        (10, {"random": 0.5, "disagreement": 0.5}, {"disagreement": 5, "random": 5}),
        (10, {"uncertain_compliance": 0.35, "disagreement": 0.33, "random": 0.32}, [4, 3, 3]),
        (7, {"disagreement": 1, "low_confidence": 1}, [4, 3]),
        (3, {"random": 1, "diversity": 0}, {"random": 3}),
        (0, {"random": 1}, {"random": 0}),
    ],
)
def test_the_budget_is_split_by_largest_remainder(
    budget: int, shares: dict[str, float], quotas: dict[str, int] | list[int]
) -> None:
    got = split_budget(budget, shares)
    assert sum(got.values()) == budget
    assert (got if isinstance(quotas, dict) else list(got.values())) == quotas


@pytest.mark.parametrize(
    ("budget", "shares", "message"),
    [
        (1, {"luck": 1.0}, "unknown strategy 'luck'"),
        (1, {"random": 0.0}, "no strategy has a share"),
        (-1, {"random": 1.0}, "negative"),
        (1, {"random": -1.0}, "negative"),
    ],
)
def test_a_mix_that_makes_no_sense_is_refused(budget: int, shares: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose([], budget=budget, shares=shares, rng=np.random.default_rng(0))


def test_a_sample_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="sample 3 occurs twice"):
        chosen([candidate(3), candidate(3)], 1, random=1)


def test_uncertain_compliance_takes_the_least_confident_of_what_is_let_through() -> None:
    pool = [
        candidate(1, 0.30, cell="uncertain_pass"),
        candidate(2, 0.11, cell="uncertain_pass", p=0.54),
        candidate(3, 0.05, cell="uncertain_block"),
        candidate(4, 0.90),
        candidate(5, 0.80),
    ]
    picks = chosen(pool, 2, uncertain_compliance=1)
    assert [pick.sample_id for pick in picks] == [2, 1]
    assert [pick.rank for pick in picks] == [1, 2]
    assert picks[0].reason == "uncertain_compliance"
    assert picks[0].propensity is None
    assert picks[0].words == (
        "Allowed at P(harmful) 0.54 with confidence 0.11, lower than 75 % of what the guard allows."
    )


def test_disagreement_takes_the_most_disputed_and_never_the_undisputed() -> None:
    pool = [
        candidate(1, disagreement=0.4),
        candidate(2, disagreement=1.6),
        candidate(3),
        candidate(4, disagreement=None),
    ]
    picks = chosen(pool, 4, disagreement=1)
    assert [(pick.sample_id, pick.score) for pick in picks] == [(2, 1.6), (1, 0.4)]
    assert picks[0].words == ("The members disagree by 1.60, more than on 66 % of the pool; guard: P(harmful) 0.30.")


def test_low_confidence_ignores_the_cell_and_the_unjudged() -> None:
    pool = [
        candidate(1, 0.4),
        candidate(2, 0.2, cell="confident_block", p=None),
        replace(candidate(3), confidence=None),
    ]
    picks = chosen(pool, 3, low_confidence=1)
    assert [pick.sample_id for pick in picks] == [2, 1]
    assert picks[0].words == ("Confidence 0.20, lower than 50 % of the pool, at an unreadable answer.")


def test_ties_go_to_the_smaller_id_whatever_the_order() -> None:
    pool = [candidate(number, 0.5) for number in (9, 2, 7, 4)]
    assert [pick.sample_id for pick in chosen(pool, 2, low_confidence=1)] == [2, 4]


def test_what_a_strategy_cannot_use_goes_to_the_next() -> None:
    pool = [candidate(1, 0.1, cell="uncertain_pass")] + [candidate(number) for number in range(2, 20)]
    picks = chosen(pool, 6, uncertain_compliance=0.5, low_confidence=0.5)
    assert Counter(pick.reason for pick in picks) == {"uncertain_compliance": 1, "low_confidence": 5}


def test_what_the_last_strategy_cannot_use_goes_back_to_the_first() -> None:
    pool = [candidate(number, cell="uncertain_pass") for number in range(10)]
    picks = chosen(pool, 6, uncertain_compliance=0.5, disagreement=0.5)
    assert Counter(pick.reason for pick in picks) == {"uncertain_compliance": 6}


def test_no_two_near_duplicates_in_one_batch() -> None:
    text = words(1, 40)
    pool = [candidate(number, number / 100, text=f"{text} again{number}") for number in range(5)]
    pool += [candidate(number, 0.9) for number in range(10, 13)]
    assert [pick.sample_id for pick in chosen(pool, 5, low_confidence=1)] == [0, 10, 11, 12]
    assert len(chosen(pool, 8, random=1)) == 4


def test_the_random_share_is_uniform_and_carries_its_propensity() -> None:
    pool = [candidate(number, 0.1 if number < 10 else 0.9) for number in range(50)]
    seen: Counter[int] = Counter()
    for seed in range(60):
        picks = chosen(pool, 20, seed=seed, low_confidence=0.5, random=0.5)
        drawn = [pick for pick in picks if pick.reason == "random"]
        assert [pick.propensity for pick in drawn] == [0.25] * 10
        seen.update(pick.sample_id for pick in drawn)
    assert drawn[0].words.startswith("Drawn at random from the 40 remaining samples")
    # Sixty draws at a chance of one quarter each: 15, give or take 3.4.
    assert set(seen) == set(range(10, 50))
    assert min(seen.values()) >= 3
    assert max(seen.values()) <= 28


def test_inverse_propensity_weights_give_back_the_size_of_the_pool() -> None:
    picks = chosen(mixed_pool(200), 60, uncertain_compliance=0.3, disagreement=0.3, random=0.4)
    assert sum(1 / (pick.propensity or 1) for pick in picks) == pytest.approx(200)


def test_diversity_prefers_what_is_unlike_the_picks() -> None:
    text = words(1, 30)
    half = " ".join(text.split()[:20]) + " " + words(99, 10)
    pool = [candidate(1, 0.1, text=text), candidate(2, text=half), candidate(3)]
    picks = chosen(pool, 2, low_confidence=0.5, diversity=0.5)
    assert [(pick.sample_id, pick.reason) for pick in picks] == [(1, "low_confidence"), (3, "diversity")]
    assert picks[1].score == 1
    assert picks[1].words == "Unlike the other picks: at most 0 % of the wording is shared."


def test_diversity_spreads_over_policies() -> None:
    pool = [candidate(number, policy="fraud" if number >= 396 else "violence") for number in range(400)]
    rng = np.random.default_rng(0)
    picks = choose(pool, budget=8, shares={"diversity": 1}, rng=rng)
    policies = Counter("fraud" if pick.sample_id >= 396 else "violence" for pick in picks)
    assert policies == {"fraud": 4, "violence": 4}


def test_the_same_seed_gives_the_same_picks_whatever_the_order_of_the_pool() -> None:
    pool = mixed_pool(300)
    first = chosen(pool, 50, seed=1)
    assert chosen(random.Random(0).sample(pool, 300), 50, seed=1) == first
    assert chosen(pool, 50, seed=2) != first
    assert Counter(pick.reason for pick in first) == {
        "uncertain_compliance": 15,
        "disagreement": 10,
        "low_confidence": 5,
        "diversity": 10,
        "random": 10,
    }
    assert len({pick.sample_id for pick in first}) == 50
    assert [pick.rank for pick in first] == list(range(1, 51))


def test_a_pool_that_is_too_small_is_taken_whole() -> None:
    assert len(chosen(mixed_pool(5), 100, uncertain_compliance=0.5, random=0.5)) == 5
    assert chosen([], 10, random=1) == []


def test_256_of_100_000_is_quick() -> None:
    draw = random.Random(0)
    vocabulary = [f"word{number}" for number in range(2000)]
    pool = [
        candidate(number, draw.random(), cell="uncertain_pass", disagreement=draw.random(), text=text)
        for number, text in enumerate(" ".join(draw.choices(vocabulary, k=15)) for _ in range(100_000))
    ]
    started = time.perf_counter()
    picks = chosen(pool, 256)
    assert time.perf_counter() - started < 20
    assert len(picks) == 256


def test_texts_and_policies_are_read_for_what_is_tried_and_for_a_shortlist_only() -> None:
    whole = mixed_pool(5000)
    by_id = {one.sample_id: one for one in whole}
    lean = [replace(one, text="", policy=None) for one in whole]
    read: list[int] = []

    def full(some: Sequence[Candidate]) -> list[Candidate]:
        read.extend(one.sample_id for one in some)
        return [by_id[one.sample_id] for one in some]

    how = {"budget": 20, "shares": MIX}
    picks = choose(lean, **how, rng=np.random.default_rng(3), full=full)  # type: ignore[arg-type]
    assert picks == choose(whole, **how, rng=np.random.default_rng(3))  # type: ignore[arg-type]
    assert len(set(read)) < 400


def test_diversity_takes_what_the_base_sees_as_unlike_the_picks() -> None:
    """Three groups of vectors: the texts are all unlike each other, and tell nothing."""
    pool = [candidate(number) for number in range(60)]
    noise = np.random.default_rng(2).normal(scale=0.05, size=(60, 4))
    vectors = (np.eye(4)[[number % 3 for number in range(60)]] + noise + 5).astype(np.float16)
    picks = choose(
        pool,
        budget=3,
        shares={"diversity": 1.0},
        rng=np.random.default_rng(0),
        vectors=lambda some: vectors[[one.sample_id for one in some]],
    )
    assert {one.sample_id % 3 for one in picks} == {0, 1, 2}
    assert picks[0].words == "Unlike the other picks: its vector has a cosine of at most 0.00 with any of them."
    assert picks[1].score > 0.5
