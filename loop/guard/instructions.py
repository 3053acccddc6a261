"""The instruction before every sample: the shipped one, a file's text, or a column of the data.

A run has one instruction: rows with different ones are refused. The text is untrusted data: it is never read as
markup, a path or a template.
"""

from collections.abc import Iterator
from io import TextIOWrapper
from itertools import islice
from pathlib import Path

from wizloop import regular_file
from wizloop.loop.data import hub
from wizloop.loop.data.files import read_records
from wizloop.loop.data.records import ImportRefused, NumberedRecords, RowRefused
from wizloop.recipes.policies import instruction
from wizloop.recipes.schema import Recipe
from wizloop.recipes.sections import Data

COLUMN = "column:"
MOST_CHARS = 20_000
"""Maximum length of an instruction; a longer text is probably another file."""
HUB_ROWS = 100
"""Rows of a hub dataset that are checked; a file is checked in full."""


def shipped(setting: str) -> str | None:
    """Return the instruction for "full" and "none"; None for one that must be read."""
    return {"full": instruction(), "none": ""}.get(setting)


def read(recipe: Recipe, *, far: bool = True) -> str | None:
    """Return the instruction, without trailing newlines; None if only a hub dataset has it and `far` is off.

    `far` allows network access. Raises ImportRefused, which names the file and row and what to do.
    """
    setting = recipe.guard.instruction
    known = shipped(setting)
    if known is not None:
        return known
    if not setting.startswith(COLUMN):
        return _of_file(Path(setting))
    return _of_column(recipe, setting.removeprefix(COLUMN), far)


def _of_file(path: Path) -> str:
    try:
        with regular_file.opened(path) as binary, TextIOWrapper(binary, "utf-8") as file:
            text = file.read(MOST_CHARS + 1)
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error.__class__.__name__
        raise ImportRefused(
            f"{path}: cannot read guard.instruction ({why}); give a text file, with its path "
            "relative to the folder in which wizloop is started"
        ) from None
    return _checked(text, str(path))


def _of_column(recipe: Recipe, column: str, far: bool) -> str | None:
    first: tuple[str, str] | None = None
    sources = [data for data in recipe.data if far or not hub.is_remote(data)]
    for place, text in (row for data in sources for row in _rows(data, column)):
        first = first or (place, text)
        if text != first[1]:
            raise ImportRefused(
                f"{place}: its {column!r} differs from {first[0]}, but a run has one instruction: put it into a file "
                "and set guard.instruction to that file"
            )
    if first is not None:
        return _checked(first[1], first[0])
    if len(sources) < len(recipe.data):
        return None
    raise ImportRefused(f"no [[data]] has the column {column!r} of guard.instruction: give another column, or a file")


def _rows(data: Data, column: str) -> Iterator[tuple[str, str]]:
    """Yield place and text of the column for each row of a source; nothing for a source without the column."""
    rows: NumberedRecords
    if data.hub_split is not None:
        rows = islice(hub.read_records(data.path, data.hub_split), HUB_ROWS)
    else:
        rows = read_records(Path(data.path))
    for number, row in rows:
        if isinstance(row, RowRefused):
            continue
        if column not in row:
            return
        text = row[column]
        if not isinstance(text, str) or not text.strip():
            raise ImportRefused(f"{data.path}, row {number}: its {column!r}, named in guard.instruction, is not text")
        yield f"{data.path}, row {number}", text


def _checked(text: str, place: str) -> str:
    if not text.strip():
        raise ImportRefused(f'{place}: the instruction is empty; write one, or set guard.instruction = "none"')
    if len(text) > MOST_CHARS:
        raise ImportRefused(f"{place}: an instruction has at most {MOST_CHARS:,} characters: give another file")
    # The renderer adds a blank line, whatever the file ends in.
    return text.rstrip("\r\n")
