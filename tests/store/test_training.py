"""What a challenger was taught with."""

import pytest

from tests import stored
from wizloop.store import training
from wizloop.store.db import Connection


def _pair(sample: int, round: int = 1, chosen: str = "right") -> training.Pair:
    return training.Pair(round, sample, "request", chosen, "wrong", 1.2, 1, 3, "r1-sft")


def test_a_sample_has_one_pair_a_round(db: Connection, pool: list[int]) -> None:
    training.add_pairs(db, 1, [_pair(pool[1]), _pair(pool[0])])
    training.add_pairs(db, 1, [_pair(pool[0], chosen="another")])
    training.add_pairs(db, 2, [_pair(pool[0], 2)])
    training.add_pairs(db, 2, [])
    assert training.pairs(db, 1) == [_pair(pool[0]), _pair(pool[1])]
    assert training.pairs(db, 2) == [_pair(pool[0], 2)]
    with pytest.raises(ValueError, match="round 1"):
        training.add_pairs(db, 1, [_pair(pool[2], 2)])


def test_what_a_model_is_trained_on_is_noted_once(db: Connection, pool: list[int], model: int) -> None:
    used: list[tuple[int, int | None, str]] = [(pool[1], None, "pair"), (pool[0], None, "trace")]
    training.use(db, model, used)
    training.use(db, model, used)
    assert stored.uses(db, model) == [stored.Use(pool[0], None, "trace"), stored.Use(pool[1], None, "pair")]


def test_a_step_done_again_after_a_crash_replaces_its_loss(db: Connection, model: int) -> None:
    for step, loss in ((1, 0.9), (2, 0.8), (2, 0.7)):
        training.log(db, model, "rsft", step, loss, '{"tokens": 5}')
    training.log(db, model, "hsdpo", 1, 0.1, "{}")
    assert [(row.step, row.loss) for row in stored.losses(db, model, "rsft")] == [(1, 0.9), (2, 0.7)]


def test_what_was_left_out_is_counted_by_its_first_reason(db: Connection, pool: list[int]) -> None:
    for n, kind, reason in [
        (0, "trace", "too long"),
        (0, "trace", "empty"),
        (1, "trace", "too long"),
        (0, "pair", "tie"),
    ]:
        training.dropped(db, 1, pool[n], kind, reason)
    assert stored.dropped(db, 1) == {"pair": {"tie": 1}, "trace": {"too long": 2}}
    assert stored.dropped(db, 2) == {}
