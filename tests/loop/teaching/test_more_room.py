"""An answer that was cut off is asked for again with more room, and more money is held for it."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.loop.scripted import COST, PRICE, ROOM, WORST, Scripted, ScriptedBatches, client, context, fault, ok
from tests.servers.pairs import KINDS, teacher
from wizloop.backends.teachers.base import Answer, Question, Usage
from wizloop.backends.teachers.remote import RemoteTeacher
from wizloop.loop.phases.teach import teach
from wizloop.loop.teaching.prices import Tariff
from wizloop.store import spending, teacher_calls

CUT = fault("truncated", billed="yes", usage=Usage(output_tokens=7))


def test_it_has_twice_the_room_and_twice_the_money_is_held(tmp_path: Path) -> None:
    ctx = context(tmp_path, 1)
    held: list[int] = []

    def say(asked: Question, number: int) -> Answer:
        with ctx.store.read() as db:
            held.append(spending.budget(db).reserved_micro)
        return CUT if number == 1 else ok(asked)

    asked = Scripted(say)
    assert teach(ctx, [client(asked)]) == "1 of 1 taught"
    assert (asked.rooms, held) == ([None, 6000], [100, 200])
    with ctx.store.read() as db:
        assert spending.budget(db).reserved_micro == 0
        assert spending.budget(db).settled_micro == COST + 7


def test_a_batch_asks_so_too(tmp_path: Path) -> None:
    asked = ScriptedBatches(lambda one, number: CUT if number == 1 else ok(one), {})
    assert teach(context(tmp_path, 3), [client(asked)]) == "3 of 3 taught"
    assert asked.rooms == [None] * 3 + [6000] * 3
    assert [len({one.key for one in questions}) for _, questions in asked.held.values()] == [3, 3]


@pytest.mark.parametrize(("most", "room"), [(None, 6000), (4000, 4000), (6001, 6000), (1000, 3000)])
def test_it_is_no_more_than_the_model_writes(tmp_path: Path, most: int | None, room: int) -> None:
    asked = Scripted(lambda one, number: CUT if number == 1 else ok(one))
    price = PRICE.model_copy(update={"most_output": most})
    teach(context(tmp_path, 1), [replace(client(asked), tariff=Tariff((price,)))])
    assert asked.rooms == [None, room]


def test_the_room_and_the_complaint_outlive_an_overload(tmp_path: Path) -> None:
    said = [CUT, fault("overloaded"), None]
    asked = Scripted(lambda one, number: said[number - 1] or ok(one))
    assert teach(context(tmp_path, 1), [client(asked)]) == "1 of 1 taught"
    assert asked.rooms == [None, 6000, 6000]
    assert asked.complaints == [None, *["it was cut off before its end"] * 2]


def test_an_answer_of_the_wrong_form_gets_no_more(tmp_path: Path) -> None:
    asked = Scripted(lambda one, number: fault("invalid", billed="yes") if number == 1 else ok(one))
    teach(context(tmp_path, 1), [client(asked)])
    assert asked.rooms == [None, None]


def test_where_the_money_is_too_little_for_more_it_is_not_sent(tmp_path: Path) -> None:
    asked = Scripted(lambda one, number: CUT if number == 1 else ok(one))
    ctx = context(tmp_path, 1, cap_micro=2 * WORST)
    assert teach(ctx, [client(asked)]) == "0 of 1 taught; 1 without an answer"
    with ctx.store.read() as db:
        assert [(call.state, call.reserved_micro) for call in teacher_calls.calls(db, 0)] == [
            ("failed", 0),
            ("planned", 0),
        ]
        assert spending.budget(db).settled_micro == 7


@pytest.mark.parametrize("kind", KINDS)
def test_every_provider_is_told_of_it(kind: str) -> None:
    made: RemoteTeacher = teacher(kind, "http://127.0.0.1:9", max_tokens=ROOM)
    plain, roomy = Question("k", "x"), Question("k", "x", max_tokens=ROOM * 2)
    assert [_most(made.request(one)) for one in (plain, roomy)] == [3000, 6000]
    assert [made.worst_usage(one).output_tokens for one in (plain, roomy)] == [3000, 6000]


def _most(request: dict[str, object]) -> object:
    generation = request.get("generationConfig")
    return generation["maxOutputTokens"] if isinstance(generation, dict) else request["max_tokens"]
