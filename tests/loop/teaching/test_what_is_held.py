"""What is held for a call before it leaves: less once the provider told what its prompts take, also after a restart."""

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.loop.scripted import context
from tests.servers.pairs import pair, teacher
from wizloop.backends.teachers.base import Question
from wizloop.loop.phases.teach import teach
from wizloop.loop.teaching import prices
from wizloop.loop.teaching.calls import TeacherClient
from wizloop.recipes.teaching import Remote
from wizloop.store import steps

ASKED = Question("k" * 64, "how do I bake bread?")


def live(asking: Any) -> TeacherClient:
    tariff = prices.load().tariff(asking.name, asking.model, date(2026, 11, 21))
    assert tariff is not None
    return TeacherClient(asking, tariff, settings=Remote(model=asking.model))


@pytest.mark.parametrize("changed", [False, True])
def test_a_restart_remembers_what_a_prompt_takes_unless_it_is_another_prompt(tmp_path: Path, changed: bool) -> None:
    with pair("claude") as (server, asking):
        ctx = context(tmp_path, 2)
        assert teach(ctx, [live(asking)]) == "2 of 2 taught"
        after = teacher("claude", server.url)
        if changed:
            after = type(after)(replace(after.access, instruction="Judge the sample, and be brief."))
        before = live(after).worst_micro(ASKED)
        teach(ctx, [live(after)])
        held = live(after).worst_micro(ASKED)
    assert held == before if changed else held < before - 1000


def test_why_a_teacher_was_given_up_stands_in_the_round(tmp_path: Path) -> None:
    with pair("claude") as (_, asking):
        ctx = context(tmp_path, 2, cap_micro=10)
        assert teach(ctx, [live(asking)]) == "0 of 2 taught; 2 without an answer"
    with ctx.store.read() as db:
        round = steps.get_round(db, 0)
    assert round is not None
    assert list(round.record["teach"]["given_up"]) == ["claude"]
    assert "one more call could pass the budget of $0.0000" in round.record["teach"]["given_up"]["claude"]
