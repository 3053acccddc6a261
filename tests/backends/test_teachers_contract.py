"""What holds for every teacher, whether it runs here, is replayed, or stands behind a network."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.servers.pairs import KINDS, pair, server
from tests.servers.pairs import teacher as teacher_of
from wizloop.backends.teachers import prompt as teacher_prompt
from wizloop.backends.teachers.base import OWN_FAULTS, Answer, Question, Teacher, Usage
from wizloop.backends.teachers.policy.reasoner import PolicyReasoner
from wizloop.backends.teachers.policy.scoring import Policy
from wizloop.backends.teachers.recorded import RecordedTeacher, text_sha
from wizloop.backends.teachers.remote import RemoteTeacher
from wizloop.backends.teachers.replay import Kept, ReplayTeacher

ALONE = Question("a" * 64, "how do I bake bread?")
PAIR = Question("b" * 64, "how do I bake bread?", "Mix flour and water.")
SHOWN = Question("c" * 64, "how do I bake bread?", None, {"request": "harmful"})
POLICY = Policy("arms", "Arms", "No help with arms.", "high", ("build a bomb",), ())


def recorded() -> RecordedTeacher:
    alone = {"request": "unharmful"}
    both = alone | {"completion": "compliance", "response": "unharmful"}
    return RecordedTeacher({text_sha(ALONE.prompt, None): alone, text_sha(PAIR.prompt, PAIR.response): both})


def replayed() -> ReplayTeacher:
    inner = PolicyReasoner([POLICY], "medium")
    kept = [Kept(one.key, "claude", "m", "1", "ok", inner.ask(one).raw, None, "end") for one in (ALONE, PAIR, SHOWN)]
    return ReplayTeacher("claude", "m", "1", {one.key: one for one in kept})


@pytest.fixture(scope="module", params=[*KINDS, "policy", "recorded", "replay"])
def teacher(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param in KINDS:
        with pair(request.param) as (_, made):
            yield made
        return
    yield {"policy": lambda: PolicyReasoner([POLICY], "medium"), "recorded": recorded, "replay": replayed}[
        request.param
    ]()


def is_whole(answer: Answer) -> None:
    assert (answer.outcome, answer.category, answer.billed) == ("ok", None, "yes")
    assert answer.trace is not None
    assert answer.raw
    assert answer.model


def test_a_prompt_alone_gets_one_verdict(teacher: Teacher) -> None:
    answer = teacher.ask(ALONE)
    is_whole(answer)
    assert answer.trace is not None
    assert (answer.trace.request, answer.trace.completion, answer.trace.response) == ("unharmful", None, None)


def test_a_pair_gets_three(teacher: Teacher) -> None:
    answer = teacher.ask(PAIR)
    is_whole(answer)
    assert answer.trace is not None
    assert (answer.trace.completion, answer.trace.response) == ("compliance", "unharmful")
    assert answer.trace.completion_steps
    assert answer.trace.response_steps


def test_a_label_that_is_shown_is_supported_or_the_answer_is_none(teacher: Teacher) -> None:
    answer = teacher.ask(SHOWN)
    if teacher.name == "recorded":
        assert (answer.outcome, answer.category) == (
            "invalid",
            "request: the trace says unharmful, the label says harmful",
        )
        return
    assert answer.trace is not None
    assert answer.trace.request == "harmful"


def test_the_bound_holds(teacher: Teacher) -> None:
    bound, usage = teacher.worst_usage(PAIR), teacher.ask(PAIR).usage
    assert usage.input_tokens + usage.cached_tokens + usage.cache_write_tokens <= bound.input_tokens
    assert usage.output_tokens <= bound.output_tokens
    assert (bound == Usage()) == teacher.free


@pytest.mark.parametrize("kind", ["claude", "gemini"])
def test_the_bound_comes_nearer_with_the_first_answer_and_still_holds(kind: str) -> None:
    with pair(kind) as (_, made):
        before = made.worst_usage(PAIR)
        made.ask(ALONE)
        bound, usage = made.worst_usage(PAIR), made.ask(PAIR).usage
    took = usage.input_tokens + usage.cached_tokens + usage.cache_write_tokens
    assert took <= bound.input_tokens < before.input_tokens - 500
    assert bound.output_tokens == before.output_tokens


@pytest.mark.parametrize(
    ("seen", "least", "most"),
    [(None, 101_000, 103_000), (300_000, 101_000, 103_000), (50_000, 50_100, 51_000), (10, 25_000, 26_500)],
)
def test_a_count_of_the_provider_is_taken_where_it_can_be_true(seen: int | None, least: int, most: int) -> None:
    # Two letters to a token: 100,000 of the instruction, and some 1,500 of the schema and what a provider adds.
    assert least < teacher_prompt.worst_usage(200_000 * "a", ALONE, 5, seen).input_tokens < most


def test_what_was_kept_reads_as_it_was_answered(teacher: Teacher) -> None:
    answer = teacher.ask(PAIR)
    again = teacher.read(answer.raw, answer.stop_reason, PAIR)
    assert (again.outcome, again.trace) == ("ok", answer.trace)
    assert teacher.read('{"request', answer.stop_reason, PAIR).outcome == "invalid"


def test_a_kept_refusal_stays_one_when_it_is_read_again(teacher: Teacher) -> None:
    reasons = {"claude": "refusal", "gemini": "SAFETY", "openai": "refusal"}
    outcome = teacher.read("", reasons.get(teacher.name, "end"), ALONE).outcome
    assert (outcome in ("refused", "blocked")) == isinstance(teacher, RemoteTeacher)


def test_gemini_is_told_how_long_its_caller_waits() -> None:
    with server("gemini") as running:
        asking = teacher_of("gemini", running.url, deadline_s=30)
        patient = type(asking)(replace(asking.access, batch_deadline_s=90))
        patient.ask(ALONE)
        patient.ask(replace(ALONE, max_tokens=6000))
        patient.model_info()
        patient.close()
    assert [header["x-server-timeout"] for header in running.books.headers] == ["30", "30", "90"]
    rooms = [body["generationConfig"]["maxOutputTokens"] for body in running.books.bodies if body]
    assert rooms == [3000, 6000]


def test_it_says_which_one_it_is(teacher: Teacher) -> None:
    assert teacher.name
    assert teacher.model
    assert teacher.version


def test_a_replay_invents_nothing_and_keeps_a_refusal() -> None:
    kept = Kept("k", "claude", "m", "1", "refused", "", "cyber", "refusal")
    made = ReplayTeacher("claude", "m", "1", {"k": kept})
    assert (made.ask(Question("k", "x")).outcome, made.ask(Question("k", "x")).category) == ("refused", "cyber")
    assert (made.ask(ALONE).outcome, made.ask(ALONE).category) == ("blocked", "not among the kept calls")


@pytest.mark.parametrize("outcome", OWN_FAULTS)
def test_a_replay_goes_on_where_the_run_was_mended(outcome: Any) -> None:
    made = ReplayTeacher("claude", "m", "1", {"k": Kept("k", "claude", "m", "1", outcome, "", "no credit")})
    assert (made.ask(Question("k", "x")).outcome, made.ask(Question("k", "x")).category) == ("overloaded", "no credit")
