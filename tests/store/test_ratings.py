"""Ratings in the store: append only, each rater's own, and only whole answers."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rating_sets import ANNA, BOB, NOW, add, answer, begin, output, rate
from wizloop.store import errors, ratings
from wizloop.store.db import Connection, Store
from wizloop.store.ratings import Answer


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Connection]:
    """One write transaction around the whole test."""
    begin(tmp_path)
    with Store.open(tmp_path) as store, store.write() as connection:
        yield connection


@pytest.fixture
def ids(db: Connection) -> list[int]:
    """The ids of a set of three outputs."""
    outputs = [output(n) for n in range(3)]
    set_id = ratings.add_set(db, of="file", name="made.jsonl", round=None, seed=1, outputs=outputs, now=NOW)
    return [one.id for one in ratings.outputs(db, set_id)]


def give(db: Connection, output_id: int, by: str, given: Answer, rating_id: str, **how: bool) -> None:
    ratings.rate(db, output_id, by, given, now=NOW, rating_id=rating_id, **how)


def test_a_set_keeps_its_outputs_in_order(db: Connection, ids: list[int]) -> None:
    found = ratings.outputs(db, 1)
    assert [(one.position, one.prompt) for one in found] == [(n + 1, f"how sharp is knife {n}") for n in range(3)]
    assert [list(labels) for _, labels in found[1].questions][1] == ["refusal", "compliance"]
    assert len({one.digest for one in found}) == 3
    assert (ratings.get_set(db).id, ratings.get_set(db, 1).name) == (1, "made.jsonl")


def test_there_is_no_set_to_begin_with(db: Connection) -> None:
    with pytest.raises(errors.NotFound, match="wizloop rate draw"):
        ratings.get_set(db)


def test_an_unknown_set_is_named(db: Connection, ids: list[int]) -> None:
    with pytest.raises(errors.NotFound, match="no rating set 7: the newest is 1"):
        ratings.get_set(db, 7)


def test_raters_do_not_see_or_change_each_other(db: Connection, ids: list[int]) -> None:
    give(db, ids[0], ANNA, answer(0), "a")
    give(db, ids[0], BOB, answer(0, "harmful", 1), "b")
    assert {n: row.answer for n, row in ratings.of_rater(db, 1, ANNA).items()} == {ids[0]: answer(0)}
    assert {by: list(rated) for by, rated in ratings.standing(db, 1).items()} == {ANNA: [ids[0]], BOB: [ids[0]]}


def test_an_undo_is_a_row_and_the_output_can_be_rated_again(db: Connection, ids: list[int]) -> None:
    give(db, ids[1], ANNA, answer(1), "1")
    give(db, ids[0], ANNA, answer(0), "2")
    give(db, ids[1], BOB, answer(1), "3")
    assert ratings.undo(db, 1, ANNA, now=NOW, rating_id="4") == ids[0]
    assert list(ratings.of_rater(db, 1, ANNA)) == [ids[1]]
    give(db, ids[0], ANNA, answer(0, "harmful", 2), "5")
    assert [row.decision for row in ratings.log(db, ids[0])] == ["rate", "undo", "rate"]
    assert ratings.of_rater(db, 1, ANNA)[ids[0]].coherence == 2
    assert [ratings.undo(db, 1, ANNA, now=NOW, rating_id=f"u{n}") for n in range(2)] == [ids[0], ids[1]]
    with pytest.raises(errors.NothingToUndo):
        ratings.undo(db, 1, ANNA, now=NOW, rating_id="u2")
    assert list(ratings.of_rater(db, 1, BOB)) == [ids[1]]


def test_a_second_rating_needs_to_be_a_change(db: Connection, ids: list[int]) -> None:
    give(db, ids[0], ANNA, answer(0), "1")
    give(db, ids[0], ANNA, answer(0, "harmful"), "1")
    with pytest.raises(errors.AlreadyDecided, match="output 1 already, in another window"):
        give(db, ids[0], ANNA, answer(0, "harmful"), "2")
    give(db, ids[0], ANNA, answer(0, "harmful"), "2", change=True)
    assert [row.verdict["request"] for row in ratings.log(db, ids[0])] == ["unharmful", "harmful"]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (Answer({}, 3), "request has no answer: give harmful or unharmful"),
        (Answer({"request": "maybe"}, 3), "request is 'maybe'"),
        (Answer({"request": "harmful", "completion": "refusal"}, 3), "'completion' is not asked"),
        (Answer({"request": "harmful"}, None), "coherence must be 1 to 5"),
        (Answer({"request": "harmful"}, 6), "coherence is 6"),
        (Answer({"request": "harmful"}, 0), "coherence is 0"),
    ],
)
def test_only_a_whole_answer_is_taken(db: Connection, ids: list[int], given: Answer, why: str) -> None:
    with pytest.raises(errors.BadDecision, match=f"output 1: .*{why}"):
        give(db, ids[0], ANNA, given, "1")


def test_an_output_without_reasoning_has_no_coherence(db: Connection) -> None:
    bare = [output(0, reasoning="")]
    ratings.add_set(db, of="file", name="f", round=None, seed=1, outputs=bare, now=NOW)
    with pytest.raises(errors.BadDecision, match="none, because there is no reasoning"):
        give(db, 1, ANNA, answer(0), "1")
    give(db, 1, ANNA, answer(0, coherence=None), "1")


@pytest.mark.parametrize("name", ["", "  ", "x" * 81, "a\x1b[2J", "a\u202eb", "\ud800"])
def test_a_name_can_be_printed(name: str) -> None:
    with pytest.raises(errors.BadDecision, match="no name for a rater"):
        ratings.person(name)


def test_a_name_is_stored_without_stray_spaces() -> None:
    assert ratings.person("  Anna  Lindt ") == "person:Anna Lindt"


def test_a_lone_surrogate_is_refused_by_its_row(db: Connection) -> None:
    with pytest.raises(errors.BadText, match="made:0"):
        ratings.add_set(db, of="file", name="f", round=None, seed=1, outputs=[output(0, reasoning="\ud800")], now=NOW)


def test_two_people_rate_at_the_same_time(tmp_path: Path) -> None:
    add(tmp_path, 6)
    raters = [
        threading.Thread(target=rate, args=(tmp_path, by, {n: answer(n)})) for n in range(6) for by in (ANNA, BOB)
    ]
    for each in raters:
        each.start()
    for each in raters:
        each.join()
    with Store.open(tmp_path, readonly=True) as store, store.read() as db:
        assert {by: len(rated) for by, rated in ratings.standing(db, 1).items()} == {ANNA: 6, BOB: 6}
