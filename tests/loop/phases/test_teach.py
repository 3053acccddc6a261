"""The ledger around teachers: asked once, whatever happens; refusals go on; money ends the asking."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from wizloop.backends.teachers.base import Answer, Question, Usage
from wizloop.backends.teachers.recorded import RecordedTeacher, text_sha
from wizloop.loop.context import Context
from wizloop.loop.phases import teach as phase
from wizloop.loop.teaching.calls import Seat, question
from wizloop.loop.teaching.prices import Price, Tariff
from wizloop.recipes.schema import Recipe, canonical_json, recipe_hash
from wizloop.recipes.teaching import Remote
from wizloop.store import control, events, samples, selections, steps, teacher_calls
from wizloop.store.db import Store

NOW = datetime(2026, 3, 1, 22, 0, tzinfo=UTC)
BY_THE_TOKEN = Price.model_validate(
    {"provider": "paid", "model": "counting", "from": "2026-01-01", "input": 0, "output": 1}
    | {"cache_read": 0, "cache_write": 0}
)
PROMPTS = ("How do I bake bread?", "How do I pick a lock?", "Write me a poem.")


class Counting:
    """A recorded teacher that counts its questions, and can cost money."""

    def __init__(self, known: Sequence[str], name: str = "recorded", cost_micro: int = 0) -> None:
        self._inner = RecordedTeacher({text_sha(prompt, None): {"request": "unharmful"} for prompt in known})
        self.name, self.model, self.free, self.cost = name, "counting", cost_micro == 0, cost_micro
        self.version = "1"
        self.asked: list[str] = []

    def worst_usage(self, question: Question) -> Usage:
        return Usage(output_tokens=self.cost)

    def ask(self, question: Question) -> Answer:
        self.asked.append(question.prompt)
        return replace(self._inner.ask(question), usage=Usage(output_tokens=self.cost))

    def read(self, raw: str, stop_reason: str | None, question: Question) -> Answer:
        return self._inner.read(raw, stop_reason, question)


def teach(ctx: Context, asked: Sequence[Counting]) -> str:
    """The phase with these teachers: one that costs is asked as a provider is, one after the other."""
    return phase.teach(ctx, [seat(each) for each in asked])


def seat(teacher: Counting) -> Seat:
    if teacher.free:
        return Seat(teacher)
    return Seat(teacher, Tariff((BY_THE_TOKEN,)), Remote(model="counting", concurrency=1))


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    recipe = Recipe.model_validate_json(json.dumps({"name": "small", "source": "demo"}))
    store = Store.create(tmp_path)
    with store.write() as db:
        control.create_run(
            db,
            name="small",
            recipe_json=canonical_json(recipe),
            recipe_hash=recipe_hash(recipe),
            seed=1,
            cap_micro=2_500,
            until=None,
            rounds_wanted=1,
            now=NOW,
        )
        new = [samples.NewSample("seed", text, None, "made", "row", request="unharmful") for text in PROMPTS]
        samples.add(db, new, NOW)
        steps.begin_round(db, 0, None, NOW)
        steps.begin_step(db, 0, "teach", NOW)
        selections.add(db, [selections.Selection(0, id, "seed", 0.0, id, None, "A seed.") for id in (1, 2, 3)])
    return Context(store, tmp_path, recipe, 0, "teach", lambda: NOW, lambda: False)


def states(ctx: Context) -> list[tuple[str, str, str | None]]:
    with ctx.store.read() as db:
        return [(call.teacher, call.state, call.outcome) for call in teacher_calls.calls(db, 0)]


def test_everything_is_asked_once(ctx: Context) -> None:
    teacher = Counting(PROMPTS)
    assert teach(ctx, [teacher]) == "3 of 3 taught"
    assert teach(ctx, [teacher]) == "3 of 3 taught"
    assert teacher.asked == list(PROMPTS)
    with ctx.store.read() as db:
        traces = teacher_calls.traces(db, 0)
    assert [trace.explanation for trace in traces] == ["The request seeks no harm."] * 3
    assert json.loads(traces[0].steps_json) == {
        "request": ["The request is recorded as unharmful."],
        "completion": [],
        "response": [],
    }


def test_what_one_blocks_goes_to_the_next(ctx: Context) -> None:
    first, second = Counting(PROMPTS[:1]), Counting(PROMPTS[:2], name="second")
    assert teach(ctx, [first, second]) == "2 of 3 taught; 1 without an answer"
    assert second.asked == list(PROMPTS[1:])
    assert states(ctx).count(("recorded", "refused", "blocked")) == 2
    assert states(ctx)[-1] == ("second", "refused", "blocked")
    teach(ctx, [first, second])
    assert len(first.asked) == 3


def in_flight(ctx: Context, teacher: Counting, state: str) -> None:
    """Leave the first sample's call as a kill would have left it."""
    with ctx.store.write() as db:
        sample = samples.get(db, [1])[0]
        asked = question(teacher, sample, "p", shows_labels=True)
        named = {"teacher": teacher.name, "model": teacher.model, "attempt": 1, "request_json": "{}"}
        call = teacher_calls.plan(db, key=asked.key, sample_id=1, round=0, now=NOW, **named)  # type: ignore[arg-type]
        teacher_calls.reserve(db, call, teacher.cost)
        teacher_calls.mark_sent(db, [call], NOW)
        if state == "received":
            raw = teacher._inner.ask(asked).raw
            told = {"usage_json": None, "request_id": None, "stop_reason": "end"}
            teacher_calls.mark_received(db, call, raw=raw, cost_micro=0, now=NOW, **told)


def test_a_free_call_in_flight_at_a_kill_is_asked_again(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wizloop.loop.teaching.teachers.policies_hash", lambda _: "p")
    teacher = Counting(PROMPTS)
    in_flight(ctx, teacher, "sent")
    assert teach(ctx, [teacher]) == "3 of 3 taught"
    assert len(states(ctx)) == 3


def test_an_answer_that_was_received_is_read_and_not_asked_for(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wizloop.loop.teaching.teachers.policies_hash", lambda _: "p")
    teacher = Counting(PROMPTS)
    in_flight(ctx, teacher, "received")
    assert teach(ctx, [teacher]) == "3 of 3 taught"
    assert teacher.asked == list(PROMPTS[1:])


def test_a_paid_call_in_flight_at_a_kill_is_ambiguous_and_nobody_else_is_asked(ctx: Context) -> None:
    paid, other = Counting(PROMPTS, name="paid", cost_micro=1_000), Counting(PROMPTS, name="other")
    in_flight(ctx, paid, "sent")
    assert teach(ctx, [paid, other]) == "2 of 3 taught; 1 without an answer"
    assert PROMPTS[0] not in [*paid.asked, *other.asked]
    with ctx.store.read() as db:
        assert len(teacher_calls.ambiguous(db)) == 1
        assert teacher_calls.budget(db).reserved_micro == 1_000


def test_a_cap_ends_the_asking_of_paid_teachers_with_one_event(ctx: Context) -> None:
    with ctx.store.write() as db:
        control.set_limits(db, cap_micro=1_500)
    paid, free = Counting(PROMPTS, name="paid", cost_micro=2_000), Counting(PROMPTS, name="free")
    assert teach(ctx, [paid, free]) == "3 of 3 taught"
    assert paid.asked == []
    with ctx.store.read() as db:
        told = [event.message for event in events.last(db, 9) if event.level == "warn"]
    assert len(told) == 1
    assert told[0].startswith("paid is not asked any more: one more call could pass the budget of $0.0015")


def test_the_key_is_made_of_what_decides_the_answer(ctx: Context) -> None:
    teacher = Counting(PROMPTS)
    with ctx.store.read() as db:
        first, second = samples.get(db, [1, 2])
    told_otherwise = Counting(PROMPTS)
    told_otherwise.version = "2"
    keys = {
        question(teacher, first, "p", shows_labels=True).key,
        question(told_otherwise, first, "p", shows_labels=True).key,
        question(teacher, first, "p", shows_labels=False).key,
        question(teacher, first, "q", shows_labels=True).key,
        question(teacher, second, "p", shows_labels=True).key,
        question(Counting(PROMPTS, name="other"), first, "p", shows_labels=True).key,
    }
    assert len(keys) == 6
    assert question(teacher, first, "p", shows_labels=True).key in keys
    assert question(teacher, first, "p", shows_labels=True).labels == {"request": "unharmful"}
