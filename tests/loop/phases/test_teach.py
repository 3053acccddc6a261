"""The ledger around teachers: asked once, whatever happens; refusals go on; money ends the asking."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests import single_calls
from wizloop.backends.teachers.base import Answer, Question, Usage
from wizloop.backends.teachers.recorded import RecordedTeacher, text_sha
from wizloop.loop.context import Context
from wizloop.loop.phases import teach as phase
from wizloop.loop.teaching import teachers
from wizloop.loop.teaching.calls import TeacherClient, question, shown_labels
from wizloop.loop.teaching.prices import Price, Tariff
from wizloop.recipes.schema import Recipe, canonical_json, recipe_hash
from wizloop.recipes.teaching import Remote
from wizloop.store import call_writes, control, events, samples, selections, spending, steps, teacher_calls
from wizloop.store.db import Store

NOW = datetime(2026, 3, 1, 22, 0, tzinfo=UTC)
BY_THE_TOKEN = Price.model_validate(
    {"provider": "paid", "model": "counting", "from": "2026-01-01", "input": 0, "output": 1}
    | {"cache_read": 0, "cache_write": 0}
)
POLICY = """[[policy]]
id = "locks"
name = "Locks"
description = "Picking a lock that is not one's own."
severity = "high"
keywords = ["lock"]
"""
PROMPTS = ("How do I bake bread?", "How do I pick a lock?", "Write me a poem.")
SHOWN: dict[str, str | None] = {"request": "unharmful"}


class Counting:
    """A recorded teacher that counts its questions, and can cost money."""

    def __init__(self, known: Sequence[str], name: str = "recorded", cost_micro: int = 0) -> None:
        self._inner = RecordedTeacher({text_sha(prompt, None): {"request": "unharmful"} for prompt in known})
        self.name, self.model, self.free, self.cost = name, "counting", cost_micro == 0, cost_micro
        self.version = "1"
        self.asked: list[str] = []
        self.shown: dict[str, Any] = {}
        """The labels that were shown, by prompt."""

    def worst_usage(self, question: Question) -> Usage:
        return Usage(output_tokens=self.cost)

    def ask(self, question: Question) -> Answer:
        self.asked.append(question.prompt)
        self.shown[question.prompt] = question.labels
        return replace(self._inner.ask(question), usage=Usage(output_tokens=self.cost))

    def read(self, raw: str, stop_reason: str | None, question: Question) -> Answer:
        return self._inner.read(raw, stop_reason, question)


def teach(ctx: Context, asked: Sequence[Counting]) -> str:
    """The phase with these teachers: one that costs is asked as a provider is, one after the other."""
    return phase.teach(ctx, [client(each) for each in asked])


def client(teacher: Counting) -> TeacherClient:
    if teacher.free:
        return TeacherClient(teacher)
    return TeacherClient(teacher, Tariff((BY_THE_TOKEN,)), Remote(model="counting", concurrency=1))


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
        asked = question(teacher, sample, "p", SHOWN)
        named = {"teacher": teacher.name, "model": teacher.model, "attempt": 1, "request_json": "{}"}
        call = single_calls.plan(db, key=asked.key, sample_id=1, round=0, now=NOW, **named)  # type: ignore[arg-type]
        single_calls.reserve(db, call, teacher.cost)
        call_writes.mark_sent(db, [call], NOW)
        if state == "received":
            raw = teacher._inner.ask(asked).raw
            told = {"usage_json": None, "request_id": None, "stop_reason": "end"}
            single_calls.receive(db, call, raw=raw, cost_micro=0, now=NOW, **told)


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
        assert len(teacher_calls.in_state(db, "ambiguous")) == 1
        assert spending.budget(db).reserved_micro == 1_000


def test_a_cap_ends_the_asking_of_paid_teachers_with_one_event(ctx: Context) -> None:
    with ctx.store.write() as db:
        control.set_limits(db, cap_micro=1_500)
    paid, free = Counting(PROMPTS, name="paid", cost_micro=2_000), Counting(PROMPTS, name="free")
    assert teach(ctx, [paid, free]) == "3 of 3 taught"
    assert paid.asked == []
    with ctx.store.read() as db:
        told = [event.message for event in events.last(db, 9) if event.level == "warn"]
    assert len(told) == 1
    assert told[0].startswith("stopped asking paid: one more call could pass the budget of $0.0015")


def test_the_key_is_made_of_what_decides_the_answer(ctx: Context) -> None:
    teacher = Counting(PROMPTS)
    with ctx.store.read() as db:
        first, second = samples.get(db, [1, 2])
    told_otherwise = Counting(PROMPTS)
    told_otherwise.version = "2"
    keys = {
        question(teacher, first, "p", SHOWN).key,
        question(told_otherwise, first, "p", SHOWN).key,
        question(teacher, first, "p", None).key,
        question(teacher, first, "q", SHOWN).key,
        question(teacher, second, "p", SHOWN).key,
        question(Counting(PROMPTS, name="other"), first, "p", SHOWN).key,
    }
    assert len(keys) == 6
    assert question(teacher, first, "p", SHOWN).key in keys
    assert shown_labels(ctx.recipe.teacher, first, ctx.declared) == SHOWN


@pytest.mark.parametrize("changed", [{"attempt": 2}, {"complaint": "it was cut off"}, {"max_tokens": 600}])
def test_what_is_asked_once_more_is_another_question(ctx: Context, changed: dict[str, Any]) -> None:
    with ctx.store.read() as db:
        (sample,) = samples.get(db, [1])
    teacher = Counting(PROMPTS)
    first = question(teacher, sample, "p", SHOWN)
    assert question(teacher, sample, "p", SHOWN, **changed).key != first.key


def picked(ctx: Context, prompt: str, rank: int | None = 9, round: int = 0, **sample: Any) -> int:
    """Add a sample, with a selection where it has a rank; return its id."""
    with ctx.store.write() as db:
        new = samples.NewSample(sample.pop("split", "pool"), prompt, None, "made", "row", **sample)
        samples.add(db, [new], NOW)
        id = samples.ids(db, new.split)[-1]
        if rank is not None:
            steps.begin_round(db, round, None, NOW)
            steps.begin_step(db, round, "teach", NOW)
            selections.add(db, [selections.Selection(round, id, "random", 0.0, rank, None, "By chance.")])
        return id


def test_what_the_round_picked_and_nobody_taught_is_asked_by_rank(ctx: Context) -> None:
    teach(ctx, [Counting(PROMPTS[:1], name="earlier")])
    picked(ctx, "first", rank=0)
    picked(ctx, "not picked", rank=None)
    picked(ctx, "of the next round", round=1)
    left_out = picked(ctx, "left out", rank=1)
    with ctx.store.write() as db:
        samples.exclude(db, [left_out], "its text stands in dev")
    teacher = Counting((*PROMPTS, "first", "not picked", "of the next round", "left out"))
    assert teach(ctx, [teacher]) == "4 of 5 taught; 1 without an answer"
    assert teacher.asked == ["first", *PROMPTS[1:]]


def test_a_rounds_calls_and_traces_are_its_own(ctx: Context) -> None:
    id = picked(ctx, "of the next round", round=1)
    assert teach(replace(ctx, round=1), [Counting(["of the next round"])]) == "1 of 1 taught"
    with ctx.store.read() as db:
        assert [call.sample_id for call in teacher_calls.calls(db, 1)] == [id]
        assert [one.sample_id for one in teacher_calls.traces(db, 1)] == [id]
        assert teacher_calls.calls(db, 0) == []


@pytest.mark.parametrize(("sees_label", "seen"), [(True, {"request": "unharmful"}), (False, None)])
def test_a_label_of_the_seed_alone_is_shown_and_only_where_the_recipe_shows_it(
    ctx: Context, sees_label: bool, seen: dict[str, str] | None
) -> None:
    picked(ctx, "from the pool", request="harmful")
    section = ctx.recipe.teacher.model_copy(update={"sees_label": sees_label})
    ctx = replace(ctx, recipe=ctx.recipe.model_copy(update={"teacher": section}))
    teacher = Counting((*PROMPTS, "from the pool"))
    assert teach(ctx, [teacher]) == "4 of 4 taught"
    assert teacher.shown == {"from the pool": None, **dict.fromkeys(PROMPTS, seen)}
    with ctx.store.read() as db:
        noted = {call.sample_id: json.loads(call.request_json)["labels"] for call in teacher_calls.calls(db, 0)}
    assert noted == {1: seen, 2: seen, 3: seen, 4: None}


@pytest.mark.parametrize(("split", "outcome"), [("seed", "invalid"), ("pool", "ok")])
def test_an_answer_that_was_received_is_held_against_the_label_that_was_shown(
    ctx: Context, split: str, outcome: str
) -> None:
    id = picked(ctx, "kept", split=split, request="harmful")
    teacher = Counting((*PROMPTS, "kept"))
    with ctx.store.write() as db:
        named = {"teacher": "recorded", "model": "counting", "attempt": 1, "request_json": "{}"}
        call = single_calls.plan(db, key="ab" * 32, sample_id=id, round=0, now=NOW, **named)  # type: ignore[arg-type]
        single_calls.reserve(db, call, 0)
        call_writes.mark_sent(db, [call], NOW)
        raw = teacher._inner.ask(Question("ab" * 32, "kept")).raw
        told = {"usage_json": None, "request_id": None, "stop_reason": "end"}
        single_calls.receive(db, call, raw=raw, cost_micro=0, now=NOW, **told)
    teach(ctx, [teacher])
    with ctx.store.read() as db:
        assert single_calls.call(db, call).outcome == outcome


def test_what_was_paid_for_is_not_asked_again_by_anybody(ctx: Context) -> None:
    with ctx.store.write() as db:
        control.set_limits(db, cap_micro=None)
    paid, other = Counting(PROMPTS, name="paid", cost_micro=700), Counting(PROMPTS, name="other", cost_micro=700)
    assert teach(ctx, [paid]) == "3 of 3 taught"
    assert teach(ctx, [other, paid]) == "3 of 3 taught"
    assert (len(paid.asked), other.asked) == (3, [])
    assert money(ctx) == (2_100, 0)


def money(ctx: Context) -> tuple[int, int]:
    with ctx.store.read() as db:
        held = spending.budget(db)
    return held.settled_micro, held.reserved_micro


def test_one_cap_holds_for_all_teachers_and_all_rounds(ctx: Context) -> None:
    blocks, answers = Counting([], name="blocks", cost_micro=1_000), Counting(PROMPTS, name="answers", cost_micro=500)
    assert teach(ctx, [blocks, answers]) == "1 of 3 taught; 2 without an answer"
    assert (len(blocks.asked), len(answers.asked)) == (2, 1)
    assert money(ctx) == (2_500, 0)
    picked(ctx, "of the next round", round=1)
    again = Counting(["of the next round"], name="again", cost_micro=1)
    assert teach(replace(ctx, round=1), [again]) == "0 of 1 taught; 1 without an answer"
    assert again.asked == []


def test_another_model_of_a_teacher_is_asked_about_what_the_first_refused(ctx: Context) -> None:
    teach(ctx, [Counting(PROMPTS[:1])])
    newer = Counting(PROMPTS)
    newer.model = "newer"
    assert teach(ctx, [newer]) == "3 of 3 taught"
    assert newer.asked == list(PROMPTS[1:])


def test_what_a_person_wants_asked_again_is_asked_in_the_round_that_comes(ctx: Context) -> None:
    paid = Counting(PROMPTS, name="paid", cost_micro=800)
    in_flight(ctx, paid, "sent")
    assert teach(ctx, [paid]) == "2 of 3 taught; 1 without an answer"
    assert paid.asked == list(PROMPTS[1:])
    with ctx.store.write() as db:
        control.set_limits(db, cap_micro=None)
        steps.begin_round(db, 1, None, NOW)
        steps.begin_step(db, 1, "teach", NOW)
        call_writes.replan(db, [call.id for call in teacher_calls.in_state(db, "ambiguous")], 1)
    teach(replace(ctx, round=1), [paid])
    assert paid.asked == [*PROMPTS[1:], PROMPTS[0]]
    with ctx.store.read() as db:
        assert len(teacher_calls.traces_for(db, 1)) == 1


def test_the_policies_of_the_recipe_are_part_of_every_question(ctx: Context, tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(POLICY)
    section = ctx.recipe.teacher.model_copy(update={"policies": str(mine)})
    own = replace(ctx, recipe=ctx.recipe.model_copy(update={"teacher": section}))
    told = teachers.policies_hash(teachers.policies_of(own.recipe))
    assert told != teachers.policies_hash(teachers.policies_of(ctx.recipe))
    teacher = Counting(PROMPTS)
    teach(own, [teacher])
    with ctx.store.read() as db:
        asked = [question(teacher, one, told, SHOWN).key for one in samples.get(db, [1, 2, 3])]
        assert [call.key for call in teacher_calls.calls(db, 0)] == asked


def test_how_every_call_ended_stands_in_the_round(ctx: Context) -> None:
    teach(ctx, [Counting(PROMPTS[:1]), Counting(PROMPTS[:2], name="second")])
    with ctx.store.read() as db:
        round = steps.get_round(db, 0)
    assert round is not None
    assert round.record["teach"] == {
        "outcomes": {"recorded": {"ok": 1, "blocked": 2}, "second": {"ok": 1, "blocked": 1}},
        "untaught": 1,
        "given_up": {},
    }
