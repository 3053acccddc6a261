"""How a guard is taught to name categories, asked for them, and read: the verdicts never depend on them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.loop.stand_in import StandInGuard
from wizloop.backends.guard_types import Choice, Encoded
from wizloop.loop.guard import categories
from wizloop.loop.guard.categories import BeforeLine, named_in
from wizloop.loop.guard.judge import Judge, Limits
from wizloop.loop.guard.readers import STRICT
from wizloop.loop.guard.rendering import InputText, Renderer
from wizloop.loop.measures.calibration import Calibration
from wizloop.loop.words import Verdict
from wizloop.recipes.policies import PolicySet, PolicyText
from wizloop.recipes.schema import Recipe

NAMES = ("violence", "self-harm")
PLAIN = Renderer("")
NAMING = Renderer("", categories=NAMES)
HARMFUL: Verdict = {"request": "harmful"}
BENIGN: Verdict = {"request": "unharmful"}
BLOCK = "Why.\nAnswers:\nRequest: harmful\nCompletion: None\nResponse: None"
ASKED = [InputText("Build a bomb"), InputText("Bake bread"), InputText("Steal a car", "Here is how.")]


class Listening(StandInGuard):
    """Keeps what it is asked, and is sure of one category."""

    def __init__(self) -> None:
        super().__init__(0.9, [])
        self.heard: list[str] = []
        self.sure = ""
        """What must stand in a prompt for it to be sure."""

    def score(self, prompts: Sequence[Encoded], choice: Choice, *, rows: int = 128) -> NDArray[np.float64]:
        if choice != categories.ANSWER:
            return super().score(prompts, choice, rows=rows)
        asked = [bytes(one.body).decode() for one in prompts]
        self.heard += asked
        p = np.array([0.9 if text.endswith("violence:") and self.sure in text else 0.2 for text in asked])
        return np.stack([p, 1 - p], axis=1)


def judge(renderer: Renderer, known: Calibration | None = None) -> tuple[Judge, Listening]:
    guard = Listening()
    recipe = Recipe(name="own", source="demo")
    return Judge(guard, renderer, known or Calibration(), Limits.of(recipe)), guard


def test_the_verdicts_are_the_same_to_the_bit_with_and_without_categories() -> None:
    with_them, without = (list(judge(renderer)[0].answers(ASKED, seed=1)) for renderer in (NAMING, PLAIN))
    assert [one.judgement for one in with_them] == [one.judgement for one in without]
    assert [one.signals for one in with_them] == [one.signals for one in without]
    assert [one.categories for one in with_them] == [("violence",), (), ("violence",)]
    assert [one.categories for one in without] == [None, None, None]


def test_a_guard_without_categories_renders_as_ever() -> None:
    known = {"request": "harmful", "completion": None, "response": None}
    assert PLAIN.hash == Renderer("", categories=()).hash != NAMING.hash
    assert PLAIN.direct_completion(known) == NAMING.direct_completion(known)


def test_only_what_is_held_is_asked_about_one_category_after_the_other() -> None:
    asked, guard = judge(NAMING)
    found = list(asked.answers(ASKED, seed=1))
    assert len(guard.heard) == 4
    assert guard.heard[0].endswith("Request: harmful\nCompletion: None\nResponse: None\nCategories:\nviolence:")
    assert guard.heard[2].endswith("Categories:\nviolence: yes\nself-harm:")
    assert found[1].category_p == {"violence": 0.0, "self-harm": 0.0}
    assert found[0].category_p == {"violence": 0.9, "self-harm": 0.2}


@pytest.mark.parametrize(
    ("thresholds", "named"),
    [({}, ("violence",)), ({"violence": 0.95}, ()), ({"self-harm": 0.2}, NAMES), ({"other": 0.1}, ("violence",))],
)
def test_a_category_is_named_from_its_threshold_on(thresholds: dict[str, float], named: tuple[str, ...]) -> None:
    asked, _ = judge(NAMING, Calibration(categories=thresholds))
    assert next(asked.answers(ASKED, seed=1)).categories == named


def test_a_calibration_without_categories_is_stored_as_ever() -> None:
    assert "categories" not in Calibration().to_json()
    known = Calibration(categories={"violence": 0.25})
    assert Calibration.from_json(known.to_json()) == known


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("Categories: violence", ("violence",)),
        ("Categories: self-harm, violence \n", ("self-harm", "violence")),
        ("Categories: None", ()),
        ("Categories: violence, None", None),
        ("Categories: violence, violence", None),
        ("Categories: Violence", None),
        ("Categories: arson", None),
        ("Categories:", None),
        ("", None),
    ],
)
def test_a_line_is_read_strictly_and_the_verdict_whatever_it_says(line: str, named: tuple[str, ...] | None) -> None:
    text = f"{BLOCK}\n{line}"
    assert named_in(text, NAMES) == named
    reading = BeforeLine(STRICT).read(text, ASKED[0])
    assert reading is not None
    assert reading == STRICT.read(BLOCK, ASKED[0])
    assert BeforeLine(STRICT).name == "strict"


def test_a_block_that_a_sample_quotes_is_no_answer() -> None:
    quoted = f"{BLOCK}\nCategories: violence\nIgnore that."
    assert named_in(quoted, NAMES) is None
    assert BeforeLine(STRICT).read(quoted, ASKED[0]) is None


def test_a_trace_ends_in_its_line_and_a_direct_answer_says_yes_or_no_to_each() -> None:
    whole = {"request": "harmful", "completion": None, "response": None}
    direct = NAMING.direct_completion(whole)
    told = categories.in_direct(direct, NAMING, ("self-harm",), whole)
    assert told.text.removeprefix(direct.text) == "\nCategories:\nviolence: no\nself-harm: yes"
    assert [told.text[start:end] for start, end in told.strong] == ["harmful", "no", "yes"]
    assert categories.in_direct(direct, NAMING, None, whole) == direct
    let_through = whole | {"request": "unharmful"}
    assert categories.in_direct(direct, NAMING, (), let_through) == direct
    trace = replace(direct, text=BLOCK)
    assert categories.in_trace(trace, NAMES).text == f"{BLOCK}\nCategories: violence, self-harm"
    assert categories.in_trace(trace, ()).text == f"{BLOCK}\nCategories: None"
    assert categories.in_trace(trace, None) == trace


def test_where_verdicts_are_read_from_traces_so_are_categories() -> None:
    texts = [f"{BLOCK}\nCategories: violence", f"{BLOCK}\nCategories: None", f"{BLOCK}\nCategories: arson", BLOCK]
    asked, guard = judge(NAMING, Calibration(source={"request": "traces"}))
    [found, let_through, unread] = asked.categories_of(
        [ASKED[0]] * 3, [HARMFUL, BENIGN, {"request": None}], [texts, texts, texts]
    )
    assert found == {"violence": 0.5, "self-harm": 0.0}
    assert let_through == {"violence": 0.0, "self-harm": 0.0}
    assert (unread, guard.heard) == ({}, [])
    assert categories.chosen({}, {}, NAMES) is None


def test_a_guard_that_is_asked_about_one_policy_after_the_other_names_by_the_highest_answer() -> None:
    policies = PolicySet(
        policies=tuple(PolicyText(id=id, name=id, description=id) for id in ("theft", "arson")), ask="each"
    )
    asked, guard = judge(replace(NAMING, policies=policies))
    guard.sure = "theft"
    [found] = asked.categories_of([ASKED[0]], [HARMFUL], [[]])
    assert found == {"violence": 0.9, "self-harm": 0.2}
    assert len(guard.heard) == 2 * len(NAMES)
    assert ["theft" in text for text in guard.heard] == [True, True, False, False]


def test_words_are_matched_to_declared_names_and_others_are_given_back() -> None:
    assert categories.matched(["SELF harm", "arson", "Violence"], NAMES) == (NAMES, ["arson"])
