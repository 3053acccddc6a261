"""What training prompts show of the policies, and the label that follows from it."""

import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pytest

from wizloop.loop.guard.rendering import Renderer
from wizloop.loop.phases.policy_lessons import (
    ONLY_LEFT_OUT,
    UNKNOWN,
    Shown,
    following,
    shown,
    violated_by,
)
from wizloop.recipes.policies import PolicySet, PolicyText
from wizloop.store.teacher_calls import TeacherTrace

NAMES = ("Horses", "Taxes", "Ships", "Stars")
SET = PolicySet(
    policies=tuple(
        PolicyText(id=name.lower(), name=name, description=f"On {name}.", wordings=(f"About {name}.",))
        for name in NAMES
    ),
    left_out=("stars",),
)
HARMFUL, HARMLESS = {"request": "harmful"}, {"request": "unharmful"}


def drawn(verdict: dict[str, str], violated: Sequence[str], policies: PolicySet = SET, n: int = 200) -> list[Shown]:
    renderer = Renderer("", policies=policies, shown="all")
    found = [shown(renderer, verdict, violated, np.random.default_rng(seed)) for seed in range(n)]
    return [one for one in found if isinstance(one, Shown)]


def names(one: Shown) -> list[str]:
    return [line[2:].partition(":")[0] for line in one.varied.shown.splitlines()[1:]]


def test_order_wording_and_number_vary_and_what_is_left_out_is_never_shown() -> None:
    found = drawn(HARMLESS, ())
    assert {len(names(one)) for one in found} == {1, 2, 3}
    assert len({tuple(names(one)) for one in found}) > 10
    assert {"On Horses", "About Horses"} == {
        text for one in found for text in ("On Horses", "About Horses") if text in one.varied.shown
    }
    assert not any("Stars" in one.varied.shown + one.asked.shown for one in found)
    assert not any(one.follows for one in found)


def test_an_example_is_unharmful_only_where_no_violated_policy_is_shown() -> None:
    found = drawn(HARMFUL, ["horses", "taxes"])
    assert [one.follows for one in found] == [not {"Horses", "Taxes"} & set(names(one)) for one in found]
    assert 0.15 < sum(one.follows for one in found) / len(found) < 0.35
    # What is violated is dropped as a whole or not at all.
    assert all(one.follows or {"Horses", "Taxes"} <= set(names(one)) for one in found)
    assert all(one.asked.shown.count("\n- ") == 3 for one in found)


def test_the_same_draw_gives_the_same_prompt() -> None:
    assert drawn(HARMFUL, ["horses"], n=20) == drawn(HARMFUL, ["horses"], n=20)


def test_harm_of_no_known_policy_is_shown_all_of_them() -> None:
    assert {len(names(one)) for one in drawn(HARMFUL, ())} == {3}
    assert not any(one.follows for one in drawn(HARMFUL, ()))


def test_without_variation_every_prompt_is_the_same() -> None:
    found = drawn(HARMFUL, ["horses"], SET.model_copy(update={"vary": False}))
    assert {one.varied.shown for one in found} == {found[0].asked.shown}
    assert names(found[0]) == ["Horses", "Taxes", "Ships"]


@pytest.mark.parametrize(
    ("violated", "ask", "why"),
    [(["stars"], "all", ONLY_LEFT_OUT), (["stars"], "each", ONLY_LEFT_OUT), ([], "each", UNKNOWN)],
)
def test_some_samples_are_not_trained_on(violated: list[str], ask: str, why: str) -> None:
    renderer = Renderer("", policies=SET.model_copy(update={"ask": ask}), shown="all")
    assert shown(renderer, HARMFUL, violated, np.random.default_rng(0)) == why
    assert isinstance(shown(renderer, HARMLESS, violated, np.random.default_rng(0)), Shown)


def test_a_question_about_one_policy_has_both_verdicts() -> None:
    found = drawn(HARMFUL, ["horses"], SET.model_copy(update={"ask": "each"}))
    assert {len(names(one)) for one in found} == {1}
    assert [one.follows for one in found] == [names(one) != ["Horses"] for one in found]
    assert 60 < Counter(one.follows for one in found)[True] < 140
    # Pairs are mined in the question whose answer is the label.
    assert all("Horses" in one.asked.shown and one.asked.policies is None for one in found)


def test_a_guard_without_policies_is_asked_as_it_was() -> None:
    plain = Renderer("Judge it.")
    assert shown(plain, HARMFUL, (), np.random.default_rng(0)) == Shown(plain, plain, follows=False)


def trace(explanation: str = "Why.", **written: object) -> TeacherTrace:
    verdict: dict[str, str | None] = {"request": "harmful", "completion": "refusal", "response": "unharmful"}
    steps = json.dumps({"request": ["It is on ships."], "completion": ["No."], "response": []})
    known = json.dumps({"harmful_uses": [], **written})
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return TeacherTrace(1, 1, 1, 0, "policy", verdict, "high", known, explanation, steps, now)


@pytest.mark.parametrize(
    ("label", "made", "ids"),
    [
        ("Horses, taxes", trace("Ships: explicit wording."), ("horses", "taxes")),
        ("attack 7", trace("Taxes: explicit wording."), ("taxes",)),
        (None, trace("Horses.", categories=["Stars"]), ("stars",)),
        (None, trace("Bad.", harmful_uses=["Horses: On Horses."]), ("horses",)),
        (None, trace("Bad."), ("ships",)),
        (None, None, ()),
    ],
)
def test_labels_come_before_what_a_trace_names(
    label: str | None, made: TeacherTrace | None, ids: tuple[str, ...]
) -> None:
    assert violated_by(SET, label, made) == ids


def test_a_trace_that_follows_what_is_shown_says_so_and_keeps_the_refusal() -> None:
    found = following(trace())
    assert found.verdict == {"request": "unharmful", "completion": "refusal", "response": "unharmful"}
    assert found.explanation == "No policy that is shown covers this; the assistant refuses."
    assert json.loads(found.steps_json) == {
        "request": ["None of the policies that are shown covers this."],
        "completion": ["No."],
        "response": [],
    }
