"""`classify`: a run's guard on new texts."""

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from wizloop.loop.commands.common import FILE, ROUND, in_workspace, put, refuse, report_errors, say

if TYPE_CHECKING:
    from wizloop.loop.api import Guard
    from wizloop.loop.guard.rendering import InputText

_TABLES = (".csv", ".gz", ".parquet")
"""Suffixes of files that do not hold one text per line."""
_KEYS = ("line", "verdict", "probability", "confidence", "cell", "trace", "cut_tokens", "threshold", "scale")


class BadLine(ValueError):
    """A line of the input holds no text to classify."""


@click.command(short_help="Classify texts with a run's guard, or an exported one.")
@click.argument("file", type=FILE, default=Path("-"))
@click.option(
    "--round", type=ROUND, metavar="N", help="Use the champion after this round; default: the current champion."
)
@click.option("--model", type=FILE, metavar="DIR", help="Use the exported guard in this folder, without a workspace.")
@click.option(
    "--guard", metavar="NAME", help="Ask --model as this published guard; `wizloop evaluate --guard` lists them."
)
@in_workspace
def classify(file: Path, round: int | None, model: Path | None, guard: str | None, workspace: Path) -> None:
    """Classify texts with a run's guard, or an exported one; print one JSON object per line.

    FILE has one text per line, plain or {"prompt", "response"}; - is stdin. Empty lines are skipped; `line` gives the
    number of the line in the file. A line that is not a whole JSON object is taken as plain text.
    """
    if file.suffix in _TABLES:
        refuse(f"{file}: a table, not one text per line: run `wizloop evaluate --benchmark` on it")
    from wizloop.backends.guard_types import BackendError

    # Model libraries print to stdout, where only verdicts go.
    stdout = sys.stdout
    with report_errors(failures=(BackendError,)), redirect_stdout(sys.stderr):
        loaded = _guard(workspace, round, model, guard)
        with _opened(file) as lines:
            try:
                for verdict in loaded.judge(read_lines(lines)):
                    put({key: getattr(verdict, key) for key in _KEYS}, stdout)
            except BadLine as error:
                refuse(f"{'stdin' if str(file) == '-' else file}: {error}")


def _guard(workspace: Path, round: int | None, folder: Path | None, published: str | None) -> "Guard":
    """Load the guard of a round, an exported one, or a published one."""
    from wizloop.loop.api import Workspace, load_published_guard

    if folder is None and published is None:
        return Workspace(workspace).guard(round)
    if round is not None:
        refuse("--model names a folder, and only a run has rounds: leave out --round")
    if folder is None:
        refuse("--guard asks the model of --model as a published guard: give both")
    if published is None:
        return _exported(folder)
    if not folder.is_dir():
        refuse(f"{folder}: no such folder; give one with a model's config.json and safetensors")
    return load_published_guard(published, folder)


def _exported(folder: Path) -> "Guard":
    """Load an exported guard, and say so if nothing is known of its thresholds."""
    from wizloop.loop.api import load_guard

    try:
        guard = load_guard(folder)
    except ValueError as error:
        refuse(str(error))
    if not guard.calibrated:
        say(f"{folder}: its guard.json has no calibration: probabilities are raw, every threshold is 0.5")
    return guard


def read_lines(lines: Iterable[str]) -> "Iterator[InputText]":
    """Read one text per line, plain or as an object with `prompt` and an optional `response`; skip empty lines.

    Raises BadLine.
    """
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _text(number, line.rstrip("\r\n"))


def _text(number: int, line: str) -> "InputText":
    from wizloop.loop.guard.rendering import InputText

    prompt, response = _object(number, line) if line.lstrip().startswith("{") else (line, None)
    try:
        f"{prompt}{response}".encode()
    except UnicodeEncodeError:
        raise BadLine(f"line {number}: a lone surrogate or invalid UTF-8: write whole characters") from None
    return InputText(prompt, response, number)


def _object(number: int, line: str) -> tuple[str, str | None]:
    """Return the prompt and response of a JSON object; a line that is not valid JSON is a prompt itself."""
    try:
        given = json.loads(line)
    except (ValueError, RecursionError):
        return line, None
    prompt, response = given.get("prompt"), given.get("response")
    if not isinstance(prompt, str) or not (response is None or isinstance(response, str)):
        raise BadLine(f"line {number}: `prompt` must be a string, and so must `response`, if given")
    return prompt, response


@contextmanager
def _opened(file: Path) -> Iterator[TextIO]:
    try:
        source = nullcontext(sys.stdin) if str(file) == "-" else file.open(encoding="utf-8")
    except OSError as error:
        refuse(f"{file}: cannot be read: {error.strerror}")
    with source as lines:
        try:
            yield lines
        except UnicodeDecodeError as error:
            refuse(f"{file}: cannot be read: {error}")
