"""Choose a file's format: the one that was named, a column mapping, or the one that its first record shows."""

from difflib import get_close_matches

from wizloop import plugins
from wizloop.loop.data import formats_plugins
from wizloop.loop.data.formats import TEXT_COLUMNS, Format, columns_format, mapped_format, text_column
from wizloop.loop.data.formats_instructions import INSTRUCTION_SETS
from wizloop.loop.data.formats_pairs import PAIR_SETS
from wizloop.loop.data.formats_prompts import PROMPT_SETS
from wizloop.loop.data.formats_traces import TRACE_SETS
from wizloop.loop.data.records import ImportRefused, Record
from wizloop.loop.words import TASKS, Task
from wizloop.recipes.sections import Data

KNOWN: tuple[Format, ...] = (*TRACE_SETS, *PAIR_SETS, *PROMPT_SETS, *INSTRUCTION_SETS)
"""The first that fits a file's first record is used."""
NAMES = (*(known.name for known in KNOWN), "columns")
"""The built-in formats."""
MAPPING_KEYS = ("prompt", "response", "label", "source", "policy", *(f"{task}_label" for task in TASKS))


def choose_format(data: Data, first: Record, name: str) -> Format:
    """Return the format of a file called `name` whose first record is `first`. Raises ImportRefused."""
    if data.map:
        _check_mapping(data, first)
        return mapped_format(data.map, data.task)
    if data.format is None:
        if (shown := recognize(first, name, data.task)) is None:
            raise ImportRefused(f"{data.path}: {_no_format(first)}")
        return shown
    fmt = find_format(data.format, first, name, data.task)
    if fmt is None:
        near = get_close_matches(data.format, all_names(), n=1)
        hint = f"did you mean {near[0]!r}? If not, choose" if near else "choose"
        raise ImportRefused(f"{data.path}: there is no format {data.format!r}; {hint} one of {', '.join(all_names())}")
    if missing := fmt.columns - first.keys():
        raise ImportRefused(f"{data.path}: no column {min(missing)!r}, which the format {fmt.name!r} needs")
    return fmt


def recognize(record: Record, name: str, task: Task) -> Format | None:
    """Return the format that a file's first record and name show; None for neither a known shape nor a text column."""
    if built_in := next((known for known in KNOWN if known.fits(record, name)), None):
        return built_in
    if installed := next((known for known in formats_plugins.every(taken) if known.fits(record, name)), None):
        return installed
    return columns_format(task, record) if text_column(record) is not None else None


def find_format(asked: str, record: Record, name: str, task: Task) -> Format | None:
    """Return the format whose name is `asked` or begins with it; of several the first that fits the record and file.

    Case, spaces and hyphens are ignored. None if there is none.
    """
    wanted = _plain(asked)
    if wanted == "columns":
        return columns_format(task, record)
    named = [known for known in KNOWN if wanted and _plain(known.name).startswith(wanted)]
    exact = [known for known in named if _plain(known.name) == wanted and known.columns <= record.keys()]
    fitting = [known for known in named if known.fits(record, name)]
    return next(iter([*exact, *fitting, *named]), None) or formats_plugins.named(asked, taken)


def taken(name: str) -> bool:
    """Return whether a name means a built-in format, so that no plugin may have it."""
    return any(_plain(known).startswith(_plain(name)) for known in NAMES)


def all_names() -> list[str]:
    """Return the names of all formats, built in and installed."""
    return [*NAMES, *plugins.installed("format")]


def _plain(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


def _check_mapping(data: Data, first: Record) -> None:
    columns = [column for column in data.map.values() if not column.startswith("=")]
    if unknown := sorted(set(data.map) - set(MAPPING_KEYS)):
        raise ImportRefused(f"{data.path}: the mapping names {unknown[0]!r}; choose one of {', '.join(MAPPING_KEYS)}")
    if "prompt" not in data.map:
        raise ImportRefused(f"{data.path}: the mapping has no column for the prompt")
    if absent := [column for column in columns if column not in first]:
        raise ImportRefused(
            f"{data.path}: no column {absent[0]!r}, which the mapping names; there are {', '.join(first)}"
        )


def _no_format(first: Record) -> str:
    """Return why no format fits, and what to do."""
    if len(first) == 1 and (mark := next((mark for mark in ("\t", ";") if mark in next(iter(first))), None)):
        return f"its columns are separated by {'tabs' if mark == chr(9) else 'semicolons'}: separate them by commas"
    listed = ", ".join(" ".join(column.split()) for column in list(first)[:20])
    return (
        f"unknown columns ({listed}), none of them {', '.join(TEXT_COLUMNS)}; map the one with the prompt: "
        "--map COLUMN=prompt"
    )
