"""The pages against the program: the commands, options, files and links that they name are there."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests.where import ROOT
from wizloop.loop.cli import app
from wizloop.recipes.shipped import shipped

PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
)


_WITH_COMMANDS = ("README.md", "docs/first-night.md", "docs/terminal.md", "docs/teachers.md")


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def commands_in(page: str) -> Iterator[list[str]]:
    """The words after `wizloop`, of every line of code and every piece of code in a sentence."""
    text = text_of(page)
    code = re.findall(r"`(wizloop [^`]+)`", " ".join(text.split()))
    code += re.findall(r"(?m)^    (?:.*\| )?(wizloop .+)$", text)
    for line in code:
        yield line.partition("#")[0].split()[1:]


def named(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that words begin with, and the rest of them. Raises KeyError."""
    command: click.Command = app
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(click.Context(command), words[0])
        if found is None:
            raise KeyError(words[0])
        command, words = found, words[1:]
    return command, words


@pytest.mark.parametrize("page", PAGES)
def test_every_command_and_option_on_a_page_is_one(page: str) -> None:
    for words in commands_in(page):
        command, rest = named(words)
        known = {name for option in command.params for name in option.opts} | {"--help", "--version"}
        assert {word for word in rest if word.startswith("-") and word != "-"} <= known, words


def test_there_are_commands_files_and_links_to_check() -> None:
    assert {page: bool(list(commands_in(page))) for page in _WITH_COMMANDS} == dict.fromkeys(_WITH_COMMANDS, True)


def test_every_command_is_documented() -> None:
    text = text_of("docs/terminal.md")
    assert [name for name in app.list_commands(click.Context(app)) if f"`wizloop {name}" not in text] == []


def test_every_recipe_for_a_real_guard_is_documented() -> None:
    text = text_of("docs/guards.md")
    assert [name for name in shipped() if "-" in name and f"`{name}`" not in text] == []


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    text = text_of("mkdocs.yml")
    assert [path.name for path in (ROOT / "docs").glob("*.md") if f" {path.name}\n" not in text] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_file_and_link_on_a_page_is_there(page: str) -> None:
    text = text_of(page)
    files = re.findall(r"`((?:loop|tui|backends|store|recipes|tests|benchmarks)/[\w./-]*\w\.(?:py|toml|md))", text)
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    gone = [file for file in files if not (ROOT / file).is_file()]
    assert gone + [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []
    assert not Path(ROOT / page).read_bytes().count(b"\t")


@pytest.mark.parametrize(
    "page", [*PAGES, ".pre-commit-config.yaml", ".github/workflows/tests.yml", ".github/workflows/newest.yml"]
)
def test_every_target_of_make_on_a_page_is_one(page: str) -> None:
    targets = re.findall(r"(?m)^([a-z]+):", text_of("Makefile"))
    named = re.findall(r"(?m)(?:`|^    |run: |entry: )make ([a-z]+)", text_of(page))
    assert set(named) <= set(targets)
