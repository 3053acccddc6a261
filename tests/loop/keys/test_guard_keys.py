"""The keys of [guard] that set thresholds: what they may be, and that a recipe without them is stored as it was."""

from pathlib import Path

import pytest

from tests.loop.small_night import recipe
from wizloop.recipes.schema import RecipeError, canonical_json, load


def test_a_recipe_without_the_keys_is_stored_as_it_was() -> None:
    stored_text = canonical_json(recipe(guard={"operating_point": "f1"}))
    assert "operating_point" not in stored_text
    assert "let_through" not in stored_text


@pytest.mark.parametrize(
    "line", ['operating_point = "fpr<=1"', 'operating_point = "fpr>=0.1"', 'operating_point = "f10"', "let_through = 1"]
)
def test_what_is_no_rate_is_refused(line: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'name = "mine"\nsource = "demo"\n[guard]\n{line}\n', encoding="utf-8")
    with pytest.raises(RecipeError, match=f"guard.{line.split()[0]}"):
        load(path)
