"""Names of categories in a recipe, and in the files that a recipe may name instead of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from wizloop.loop.guard.categories import settled
from wizloop.recipes import policies, schema
from wizloop.recipes.categories import plain
from wizloop.recipes.schema import Recipe

SHIPPED = tuple(policy.name for policy in policies.load())


def recipe(categories: Any, **more: Any) -> Recipe:
    given = {"name": "own", "source": "demo", "guard": {"categories": categories}, **more}
    return Recipe.model_validate_json(json.dumps(given))


@pytest.mark.recipe_key("guard.categories")
def test_a_recipe_without_categories_is_stored_as_ever() -> None:
    stored = schema.canonical_json(schema.load("demo"))
    assert "categor" not in stored
    assert schema.canonical_json(recipe([])) == schema.canonical_json(recipe([]).model_copy())
    assert schema.recipe_hash(recipe(["a"])) != schema.recipe_hash(recipe([]))


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["a", "A"], "are read as one"),
        (["self-harm", "Self_harm"], "are read as one"),
        (["None"], "is no name"),
        ([""], "is no name"),
        (["a, b"], "without commas"),
        (["a\nAnswers:"], "must be one line"),
        (["a\x1b[31m"], "must be one line"),
        ([" a"], "blanks around it"),
        (["x" * 61], "longer than 60"),
        ([f"c{n}" for n in range(65)], "at most 64"),
        ("names.csv", ".txt or .toml file"),
    ],
)
def test_a_name_that_an_answer_cannot_hold_is_refused(names: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why.replace(".", r"\.")):
        recipe(names)


def test_names_come_from_a_file_of_lines_or_of_policies(tmp_path: Path) -> None:
    lines, tables = tmp_path / "names.txt", tmp_path / "own.toml"
    lines.write_text("violence\n\n  self harm \n", encoding="utf-8")
    tables.write_text(policies.SHIPPED.read_text(encoding="utf-8"), encoding="utf-8")
    assert settled(recipe(str(lines))).categories == ("violence", "self harm")
    assert settled(recipe(str(tables))).categories == SHIPPED
    assert settled(recipe("policies")).categories == SHIPPED
    assert settled(recipe(["b", "a"])).categories == ("b", "a")


@pytest.mark.parametrize(("content", "why"), [("", "names none"), ("a\nA\n", "read as one"), (None, "cannot be read")])
def test_a_file_without_usable_names_is_refused_by_its_name(tmp_path: Path, content: str | None, why: str) -> None:
    path = tmp_path / "names.txt"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(policies.PolicyError, match=f"names.txt: .*{why}"):
        settled(recipe(str(path)))


@pytest.mark.parametrize("word", ["Self-harm", "self_harm", " SELF  harm"])
def test_spellings_of_one_name_are_compared_as_one(word: str) -> None:
    assert plain(word) == "self harm"
