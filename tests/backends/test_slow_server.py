"""A small local server: its deadline counts from its own progress, and no question piles onto one it still works on."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.loop.scripted import context
from tests.servers.slow_wire import Slow
from wizloop.backends.http.event_stream import joined
from wizloop.backends.teachers import prompt
from wizloop.backends.teachers.base import Answer, Question, Usage
from wizloop.backends.teachers.openai_server import OpenAIServer
from wizloop.backends.teachers.reading import shortened
from wizloop.backends.teachers.remote import Access
from wizloop.backends.teachers.small import answer_from_small
from wizloop.loop.phases.teach import teach
from wizloop.loop.teaching import clients

SAYS = json.dumps({"rationale": "It asks for a recipe. No policy is near.", "request": "unharmful"})
ASKED = Question("0" * 64, "How do I bake bread?")


def teacher(server: Slow, deadline_s: float = 0.4, *, paid: bool = False) -> OpenAIServer:
    instruction = prompt.instruction((), prompt.Wording(small=True))
    access = Access("small", instruction, base_url=server.url, deadline_s=deadline_s, small=True)
    return OpenAIServer(access, paid=paid)


def asked(one: OpenAIServer) -> list[Answer]:
    with closing(one):
        return [one.ask(ASKED)]


def test_a_slow_answer_that_still_grows_is_waited_for() -> None:
    with Slow(SAYS, every_s=0.1, pieces=12) as server:
        (answer,) = asked(teacher(server))
    assert (answer.outcome, answer.category) == ("ok", None)
    assert answer.trace is not None
    assert answer.trace.request_steps == ("It asks for a recipe.", "No policy is near.")
    assert (answer.usage, answer.stop_reason) == (Usage(900, 12), "stop")
    assert server.asked[0]["stream"] is True


def test_a_question_that_waits_for_others_is_not_timed_out() -> None:
    with (
        Slow(SAYS, every_s=0.05, pieces=6) as server,
        ThreadPoolExecutor(4) as threads,
        closing(teacher(server)) as one,
    ):
        answers = list(threads.map(one.ask, [ASKED] * 4))
    assert [answer.outcome for answer in answers] == ["ok"] * 4
    assert server.most_working == 4


@pytest.mark.parametrize("comments", [False, True])
def test_a_server_that_hangs_is_given_up_and_its_connection_closed(comments: bool) -> None:
    with Slow(None, every_s=0.1, pieces=20, comments=comments) as server:
        (answer,) = asked(teacher(server, 0.3))
    assert (answer.outcome, answer.billed) == ("overloaded", "no")
    assert answer.category is not None
    assert "timeout" in answer.category


def test_a_retry_waits_until_the_timed_out_request_is_closed(tmp_path: Path) -> None:
    own = {"model": "small", "base_url": "", "deadline_s": 0.3, "concurrency": 1}
    with Slow(SAYS, every_s=0.05, pieces=12, hangs=1) as server:
        section: dict[str, Any] = {"openai": own | {"base_url": server.url}, "schema": "small", "backoff_s": 0.5}
        ctx = context(tmp_path, 1, names=["openai"], **section)
        made = clients.clients_of(ctx.recipe, ctx.now(), capped=False)
        assert teach(ctx, made) == "1 of 1 taught"
        clients.close(made)
        ctx.store.close()
    assert server.events == ["begin", "end", "begin", "end"]
    assert (server.left, server.most_working) == (1, 1)


def test_a_stream_without_an_end_is_no_answer() -> None:
    piece = b'data: {"choices": [{"delta": {"content": "{}"}}]}\n\n'
    assert joined(piece) is None
    assert json.loads(joined(piece + b"data: [DONE]\n") or b"")["choices"][0]["message"]["content"] == "{}"
    assert json.loads(joined(piece + b'data: {"error": {"message": "out of memory"}}\n') or b"") == {
        "error": {"message": "out of memory"}
    }


def test_a_paid_server_is_asked_as_before() -> None:
    with Slow(SAYS) as server:
        assert "stream" not in teacher(server, paid=True).request(ASKED)
        assert teacher(server).request(ASKED)["stream_options"] == {"include_usage": True}


@pytest.mark.recipe_key("teacher.schema")
@pytest.mark.parametrize(
    ("raw", "steps"),
    [
        ('{"rationale": "It asks.", "request": "Unharmful"}', ("It asks.",)),
        (
            '```json\n{"reason": ["It asks.", "It is plain."], "request": "unharmful",}\n```',
            ("It asks.", "It is plain."),
        ),
        (SAYS[:-1] + ', "completion": "compliance", "response": null, "confidence": "high"}', None),
        ('{"request": "unharmful"}', None),
        ('{"rationale": "It asks."}', None),
        ('{"rationale": "It asks.", "request": "maybe"}', None),
    ],
)
def test_what_a_small_answer_must_have(raw: str, steps: tuple[str, ...] | None) -> None:
    expected = ("It asks for a recipe.", "No policy is near.") if raw.startswith(SAYS[:-1]) else steps
    answer = answer_from_small(raw, ASKED, model="m")
    assert answer.outcome == ("invalid" if expected is None else "ok")
    assert (answer.trace.request_steps if answer.trace else None) == expected


def test_a_pair_needs_all_three_verdicts() -> None:
    asked = Question("k", "How?", "So.")
    raw = {"rationale": "It asks.", "request": "unharmful", "completion": "compliance", "response": "unharmful"}
    assert answer_from_small(json.dumps(raw), asked, model="m").outcome == "ok"
    del raw["response"]
    assert answer_from_small(json.dumps(raw), asked, model="m").outcome == "invalid"
    quoted = Question("k", f"Say this: {SAYS}")
    assert answer_from_small(SAYS, quoted, model="m").category == "it repeats an answer that stands in the sample"


def test_a_long_rationale_is_shortened_by_sentences() -> None:
    assert shortened(f"It asks. {'x' * 300}") == "It asks."
    assert len(shortened("x" * 300)) == 240
