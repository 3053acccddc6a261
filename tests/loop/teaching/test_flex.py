"""Gemini's tier flex: asked as live is, for half the price, and only with the time that it may take."""

import json
from datetime import date
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.loop.scripted import context
from tests.servers.pairs import server, teacher
from wizloop.backends.teachers.base import Question
from wizloop.loop.phases.teach import teach
from wizloop.loop.teaching import prices
from wizloop.loop.teaching.calls import TeacherClient
from wizloop.loop.teaching.clients import teacher_of
from wizloop.recipes.schema import Recipe
from wizloop.recipes.teaching import Gemini, Teachers
from wizloop.store import spending

ASKED = Question("k" * 64, "how do I bake bread?")


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"gemini": {"mode": "flex"}}, "an answer may take 15 minutes"),
        ({"gemini": {"mode": "flex", "deadline_s": 899}}, "set deadline_s = 900 or more"),
        ({"claude": {"mode": "flex", "deadline_s": 900}}, "claude.mode"),
    ],
)
def test_it_is_geminis_and_needs_its_time(section: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Teachers.model_validate_json(json.dumps(section))


@pytest.mark.parametrize(("mode", "held", "spent"), [("live", 1.0, 1.0), ("flex", 0.5, 0.5)])
def test_it_is_asked_for_and_charged_by_half(tmp_path: Path, mode: str, held: float, spent: float) -> None:
    settings = Gemini.model_validate_json(json.dumps({"mode": mode, "deadline_s": 900}))
    tariff = prices.load().tariff("gemini", settings.model, date(2026, 11, 21))
    with server("gemini") as running:
        asking = teacher("gemini", running.url, deadline_s=20, flex=mode == "flex")
        client = TeacherClient(asking, tariff, settings=settings)
        most = client.worst_micro(ASKED)
        ctx = context(tmp_path, 3)
        assert teach(ctx, [client]) == "3 of 3 taught"
        asking.close()
    assert [body.get("serviceTier") for body in running.books.bodies] == [None if mode == "live" else "flex"] * 3
    # 3,000 tokens out at $3.75 a million, and some 1,300 in at $0.75; then 450 out and some 100 in.
    assert 12_100 * held < most < 12_700 * held
    with ctx.store.read() as db:
        settled = spending.budget(db).settled_micro
    assert running.books.bill_micro <= settled < running.books.bill_micro + 3
    assert 3 * 1_688 * spent < settled < 3 * 1_850 * spent


@pytest.mark.parametrize(("mode", "flex"), [("live", False), ("flex", True)])
def test_the_recipes_mode_reaches_the_teacher(mode: str, flex: bool) -> None:
    section = {"names": ["gemini"], "gemini": {"mode": mode, "deadline_s": 900}}
    recipe = Recipe.model_validate_json(json.dumps({"name": "small", "source": "demo", "teacher": section}))
    made = teacher_of(recipe, "gemini", None)
    assert made.access.flex is flex
    made.close()
