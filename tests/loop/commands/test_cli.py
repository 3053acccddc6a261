"""The command line as a whole: what can be neither printed, numbered nor written ends with a sentence."""

import ast
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tests.where import ROOT
from wizloop.loop.cli import app


def refused(status: int, *words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    assert (done.exit_code, done.stdout) == (status, ""), done.output
    return done.stderr


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["start", "--help"]])
def test_what_cannot_be_printed_ends_with_a_sentence(words: list[str]) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no disk that is always full")
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-P", "-m", "wizloop.loop.cli", *words]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "wizloop: the output: No space left on device\n")


@pytest.mark.parametrize("command", ["classify", "evaluate", "audit", "export"])
def test_a_round_that_nothing_can_number_is_refused(after_a_night: Path, command: str) -> None:
    number = str(2**64)
    words = [number, "--format", "adapter", "--to", "there"] if command == "export" else ["--round", number]
    assert f"there is no round {number}" in refused(2, command, *words, "-w", str(after_a_night))


@pytest.mark.parametrize(("to", "status", "why"), [("x", 2, "File exists"), ("y/x", 1, "Not a directory")])
def test_where_nothing_can_be_exported_to_is_named(
    after_a_night: Path, tmp_path: Path, to: str, status: int, why: str
) -> None:
    file = tmp_path / "one.txt"
    file.touch()
    words = ("export", "1", "--format", "adapter", "--to", str(file / to), "-w", str(after_a_night))
    assert refused(status, *words) == f"wizloop: {(file / to).parent}: {why}\n"


def commands_of_modules() -> list[str]:
    """The commands that the modules in loop/commands define, without those of another command."""
    paths = sorted((ROOT / "loop" / "commands").glob("*.py"))
    modules = [import_module(f"wizloop.loop.commands.{path.stem}") for path in paths]
    found = [each for module in modules for each in vars(module).values() if isinstance(each, click.Command)]
    below = {id(each) for group in found if isinstance(group, click.Group) for each in group.commands.values()}
    return [str(each.name) for each in found if id(each) not in below]


def test_the_help_lists_every_command_below_exactly_one_heading() -> None:
    text = CliRunner().invoke(app, ["--help"]).stdout
    sections = re.findall(r"(?m)^(\S.*):\n((?:  .*\n)+)", text)
    listed = {heading: re.findall(r"(?m)^  (\w+)  ", body) for heading, body in sections if heading != "Options"}
    assert list(listed) == ["Run a night", "Review and data", "Measure and use", "Teachers and money", "Set up"]
    assert sorted(name for names in listed.values() for name in names) == sorted(commands_of_modules())


ASKED = """
import sys
from wizloop.loop.commands.classify import _private_stdin
texts = _private_stdin()
print(repr(sys.stdin.read()), list(texts))
"""


def test_a_question_that_a_library_asks_does_not_read_the_texts_to_classify() -> None:
    command = [sys.executable, "-P", "-c", ASKED]
    done = subprocess.run(command, input="y\nhow do I knit\n", capture_output=True, text=True, check=True)
    assert done.stdout == "'' ['y\\n', 'how do I knit\\n']\n"


EDITOR = "tui/editing.py"
"""The only process that may read the terminal: a person's own editor."""


def test_every_process_that_is_started_has_a_stdin_of_its_own() -> None:
    files = [path for room in ("loop", "backends", "tui", "console", "store") for path in (ROOT / room).rglob("*.py")]
    calls = [
        (path.relative_to(ROOT).as_posix(), {keyword.arg for keyword in call.keywords})
        for path in files
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and ast.unparse(call.func) in ("subprocess.run", "subprocess.Popen")
    ]
    # None is a dictionary of keywords, which holds it too.
    assert {path for path, given in calls if not given & {"stdin", None}} == {EDITOR}
    assert len(calls) >= 6
