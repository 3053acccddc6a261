"""A parameter that a model does not take is changed once, remembered with the call, and no part of its key."""

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.loop.scripted import context
from tests.servers.pairs import pair, teacher
from tests.servers.provider import Provider, Reply
from wizloop.backends.teachers.base import Question
from wizloop.loop.context import Context
from wizloop.loop.phases.teach import teach
from wizloop.loop.teaching.calls import TeacherClient
from wizloop.recipes.teaching import Batching, Remote
from wizloop.store import teacher_calls

ROOM = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
FORMAT = "This response_format type is unavailable now"


def openai(asked: Any) -> str | None:
    """The error of a model that knows neither max_tokens nor a format of any kind."""
    if "max_tokens" in asked:
        return ROOM
    return FORMAT if "response_format" in asked else None


def claude(asked: Any) -> str | None:
    output = asked.get("output_config", {})
    if "effort" in output:
        return "This model does not support the effort parameter."
    return "output_config: Extra inputs are not permitted" if output else None


def gemini(asked: Any) -> str | None:
    made = asked["generationConfig"]
    if "thinkingConfig" in made:
        return "Thinking level is not supported for this model."
    return "JSON mode is not enabled for this model" if "responseJsonSchema" in made else None


CASES: list[tuple[str, Callable[[Any], str | None], list[str]]] = [
    ("openai", openai, ["json_object", "max_completion_tokens", "no response_format"]),
    ("claude", claude, ["no effort", "no output format"]),
    ("gemini", gemini, ["no response schema", "no thinking level"]),
]


def picky(server: Provider, refuses: Callable[[Any], str | None]) -> None:
    """Let a provider refuse live questions whose body it does not like."""
    known = server.answer

    def answer(method: str, path: str, query: dict[str, str], asked: Any) -> Reply | None:
        live = isinstance(asked, dict) and ("messages" in asked or "contents" in asked)
        why = refuses(asked) if live else None
        if why is None:
            return known(method, path, query, asked)
        return 400, {}, {"error": {"type": "invalid_request_error", "message": why, "code": 400}}

    server.answer = answer  # type: ignore[method-assign]


def live(asking: Any) -> TeacherClient:
    return TeacherClient(asking, None, settings=Remote(model=asking.model, concurrency=1))


def requests(ctx: Context) -> list[dict[str, Any]]:
    with ctx.store.read() as db:
        return [json.loads(call.request_json) for call in teacher_calls.calls(db, 0)]


@pytest.mark.parametrize(("kind", "refuses", "changes"), CASES)
def test_it_is_changed_once_and_remembered_with_each_call(
    tmp_path: Path, kind: str, refuses: Callable[[Any], str | None], changes: list[str]
) -> None:
    how = {} if kind == "openai" else {"effort": "low"}
    alone, ctx = context(tmp_path / "alone", 3), context(tmp_path / "picky", 3)
    with pair(kind) as (server, _):
        with closing(teacher(kind, server.url, deadline_s=20, **how)) as plain:
            teach(alone, [live(plain)])
        server.books.paths.clear()
        picky(server, refuses)
        with closing(teacher(kind, server.url, deadline_s=20, **how)) as asking:
            assert teach(ctx, [live(asking)]) == "3 of 3 taught"
        assert server.books.paths["ask"] == 3 + len(changes)
    assert [one["adapted"] for one in requests(ctx)] == [changes] * 3
    assert [one.get("adapted") for one in requests(alone)] == [None] * 3
    # The key is made of what the recipe asks for.
    assert keys(ctx) == keys(alone)


def keys(ctx: Context) -> list[str]:
    with ctx.store.read() as db:
        return [call.key for call in teacher_calls.calls(db, 0)]


def test_a_restart_asks_with_what_the_last_answer_took(tmp_path: Path) -> None:
    ctx = context(tmp_path, 2)
    with pair("openai") as (server, asking):
        picky(server, openai)
        teach(ctx, [live(asking)])
        server.books.paths.clear()
        with closing(teacher("openai", server.url, deadline_s=20)) as after:
            teach(ctx, [live(after)])
            assert after.ask(Question("k" * 64, "how do I bake bread")).outcome == "ok"
        assert server.books.paths["ask"] == 1


@pytest.mark.parametrize(
    ("kind", "refuses", "changes"), [case for case in CASES if case[0] != "openai"], ids=["claude", "gemini"]
)
def test_rows_of_a_batch_are_asked_once_more_in_another_way(
    tmp_path: Path, kind: str, refuses: Callable[[Any], str | None], changes: list[str]
) -> None:
    with pair(kind) as (server, _):
        row = server._row

        def checked(asked: Any) -> Any:
            why = refuses(asked["params"] if kind == "claude" else asked["request"])
            if why is None:
                return row(asked)
            if kind == "gemini":
                return {"key": asked["key"], "error": {"code": 3, "message": why}}
            error = {"type": "error", "error": {"type": "invalid_request_error", "message": why}}
            return {"custom_id": asked["custom_id"], "result": {"type": "errored", "error": error}}

        server._row = checked
        ctx, settings = context(tmp_path, 3), Batching(model="m", poll_s=0.01, settle_s=0.0)
        with closing(teacher(kind, server.url, deadline_s=20, effort="low")) as asking:
            assert teach(ctx, [TeacherClient(asking, None, settings=settings, batches=asking)]) == "3 of 3 taught"
        assert server.books.paths["submit"] == 1 + len(changes)
    assert sorted(asking.adapted) == changes
    assert [one.get("adapted") for one in requests(ctx)][-1] == changes


def test_what_no_change_mends_gives_the_teacher_up_with_the_sentence(tmp_path: Path) -> None:
    ctx = context(tmp_path, 4)
    with pair("openai") as (server, asking):
        picky(server, lambda asked: FORMAT)
        assert teach(ctx, [live(asking)]) == "0 of 4 taught; 4 without an answer"
        assert server.books.paths["ask"] == 3
    with ctx.store.read() as db:
        (call,) = teacher_calls.calls(db, 0)
    assert (call.state, call.outcome) == ("failed", "parameter")
    assert FORMAT in (call.category or "")
