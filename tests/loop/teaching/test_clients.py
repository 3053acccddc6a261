"""The recipe's teachers as the phase asks them: in its order, with its policies, its section, and the run's cap."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests import single_calls
from tests.loop.scripted import context
from tests.servers.pairs import KEY, MODELS, pair
from tests.servers.provider import Books, each, never
from wizloop.loop.context import Context
from wizloop.loop.phases import teach as phase
from wizloop.loop.teaching import clients, estimates, teachers
from wizloop.loop.teaching.estimates import BYTES_PER_TOKEN, LABEL_BYTES, Load
from wizloop.loop.teaching.prices import PriceError
from wizloop.store import samples, selections, spending, teacher_calls

MINE = """[[policy]]
id = "questions"
name = "Numbered questions"
description = "A question that has a number is against the rules of this house."
severity = "high"
keywords = ["question"]
"""
PRICED = datetime(2026, 11, 21, tzinfo=UTC)
"""A day on which the shipped prices hold."""
RECORDED = "prompt,label\nquestion 1,unharmful\nquestion 2,unharmful\n"


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with pair("claude") as (running, _):
        yield running


@pytest.fixture
def claude(server: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A provider on the loopback, with new books, where the environment says that it is."""
    server.books, server.script = Books(), never
    monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    return server


def asked(ctx: Context) -> list[tuple[str, str]]:
    """Return who was asked and how it ended, in order."""
    with ctx.store.read() as db:
        return [(call.teacher, call.state) for call in teacher_calls.calls(db, 0)]


@pytest.fixture
def own(tmp_path: Path) -> dict[str, Any]:
    """Settings with two teachers that run here: recorded labels, and policies that call every question harmful."""
    (tmp_path / "mine.toml").write_text(MINE)
    (tmp_path / "known.csv").write_text(RECORDED)
    return {"policies": str(tmp_path / "mine.toml"), "recorded": {"path": str(tmp_path / "known.csv")}}


@pytest.mark.parametrize("names", [["recorded", "policy"], ["policy", "recorded"]])
def test_the_recipes_order_is_who_is_asked_first(tmp_path: Path, own: dict[str, Any], names: list[str]) -> None:
    ctx = context(tmp_path / "runs", 3, names=names, **own)
    assert phase.run(ctx) == "3 of 3 taught"
    with ctx.store.read() as db:
        said = [(one.teacher, one.verdict["request"]) for one in teacher_calls.traces(db, 0)]
    first = {
        "recorded": [("recorded", "unharmful")] * 2 + [("policy", "harmful")],
        "policy": [("policy", "harmful")] * 3,
    }
    assert said == first[names[0]]


def test_the_policy_reasoner_reads_the_recipes_policies(tmp_path: Path, own: dict[str, Any]) -> None:
    verdicts = []
    for name, policies in (("mine", own["policies"]), ("shipped", None)):
        ctx = context(tmp_path / name, 1, names=["policy"], policies=policies)
        phase.run(ctx)
        with ctx.store.read() as db:
            verdicts.append(teacher_calls.traces(db, 0)[0].verdict["request"])
    assert verdicts == ["harmful", "unharmful"]


@pytest.mark.parametrize("mine", [True, False])
def test_a_provider_is_told_the_recipes_policies(tmp_path: Path, own: dict[str, Any], claude: Any, mine: bool) -> None:
    ctx = context(tmp_path / "runs", 1, names=["claude"], policies=own["policies"] if mine else None)
    assert phase.run(ctx) == "1 of 1 taught"
    (body,) = [json.dumps(one) for one in claude.books.bodies if one]
    told = {policy.description for policy in teachers.policies_of(ctx.recipe)}
    assert told
    assert {one for one in told if json.dumps(one)[1:-1] in body} == told
    assert ("has a number is against the rules" in body) == mine


def test_a_provider_is_asked_as_its_section_says(tmp_path: Path, claude: Any) -> None:
    section = {"model": MODELS["claude"], "max_tokens": 777, "effort": "low"}
    assert phase.run(context(tmp_path / "runs", 1, names=["claude"], claude=section)) == "1 of 1 taught"
    (body,) = [one for one in claude.books.bodies if one]
    assert (body["model"], body["max_tokens"]) == (MODELS["claude"], 777)
    assert body["output_config"]["effort"] == "low"


@pytest.mark.parametrize(("mode", "path"), [("live", "ask"), ("batch", "submit")])
def test_a_provider_is_asked_live_or_in_a_batch(tmp_path: Path, claude: Any, mode: str, path: str) -> None:
    section = {"mode": mode, "poll_s": 0.01, "settle_s": 0.0}
    assert phase.run(context(tmp_path / "runs", 2, names=["claude"], claude=section)) == "2 of 2 taught"
    assert (claude.books.paths["ask"] > 0, claude.books.paths["submit"] > 0) == (path == "ask", path == "submit")


def test_what_a_provider_refuses_is_put_to_the_next_and_nothing_else_is(
    tmp_path: Path, own: dict[str, Any], claude: Any
) -> None:
    claude.script = each("refusal")
    section = {"concurrency": 1}
    ctx = context(tmp_path / "runs", 3, names=["claude", "recorded"], claude=section, recorded=own["recorded"])
    assert phase.run(ctx) == "3 of 3 taught"
    assert asked(ctx) == [("claude", "refused"), ("claude", "parsed"), ("claude", "parsed"), ("recorded", "parsed")]


def test_the_runs_cap_is_kept_at_the_price_of_the_model(tmp_path: Path, own: dict[str, Any], claude: Any) -> None:
    names = {"names": ["claude", "recorded"], "recorded": own["recorded"], "claude": {"concurrency": 1}}
    dear = replace(context(tmp_path / "dear", 2, cap_micro=1, **names), now=lambda: PRICED)
    assert phase.run(dear) == "2 of 2 taught"
    assert asked(dear)[-2:] == [("recorded", "parsed")] * 2
    assert claude.books.paths["ask"] == 0
    free = replace(context(tmp_path / "free", 2, cap_micro=None, **names), now=lambda: PRICED)
    assert phase.run(free) == "2 of 2 taught"
    assert asked(free) == [("claude", "parsed")] * 2
    with free.store.read() as db:
        sent = single_calls.sending(db, 1)
        assert spending.budget(db).settled_micro >= claude.books.bill_micro > 0
    assert sent is not None
    assert MODELS["claude"] in {one["model"] for one in json.loads(sent.price_json or "[]")}


def test_a_price_that_nobody_knows_is_refused_where_there_is_a_cap(tmp_path: Path, claude: Any) -> None:
    unknown = {"names": ["claude"], "claude": {"model": "claude-unknown-1"}}
    with pytest.raises(PriceError, match="the price of claude's claude-unknown-1 is not known"):
        phase.run(context(tmp_path / "capped", 1, cap_micro=10**6, **unknown))
    assert claude.books.paths["ask"] == 0
    free = context(tmp_path / "free", 1, cap_micro=None, **unknown)
    phase.run(free)
    assert claude.books.paths["ask"] == 1


def test_another_run_of_the_phase_pays_for_what_is_new_alone(tmp_path: Path, claude: Any) -> None:
    ctx = context(tmp_path / "runs", 2, names=["claude"])
    assert phase.run(ctx) == "2 of 2 taught"
    with ctx.store.write() as db:
        samples.add(db, [samples.NewSample("pool", "question 3", None, "made", "row")], ctx.now())
        selections.add(db, [selections.Selection(0, 3, "random", 0.0, 3, None, "By chance.")])
    assert phase.run(replace(ctx)) == "3 of 3 taught"
    assert claude.books.paths["ask"] == 3
    assert set(claude.books.billed.values()) == {1}


@pytest.mark.parametrize("paid", [True, False])
def test_a_server_that_costs_nothing_is_free_to_be_asked_again(tmp_path: Path, paid: bool) -> None:
    section = {"base_url": "http://127.0.0.1:9/v1", "model": "m", "paid": paid}
    ctx = context(tmp_path, 1, names=["openai"], openai=section)
    assert clients.teacher_of(ctx.recipe, "openai", None).free is not paid


def test_each_task_of_a_pair_adds_a_label_to_a_small_answer(tmp_path: Path) -> None:
    section = {"base_url": "http://127.0.0.1:9/v1", "model": "m"}
    ctx = context(tmp_path, 1, names=["openai"], openai=section, schema="small")
    asked = clients.client_of(ctx.recipe, "openai", None, None)
    alone, pairs = (estimates.expected(asked, Load(100, 0, n), None, paid=False).output_tokens for n in (0, 100))
    assert pairs - alone == round(2 * 100 * LABEL_BYTES / BYTES_PER_TOKEN["openai"])
