"""A key of a phase's section that no test changes alone is a promise that nobody keeps."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.where import ROOT
from wizloop.recipes.schema import Recipe
from wizloop.recipes.sections import Section

SECTIONS = ("classify", "select", "members", "train", "dpo", "review", "gate", "export")


def keys(section: type[Section], prefix: str = "") -> Iterator[str]:
    """Yield every key of a section, with its dots and without the tables that hold others."""
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from keys(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{field.alias or name}"


def marked(source: str) -> Iterator[str]:
    """Yield what is marked with `pytest.mark.recipe_key`, in the text of a test file. Raises ValueError."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.recipe_key":
            yield from (str(ast.literal_eval(one)) for one in node.args)


def all_marked() -> set[str]:
    files = [path for path in Path(ROOT, "tests").rglob("*.py") if "recipe_key" in path.read_text(encoding="utf-8")]
    return {key for path in files for key in marked(path.read_text(encoding="utf-8"))}


def test_a_mark_is_found_wherever_it_stands() -> None:
    source = '@pytest.mark.recipe_key("a.b")\ndef test(): ...\n'
    source += 'CASES = [pytest.param(1, marks=pytest.mark.recipe_key("c.d", "e"))]\n# pytest.mark.recipe_key("f")\n'
    assert set(marked(source)) == {"a.b", "c.d", "e"}


def test_the_keys_are_those_that_a_recipe_file_has() -> None:
    known = set(keys(Recipe))
    assert {"review.rule", "select.budget", "select.shares.random", "seed"} < known
    assert not {"select", "select.shares"} & known


def test_every_key_of_a_phase_has_a_test_that_changes_it_alone() -> None:
    wanted = {key for key in keys(Recipe) if key.startswith(tuple(f"{name}." for name in SECTIONS))}
    assert sorted(wanted - all_marked()) == []


def test_no_mark_names_a_key_that_is_not_there() -> None:
    assert sorted(all_marked() - set(keys(Recipe))) == []
