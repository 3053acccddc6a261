"""The shape of a format, and what readers of known ones are made of.

A format turns one record into the text of its samples and the words that stand there for labels, or refuses it with a
reason; `label_words` reads the words. The plain columns and the known datasets are in `formats_*`, and `format_choice`
finds a file's format: by its columns and contents, never by its name.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from wizloop.loop.data.label_words import Given, is_missing, word_of
from wizloop.loop.data.records import Record
from wizloop.loop.words import TASKS, Task

Labels = Mapping[Task, str | Given]
"""Labels that are certain, or as the file writes them."""

TEXT_COLUMNS = ("prompt", "text", "content")
"""The prompt is the first of these that a file's first record has."""

NO_LABELS: Mapping[Task, str] = MappingProxyType({})
HARMFUL: Mapping[Task, str] = MappingProxyType({"request": "harmful"})
UNHARMFUL: Mapping[Task, str] = MappingProxyType({"request": "unharmful"})
ASSUMED = "assumed of every row, as in the published set"
"""Begins a note of labels that no word of the file says."""


class Content(NamedTuple):
    """Content of one sample in a record, before its text is checked."""

    prompt: Any
    response: Any = None
    labels: Labels = NO_LABELS
    source: str | None = None
    policy: str | None = None


@dataclass(frozen=True)
class Format:
    """A known shape of record."""

    name: str
    columns: frozenset[str]
    """Columns that every record must have."""
    read: Callable[[Record], Content | list[Content]]
    """Returns one sample, or several if a record holds several responses. Raises RowRefused."""
    recognizes: Callable[[Record, str], bool] = lambda _record, _name: True
    """Returns whether a file fits, by its first record, which has these columns, and by its name."""
    note: str = ""
    """Note for the user about such a file."""

    def fits(self, record: Record, name: str) -> bool:
        """Return whether a file's first record shows this format; a plugin may look at the file's name as well."""
        return self.columns <= record.keys() and self.recognizes(record, name)

    @property
    def told(self) -> str:
        """The note for the user, with the labels that every row gets without a word for them in the file."""
        assumed = self.read.assumption if isinstance(self.read, Constant) else ""
        return "; ".join(filter(None, (self.note, assumed)))


@dataclass(frozen=True)
class Constant:
    """Reader of prompts alone, in the column `prompt`, that all have the same labels."""

    prompt: str
    labels: Mapping[Task, str]
    policy: str = "category"

    def __call__(self, record: Record) -> Content:
        """Return the sample of a record."""
        return Content(record[self.prompt], None, self.labels, None, word(record, self.policy))

    @property
    def assumption(self) -> str:
        """What is assumed of every row."""
        labels = ", ".join(f"{task} {label}" for task, label in self.labels.items())
        return f"{ASSUMED}: {labels} (--map {self.prompt}=prompt reads it without)"


def columns(names: str) -> frozenset[str]:
    """Return the column names in a text, separated by spaces."""
    return frozenset(names.split())


def begins_with(column: str, *digests: str) -> Callable[[Record, str], bool]:
    """Recognize a published set without labels of its own by its first text, of which `digests` has the `digest`."""
    return lambda record, _name: isinstance(record.get(column), str) and digest(record[column]) in digests


def digest(text: str) -> str:
    """Return the first 12 hex digits of the SHA-256 of a stripped text."""
    return hashlib.sha256(text.strip().encode("utf-8", "surrogatepass")).hexdigest()[:12]


def known_labels(**values: Any) -> dict[Task, str | Given]:
    """Return the labels by task as the file writes them, without those that are missing."""
    return {task: Given(values[task]) for task in TASKS if word_of(values.get(task)) is not None}


def word(record: Record, column: str) -> str | None:
    """Return the text in a column, or None for none and for a word that says so."""
    value = record.get(column)
    return value if isinstance(value, str) and not is_missing(value) else None


def plain(column: str) -> str:
    """Return a column's name case-folded and stripped."""
    return column.strip().casefold()


def text_column(sample: Record) -> str | None:
    """Return the column with the prompt, as the record spells it, or None."""
    exact = next((name for name in TEXT_COLUMNS if name in sample), None)
    return exact or next((found for name in TEXT_COLUMNS if (found := spelling(name, sample)) is not None), None)


def spelling(name: str, sample: Record) -> str | None:
    """Return the name of a column as the record spells it, or None."""
    return name if name in sample else next((column for column in sample if plain(column) == name), None)
