"""What the shell is offered for a recipe and for a workspace, asked as click's scripts for the shells ask."""

from pathlib import Path

import pytest
from click.shell_completion import BashComplete, ShellComplete

from wizloop.loop.cli import app
from wizloop.recipes.shipped import shipped
from wizloop.store.sqlite import DB_NAME


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with two workspaces, one workspace further down, a folder that is none, and a recipe."""
    for name in ("night", "night-3b", "kept/night"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / DB_NAME).touch()
    (tmp_path / "notes").mkdir()
    (tmp_path / "mine.toml").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def offered(*words: str) -> list[tuple[str, str]]:
    """(type, value) of what is offered for the last word, after the others."""
    shell = ShellComplete(app, {}, "wizloop", "_WIZLOOP_COMPLETE")
    return [(item.type, item.value) for item in shell.get_completions(list(words[:-1]), words[-1])]


@pytest.mark.parametrize("words", [["start"], ["doctor"], ["recipes", "show"], ["evaluate", "--recipe"]])
def test_every_recipe_is_offered(words: list[str]) -> None:
    assert offered(*words, "") == [("plain", name) for name in [*shipped(), "mine.toml"]]


def test_recipes_that_begin_otherwise_are_not_offered() -> None:
    assert offered("start", "m") == [("plain", "mac-overnight-3b"), ("plain", "mine.toml")]


def test_sections_of_a_recipe_are_offered() -> None:
    found = [value for _, value in offered("recipes", "keys", "te")]
    assert {"teacher", "teacher.claude"} < set(found)
    assert all(name.startswith("te") for name in found)
    assert {kind for kind, _ in offered("recipes", "keys", "")} == {"plain"}


def test_a_recipe_elsewhere_is_completed_as_a_file() -> None:
    assert offered("start", "kept/m") == [("file", "kept/m")]


@pytest.mark.parametrize("command", ["start", "watch", "status", "review", "import", "classify", "export", "costs"])
@pytest.mark.parametrize("option", ["-w", "--workspace"])
def test_workspaces_are_offered(command: str, option: str) -> None:
    assert offered(command, option, "n") == [("plain", "night"), ("plain", "night-3b")]


def test_a_workspace_in_a_folder_is_offered(folder: Path) -> None:
    assert offered("status", "-w", "kept/") == [("plain", "kept/night")]
    assert offered("status", "-w", f"{folder}/kept/n") == [("plain", f"{folder}/kept/night")]


@pytest.mark.parametrize("typed", ["no", "nowhere/", "~/"])
def test_where_there_is_no_workspace_the_shell_completes_a_folder(typed: str) -> None:
    assert offered("status", "-w", typed) == [("dir", typed)]


def test_commands_are_offered() -> None:
    assert [value for _, value in offered("re")] == ["resume", "review", "recipes", "repair"]


def test_the_script_for_a_shell_calls_wizloop() -> None:
    assert "_WIZLOOP_COMPLETE=bash_complete" in BashComplete(app, {}, "wizloop", "_WIZLOOP_COMPLETE").source()
