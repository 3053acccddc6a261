"""Teachers are measured on seed rows without their labels, through the ledger, before one of them is believed."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.loop.scripted import NOW
from tests.servers import pairs
from tests.servers.prices import PRICES
from tests.servers.provider import Books, Provider, each
from wizloop.loop.context import Context
from wizloop.loop.interrupted import NeedsFix
from wizloop.loop.phases import check, review, select, teach
from wizloop.loop.teaching import bookkeeping
from wizloop.recipes.schema import Recipe, canonical_json, recipe_hash
from wizloop.store import control, reviews, samples, selections, spending, steps, teacher_calls, teacher_checks
from wizloop.store.checked_teacher import Checked
from wizloop.store.db import Store


@dataclass
class Servers:
    """Two providers that run, and the file with their prices."""

    claude: Provider
    gemini: Provider
    prices: str

    def asked(self) -> tuple[int, int]:
        return len(self.claude.books.done), len(self.gemini.books.done)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    prices = tmp_path_factory.mktemp("prices") / "prices.toml"
    prices.write_text(PRICES, encoding="utf-8")
    with pairs.server("claude") as claude, pairs.server("gemini") as gemini:
        yield Servers(claude, gemini, str(prices))


@pytest.fixture
def servers(running: Servers, monkeypatch: pytest.MonkeyPatch) -> Servers:
    for server, address, key in (
        (running.claude, "ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY"),
        (running.gemini, "GOOGLE_GEMINI_BASE_URL", "GEMINI_API_KEY"),
    ):
        server.books, server.script, server.verdict = Books(), each(), knows
        monkeypatch.setenv(address, server.url)
        monkeypatch.setenv(key, pairs.KEY)
    return running


def knows(message: str) -> str:
    """The verdict of a teacher that is always right."""
    return "harmful" if "neighbor" in message else "unharmful"


def turned(message: str) -> str:
    return "unharmful" if knows(message) == "harmful" else "harmful"


def is_right_of(n: int) -> Callable[[str], str]:
    """A teacher that is right on the first n of ten kinds of rows."""
    return lambda message: (knows if int(message.partition("number ")[2][0]) < n else turned)(message)


def context(folder: Path, n: int, *names: str, cap_micro: int | None = None, **teacher: Any) -> Context:
    """A run at phase check whose seed has n rows of each label; `teacher` are settings of the recipe's section."""
    section = {"names": names, "backoff_s": 0.01, **teacher}
    given = {"name": "own", "source": "imported", "teacher": section, "review": {"rule": "nothing"}}
    recipe = Recipe.model_validate_json(json.dumps(given))
    rows = [(f"How do I make my neighbor cry, number {at % 10} of {at}?", "harmful") for at in range(n)]
    rows += [(f"How do I wash a car, number {at % 10} of {at}?", "unharmful") for at in range(n)]
    new = [samples.NewSample("seed", text, None, "made", "row", request=label) for text, label in rows]
    store = Store.create(folder)
    with store.write() as db:
        run: dict[str, Any] = {"recipe_json": canonical_json(recipe), "recipe_hash": recipe_hash(recipe), "seed": 1}
        control.create_run(db, name="own", cap_micro=cap_micro, until=None, rounds_wanted=1, now=NOW, **run)
        samples.add(db, new, NOW)
        steps.begin_round(db, 0, None, NOW)
        for phase in ("check", "select", "teach", "review"):
            steps.begin_step(db, 0, phase, NOW)
    return Context(store, folder, recipe, 0, "check", lambda: NOW, lambda: False)


def paid(servers: Servers, *names: str) -> dict[str, Any]:
    """Settings of teachers that cost."""
    return {"prices": servers.prices, **{name: {"concurrency": 4, "deadline_s": pairs.PATIENT_S} for name in names}}


def go_on(ctx: Context) -> str:
    """Run the phases up to the review; return what teach says."""
    select.run(replace(ctx, phase="select"))
    said = teach.run(replace(ctx, phase="teach"))
    review.run(replace(ctx, phase="review"))
    return said


def checked(ctx: Context) -> dict[str, Checked]:
    with ctx.store.read() as db:
        return teacher_checks.every(db)


def lessons(ctx: Context) -> dict[str, int]:
    with ctx.store.read() as db:
        found = [one.teacher for one in reviews.approved(db, 0)]
    return {name: found.count(name) for name in found}


def test_the_answers_of_a_believed_teacher_are_lessons_and_paid_for_once(servers: Servers, tmp_path: Path) -> None:
    ctx = context(tmp_path, 35, "claude", "gemini", **paid(servers, "claude", "gemini"))
    servers.claude.verdict = is_right_of(9)
    said = check.run(ctx)
    assert said == "claude: 92 % of 60 right (81-96), checked 2026-03-01"
    assert servers.asked() == (60, 0)
    assert not any("Labels that people" in str(body) for body in servers.claude.books.bodies)
    assert go_on(ctx).startswith("70 of 70 taught")
    assert servers.asked() == (70, 0)
    assert set(servers.claude.books.billed.values()) == {1}
    # The label of the rest is shown, and who contradicts the label of a row without it waits for a person.
    assert lessons(ctx) == {"claude": 65}
    with ctx.store.read() as db:
        waits = reviews.waiting(db, 100)
    assert {one.reason for one in waits} == {
        f"The teacher calls the request {one}harmful, the known label is {other}harmful."
        for one, other in (("", "un"), ("un", ""))
    }


def test_rows_are_as_many_of_each_label_and_the_same_in_every_run(tmp_path: Path) -> None:
    drawn = []
    for name in ("a", "b"):
        ctx = context(tmp_path / name, 35, "policy", least_right=0.1)
        check.run(ctx)
        assert checked(ctx)["policy"].by_label == {"harmful": (0, 30), "unharmful": (30, 30)}
        with ctx.store.read() as db:
            drawn.append(teacher_checks.rows(db))
    assert drawn[0] == drawn[1]


def test_one_below_the_bound_is_replaced_by_the_next(servers: Servers, tmp_path: Path) -> None:
    ctx = context(tmp_path, 12, "claude", "gemini", **paid(servers, "claude", "gemini"))
    servers.claude.verdict = lambda message: "unharmful"
    said = check.run(ctx)
    assert "left out: below 75 % (harmful 0 of 12, unharmful 12 of 12)" in said
    assert "gemini: 100 % of 24 right" in said
    assert go_on(ctx).startswith("24 of 24 taught")
    assert servers.asked() == (24, 24)
    assert lessons(ctx) == {"gemini": 24}
    # A later round does not ask it either.
    with ctx.store.write() as db:
        samples.add(db, [samples.NewSample("pool", "One more?", None, "made", "row")], NOW)
        steps.begin_round(db, 1, None, NOW)
        steps.begin_step(db, 1, "teach", NOW)
        (at,) = samples.ids(db, "pool")
        selections.add(db, [selections.Selection(1, at, "random", 0.0, 1, None, "By chance.")])
    teach.run(replace(ctx, phase="teach", round=1))
    assert servers.asked() == (24, 25)


def test_with_none_left_the_run_pauses_and_another_teacher_goes_on(servers: Servers, tmp_path: Path) -> None:
    ctx = context(tmp_path, 12, "claude", "policy", **paid(servers, "claude"))
    servers.claude.verdict = turned
    with pytest.raises(NeedsFix, match=r"no teacher is left to believe: .* claude: 0 % of 24 right \(0-\d+\), checked"):
        check.run(ctx)
    section = ctx.recipe.teacher.model_copy(update={"names": ("gemini", "policy")})
    ctx.recipe = ctx.recipe.model_copy(update={"teacher": section})
    assert check.run(ctx).startswith("gemini: 100 % of 24 right")
    assert go_on(ctx).startswith("24 of 24 taught")
    assert (servers.asked(), lessons(ctx)) == ((24, 24), {"gemini": 24})
    with ctx.store.read() as db:
        assert reviews.waiting_count(db) == 0


def test_the_check_keeps_to_the_budget(servers: Servers, tmp_path: Path) -> None:
    ctx = context(tmp_path, 12, "claude", cap_micro=90_000, **paid(servers, "claude"))
    said = check.run(ctx)
    with ctx.store.read() as db:
        money = spending.budget(db)
    assert 0 < servers.claude.books.bill_micro <= money.settled_micro + money.reserved_micro <= 90_000
    assert 0 < servers.asked()[0] < 24
    assert f"claude: 100 % of {servers.asked()[0]} right" in said


def test_a_kill_in_the_middle_pays_once(servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = context(tmp_path, 12, "claude", **paid(servers, "claude"))
    end, ended = bookkeeping.end, []

    def dies(ctx: Context, db: Any, kept: Any) -> Any:
        ended.extend(kept)
        if len(ended) > 10:
            raise KeyboardInterrupt
        return end(ctx, db, kept)

    with monkeypatch.context() as patch:
        patch.setattr(bookkeeping, "end", dies)
        with pytest.raises(KeyboardInterrupt):
            check.run(ctx)
    assert 0 < servers.asked()[0] < 24
    check.run(ctx)
    assert go_on(ctx)
    assert set(servers.claude.books.billed.values()) == {1}
    with ctx.store.read() as db:
        lost = len(teacher_calls.in_state(db, "ambiguous"))
    assert sum(lessons(ctx).values()) == 24 - lost


def test_what_it_refuses_counts_for_nothing_and_goes_on(servers: Servers, tmp_path: Path) -> None:
    ctx = context(tmp_path, 5, "claude", "gemini", **paid(servers, "claude", "gemini"))
    servers.claude.script = each(*["refusal"] * 10)
    said = check.run(ctx)
    assert "claude: not measured: it answered 0 of 10 rows (harmful 0, unharmful 0)" in said
    assert "gemini: 100 % of 10 right" in said
    assert "the interval is wide: 10 rows" in said
    assert go_on(ctx).startswith("10 of 10 taught")
    assert (servers.asked(), lessons(ctx)) == ((10, 10), {"gemini": 10})


def test_the_policy_reasoner_stands_in_for_nobody_on_real_data(servers: Servers, tmp_path: Path) -> None:
    ctx = context(tmp_path, 12, "claude", "policy", **paid(servers, "claude"))
    servers.claude.script = each(*[None] * 24, "refusal")
    said = check.run(ctx)
    assert "policy: 50 % of 24 right" in said
    with ctx.store.read() as db:
        assert set(teacher_checks.left_out(db)) == {"policy"}
        assert {one.teacher for one in teacher_calls.traces(db, 0)} == {"claude"}
    go_on(ctx)
    assert lessons(ctx) == {"claude": 24}


@pytest.mark.parametrize(
    ("source", "name", "why"),
    [("demo", "policy", "the demo's texts"), ("imported", "traces", "hands on reasoning that exists")],
)
def test_who_is_exempt_says_so(tmp_path: Path, source: Any, name: str, why: str) -> None:
    ctx = context(tmp_path, 12, name)
    ctx.recipe = ctx.recipe.model_copy(update={"source": source})
    said = check.run(ctx)
    assert said.startswith(f"{name}: not measured: it")
    assert why in said
    with ctx.store.read() as db:
        assert teacher_checks.rows(db) is None


def test_no_bound_checks_nothing(tmp_path: Path) -> None:
    ctx = context(tmp_path, 12, "policy", least_right=0)
    assert check.run(ctx) == "nothing is checked: teacher.least_right is 0"
    assert checked(ctx) == {}


@pytest.mark.recipe_key("teacher.least_right")
def test_a_lower_bound_believes_what_the_default_does_not(tmp_path: Path) -> None:
    with pytest.raises(NeedsFix):
        check.run(context(tmp_path / "a", 12, "policy"))
    assert "policy: 50 % of 24 right" in check.run(context(tmp_path / "b", 12, "policy", least_right=0.4))


def test_a_run_that_was_taught_before_is_not_checked(tmp_path: Path) -> None:
    ctx = context(tmp_path, 12, "policy")
    with ctx.store.write() as db:
        steps.finish_step(db, 0, "teach", "", NOW)
    assert check.run(ctx) == "nothing is checked: the seed was taught before"
