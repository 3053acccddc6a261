"""One's own tasks and label words in a recipe."""

import json
from pathlib import Path
from typing import Any

import pytest

from wizloop.recipes import schema
from wizloop.recipes.schema import Recipe, RecipeError, canonical_json, stored
from wizloop.recipes.tasks import Tasks

ALONE: dict[str, Any] = {"completion": [], "response": []}


def loaded(tmp_path: Path, tasks: str, more: str = "") -> Recipe:
    path = tmp_path / "own.toml"
    path.write_text(f'name = "own"\nsource = "imported"\n{more}\n[tasks]\n{tasks}\n')
    return schema.load(path)


def test_a_declaration_is_kept_in_its_order(tmp_path: Path) -> None:
    tasks = 'request = ["harmful", "controversial", "unharmful"]\nresponse = []\nblocks = "all but last"'
    found = stored(canonical_json(loaded(tmp_path, tasks))).tasks
    assert found.request == ("harmful", "controversial", "unharmful")
    assert (found.completion, found.response, found.blocks) == (Tasks().completion, (), "all but last")


def test_a_recipe_without_a_declaration_is_stored_as_before() -> None:
    assert "tasks" not in json.loads(canonical_json(schema.load("demo")))


@pytest.mark.parametrize(
    ("tasks", "told"),
    [
        ('request = ["spam"]', "give two labels or more: the request is always judged$"),
        ("request = []", "give two labels or more: the request is always judged$"),
        ('response = ["bad"]', r"or \[\] to leave the task out"),
        ('request = ["spam", "Spam"]', "a label is given twice"),
        ('request = ["sp:am", "ham"]', "letters, digits"),
        ('request = ["sp\\nam", "ham"]', "letters, digits"),
        ('request = [" spam", "ham"]', "letters, digits"),
        ('request = ["None", "ham"]', "means that there is nothing to judge"),
        ('blocks = "second"', "'first' or 'all but last'"),
    ],
)
def test_what_cannot_be_declared_names_the_key(tmp_path: Path, tasks: str, told: str) -> None:
    with pytest.raises(RecipeError, match=f"tasks.*{told}"):
        loaded(tmp_path, tasks)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"source": "demo"}, "the demo's samples have the labels harmful and unharmful"),
        ({"guard": {"policies": "shipped"}}, "guard.policies says what is harmful"),
        ({"teacher": {"names": ["traces"], "traces": [{"path": "a", "label": {"x": "harmful"}}]}}, "spam, ham or none"),
    ],
)
def test_what_knows_only_harm_is_refused(changes: dict[str, Any], told: str) -> None:
    given = {"name": "own", "source": "imported", "tasks": {"request": ["spam", "ham"], **ALONE}, **changes}
    with pytest.raises(ValueError, match=told):
        Recipe.model_validate_json(json.dumps(given))


def test_the_demo_may_have_one_task_only() -> None:
    given = {"name": "own", "source": "demo", "tasks": ALONE}
    assert Recipe.model_validate_json(json.dumps(given)).tasks.words() == ("harmful", "unharmful")
