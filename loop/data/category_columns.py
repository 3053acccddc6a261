"""Categories of a file's rows: in one column, as a word, a list or a guard's codes, or in a column of 0 and 1 for each.

A column is read if it is called policies, categories, policy or category, or if a mapping names it: `category` for one
column, `category:NAME` for one of 0 and 1. What the words mean to a guard is up to its recipe: here they are kept as
they stand, or as `--category WORD=NAME` says.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from wizloop.loop.data import guard_outputs
from wizloop.loop.data.conversations import opened
from wizloop.loop.data.formats import spelling
from wizloop.loop.data.label_words import HARM, NO, NO_LABEL, YES, is_missing, word_of
from wizloop.loop.data.records import ImportRefused, Record
from wizloop.recipes.categories import plain
from wizloop.recipes.sections import Data

FIELD: Final = "category"
"""In a mapping: the column with the categories; with a colon and a name, a column that says whether a row is in it."""
COLUMNS: Final = ("policies", "categories", "policy", "category")
"""Plain columns, of which a file's first is read."""
_OURS: Final = ("policies", "categories")
LONGEST: Final = 200
"""Characters of a category; a longer text is none."""
Read = Callable[[Record], tuple[str, ...] | None]
"""Returns the categories of a row: empty for none, None where it does not say."""
_BETWEEN: Final = re.compile(r"[,;\n]")


def is_field(key: str) -> bool:
    """Return whether a mapping's key is about categories."""
    return key == FIELD or key.startswith(f"{FIELD}:")


def split_map(mapping: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return a mapping without its keys about categories, and these with their columns."""
    ours = {key: column for key, column in mapping.items() if is_field(key)}
    return {key: column for key, column in mapping.items() if key not in ours}, ours


def reader_of(data: Data, asked: Mapping[str, str], first: Record) -> Read | None:
    """Return what reads the categories of a file with this first record; None where its labels are hidden.

    `asked` are the mapping's keys about them. Raises ImportRefused for a column that the file does not have.
    """
    if data.hide_labels:
        return None
    if absent := [column for column in asked.values() if column not in first]:
        raise ImportRefused(
            f"{data.path}: no column {absent[0]!r}, which the mapping names; there are {', '.join(first)}"
        )
    names = {plain(word): name for word, name in data.category.items()}
    flags = {key.partition(":")[2].strip(): column for key, column in asked.items() if key != FIELD}
    column = (
        asked.get(FIELD) or data.map.get("policy") or next(filter(None, (spelling(n, first) for n in COLUMNS)), None)
    )
    if flags:
        return lambda record: _flagged(record, flags)
    if column is not None:
        return lambda record: _read(record.get(column), names)
    # In JSON Lines only some rows may have the column.
    return lambda record: next((_read(record[name], names) for name in COLUMNS if name in record), None)


def without(first: Record, asked: Mapping[str, str]) -> Record:
    """Return a first record without the columns that are read here alone: no format reads them, or ignores them."""
    ours = {column for column in asked.values() if column not in ("policy", "category")}
    return {column: value for column, value in first.items() if column not in ours and plain(column) not in _OURS}


def renamed(word: str, names: Mapping[str, str]) -> tuple[str, ...]:
    """Return a category as `--category` calls it; none for a word that means none."""
    name = names.get(plain(word), word)
    none = name.casefold() == NO_LABEL or is_missing(name) or HARM.get(name.casefold()) == "unharmful"
    return () if none or len(name) > LONGEST or "\0" in name else (name,)


def _flagged(record: Record, flags: Mapping[str, str]) -> tuple[str, ...] | None:
    """Return the categories whose columns say yes; None if one says neither yes nor no."""
    said = {name: word_of(record.get(column)) for name, column in flags.items()}
    if not all(word in (*YES, *NO) for word in said.values()):
        return None
    return tuple(name for name, word in said.items() if word in YES)


def _read(value: Any, names: Mapping[str, str]) -> tuple[str, ...] | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, Mapping):
        value = [name for name, one in value.items() if word_of(one) in YES]
    if isinstance(value, str):
        if not value.strip() or len(value) > guard_outputs.LONGEST:
            return None
        value = _parts(value, names)
    words = value if isinstance(value, list | tuple) else [value]
    found = [name for word in words if isinstance(word, str | int) for name in renamed(str(word).strip(), names)]
    return tuple(dict.fromkeys(found))


def _parts(text: str, names: Mapping[str, str]) -> list[Any]:
    """Return the words of a text: its list, a guard's codes, or what commas, semicolons and line ends divide."""
    if plain(text) in names:
        return [text]
    written = opened(text.strip())
    if isinstance(written, list):
        return written
    if guard_outputs.llama_guard(text) is not None:
        return guard_outputs.codes(text)
    return _BETWEEN.split(text)
