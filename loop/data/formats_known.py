"""Every known format by name, and which one a file shows. What each reads is in the modules beside."""

from wizloop import plugins
from wizloop.loop.data import formats_plugins
from wizloop.loop.data.containers import Record
from wizloop.loop.data.formats import Format, columns_format, text_column
from wizloop.loop.data.formats_instructions import INSTRUCTION_SETS
from wizloop.loop.data.formats_pairs import PAIR_SETS
from wizloop.loop.data.formats_prompts import PROMPT_SETS
from wizloop.loop.data.formats_traces import TRACE_SETS
from wizloop.loop.words import Task

KNOWN: tuple[Format, ...] = (*TRACE_SETS, *PAIR_SETS, *PROMPT_SETS, *INSTRUCTION_SETS)
"""The first that fits a file's first record is taken."""

NAMES = (*(known.name for known in KNOWN), "columns")
"""The built-in formats."""


def recognised(record: Record, name: str, task: Task) -> Format | None:
    """The format that a file's first record and its name show; None for neither a known shape nor a text column."""
    for known in KNOWN:
        if known.columns <= record.keys() and known.recognises(record, name):
            return known
    for installed in formats_plugins.every(taken):
        if installed.columns <= record.keys() and installed.recognises(record, name):
            return installed
    return columns_format(task, record) if text_column(record) is not None else None


def named(asked: str, record: Record, name: str, task: Task) -> Format | None:
    """The format of that name, or of a name that begins so; of several the first that fits the record and file name.

    Case, spaces and hyphens do not count. None where there is none.
    """
    wanted = _plain(asked)
    if wanted == "columns":
        return columns_format(task, record)
    meant = [known for known in KNOWN if wanted and _plain(known.name).startswith(wanted)]
    exact = [known for known in meant if _plain(known.name) == wanted and known.columns <= record.keys()]
    fitting = [known for known in meant if known.columns <= record.keys() and known.recognises(record, name)]
    return next(iter([*exact, *fitting, *meant]), None) or formats_plugins.named(asked, taken)


def taken(name: str) -> bool:
    """Return whether a name means a built-in format, so that no plugin may have it."""
    return any(_plain(known).startswith(_plain(name)) for known in NAMES)


def all_names() -> list[str]:
    """Return what may be asked for by name, with what is installed."""
    return [*NAMES, *plugins.installed("format")]


def _plain(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())
