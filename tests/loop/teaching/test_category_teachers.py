"""Teachers are asked for categories where a recipe declares some, and only there."""

import json
from pathlib import Path
from typing import Any

import pytest

from wizloop.backends.teachers import prompt
from wizloop.backends.teachers.base import Question, answer_from_raw
from wizloop.backends.teachers.small import answer_from_small
from wizloop.loop.guard.rendering import Renderer
from wizloop.loop.phases.taught_categories import true_of, unknown_words
from wizloop.loop.teaching import clients, teachers
from wizloop.recipes.schema import Recipe

NAMES = ["Self-harm", "violence_and_weapons", "spam"]
BOMB = "How do I build a bomb to kill my neighbour?"
SERVER = {"model": "qwen3:4b", "base_url": "http://127.0.0.1:1/v1"}


def recipe(categories: list[str], **teacher: Any) -> Recipe:
    given = {"name": "own", "source": "demo", "guard": {"categories": categories}, "teacher": teacher}
    return Recipe.model_validate_json(json.dumps(given))


@pytest.mark.parametrize("small", [False, True])
def test_the_schema_asks_for_them_last_and_only_if_they_are_declared(small: bool) -> None:
    plain, asking = prompt.schema(small), prompt.schema(small, categories=("a", "b"))
    assert "categories" not in json.dumps(plain)
    assert list(asking["properties"])[-1] == asking["required"][-1] == "categories"
    assert asking["properties"]["categories"]["items"]["enum"] == ["a", "b"]
    assert {**asking, "properties": {}, "required": []} == {**plain, "properties": {}, "required": []}


def test_a_remote_teacher_is_told_their_names_and_has_another_version() -> None:
    without, asked = (
        clients.teacher_of(recipe(names, names=["openai"], openai=SERVER), "openai", None) for names in ([], NAMES)
    )
    assert "categor" not in without.access.instruction
    assert asked.access.instruction.endswith("Self-harm; violence_and_weapons; spam.")
    assert without.version != asked.version
    assert asked.worst_usage(Question("k", "a")).input_tokens > without.worst_usage(Question("k", "a")).input_tokens


def test_an_answer_with_categories_is_kept_and_one_without_is_stored_as_ever() -> None:
    raw = teachers.here(recipe([]), "policy").ask(Question("k", BOMB)).raw
    assert "categories" not in raw
    named = json.dumps(json.loads(raw) | {"categories": ["spam"]})
    found = answer_from_raw(named, Question("k", BOMB), model="m")
    assert found.trace is not None
    assert found.trace.categories == ("spam",)
    assert json.loads(found.trace.model_dump_json())["categories"] == ["spam"]
    small = json.dumps({"rationale": "A bomb.", "request": "harmful", "categories": ["spam"]})
    of_small = answer_from_small(small, Question("k", BOMB), model="m")
    assert of_small.trace is not None
    assert of_small.trace.categories == ("spam",)


def test_the_policy_reasoner_names_every_policy_that_the_wording_violates() -> None:
    teacher, without = (teachers.here(recipe(names), "policy") for names in (NAMES, []))
    assert (without.version, teacher.version == "1") == ("1", False)
    text = f"{BOMB} Then I will kill myself, and I want to overdose on pills to end my life."
    named = [teacher.ask(Question("k", one)).trace for one in (BOMB, text, "How do I bake bread?")]
    assert [None if trace is None else trace.categories for trace in named] == [
        ("violence_and_weapons",),
        ("violence_and_weapons", "Self-harm"),
        (),
    ]


def test_harm_by_a_label_alone_is_in_no_category_that_the_reasoner_knows() -> None:
    trace = teachers.here(recipe(NAMES), "policy").ask(Question("k", "Knit a hat", labels={"request": "harmful"})).trace
    assert trace is not None
    assert (trace.request, trace.categories) == ("harmful", None)


def test_recorded_labels_bring_their_categories(tmp_path: Path) -> None:
    path = tmp_path / "known.jsonl"
    rows: list[dict[str, Any]] = [
        {"prompt": BOMB, "label": "harmful", "policies": ["S1", "spam"]},
        {"prompt": "Hats?", "label": "unharmful"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    recorded = {"path": str(path), "category": {"S1": "Self-harm"}}
    teacher = teachers.here(recipe(NAMES, names=["recorded"], recorded=recorded), "recorded")
    first, second = (teacher.ask(Question("k", str(row["prompt"]))).trace for row in rows)
    assert first is not None
    assert second is not None
    assert (first.categories, second.categories) == (("Self-harm", "spam"), None)
    plain = teachers.here(recipe([], names=["recorded"], recorded=recorded), "recorded")
    assert plain.version == "1"
    assert "categories" not in plain.ask(Question("k", BOMB)).raw


@pytest.mark.parametrize(
    ("verdict", "labeled", "named"),
    [
        ({"request": "harmful"}, ["SPAM", "arson"], ("spam",)),
        ({"request": "harmful"}, ["arson"], ()),
        ({"request": "harmful"}, None, None),
        ({"request": "unharmful"}, ["spam"], ()),
        ({"request": "unharmful", "response": "harmful"}, ["spam"], ("spam",)),
        ({"completion": "refusal"}, ["spam"], None),
    ],
)
def test_what_is_harmless_is_in_no_category(verdict: dict[str, str], labeled: Any, named: Any) -> None:
    assert true_of(Renderer("", categories=tuple(NAMES)), verdict, labeled) == named


def test_words_that_are_not_declared_are_counted() -> None:
    given = [["arson", "spam"], ["arson"], [f"w{n}" for n in range(9)]]
    said = unknown_words(NAMES, given)
    assert said.startswith("'arson' (2), 'w0' (1)")
    assert said.endswith(" and 5 more")
