"""The instruction in front of every sample, where it is not the shipped one: a file's text, or what the data's own
column says. One run asks in one way: rows that say different things are refused.

Whatever the text says is data: it is put in front of samples, and never read as markup, as a path or as a template.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from wizloop.loop.data import hub
from wizloop.loop.data.files import read_records
from wizloop.loop.data.records import ImportRefused, NumberedRecords, RowRefused
from wizloop.recipes.policies import instruction
from wizloop.recipes.schema import Recipe
from wizloop.recipes.sections import Data

COLUMN = "column:"
MOST_CHARS = 20_000
"""Of an instruction: longer text is some other file."""
HUB_ROWS = 100
"""So many rows of a dataset of the hub are looked at; of a file all are."""


def shipped(setting: str) -> str | None:
    """The instruction for "full" and "none"; None for one that must be read."""
    return {"full": instruction(), "none": ""}.get(setting)


def read(recipe: Recipe, *, far: bool = True) -> str | None:
    """The instruction's text, without newlines at its end. With `far` off no network is asked, and None says that the
    text lies behind one.

    Raises ImportRefused, which names the file and the row, and says what to do.
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
        with path.open(encoding="utf-8") as file:
            text = file.read(MOST_CHARS + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise ImportRefused(
            f"{path}: guard.instruction cannot be read from it ({error.__class__.__name__}); name a text file, its "
            "path relative to the folder in which wizloop is started"
        ) from None
    return _checked(text, str(path))


def _of_column(recipe: Recipe, column: str, far: bool) -> str | None:
    found: tuple[str, str] | None = None
    skipped = False
    for data in recipe.data:
        if hub.is_remote(data) and not far:
            skipped = True
            continue
        for place, text in _told(data, column):
            if found is not None and text != found[1]:
                raise ImportRefused(
                    f"{place}: its {column!r} is not that of {found[0]}, and one run asks in one way: put one text "
                    "into a file that guard.instruction names"
                )
            found = found or (place, text)
    if found is None and not skipped:
        raise ImportRefused(
            f"guard.instruction asks for the column {column!r}, and no [[data]] has it: name a file's column, or a file"
        )
    return None if found is None else _checked(found[1], found[0])


def _told(data: Data, column: str) -> Iterator[tuple[str, str]]:
    """Where, and what each row of a source says in the column; nothing for a source without it."""
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
            raise ImportRefused(f"{data.path}, row {number}: its {column!r}, which guard.instruction names, is no text")
        yield f"{data.path}, row {number}", text


def _checked(text: str, place: str) -> str:
    if not text.strip():
        raise ImportRefused(f'{place}: the instruction is empty: write one, or set guard.instruction = "none"')
    if len(text) > MOST_CHARS:
        raise ImportRefused(f"{place}: more than {MOST_CHARS:,} characters are no instruction: name another file")
    # The renderer puts a blank line behind it, whatever the file ends in.
    return text.rstrip("\r\n")
