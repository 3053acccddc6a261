"""Map a record to prompt, response and labels: the words for labels, the plain formats, and the shape of a known one.

A format turns one record into the text and labels of its samples, or refuses it with a reason. An unknown label is
refused, never guessed. The known datasets are in `formats_*`; `format_choice` finds a file's format.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from wizloop.loop.data.records import BadRow, Record, RowRefused
from wizloop.loop.words import LABELS, TASKS, Task

HARM: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("safe", "benign", "unharmful", "harmless", "0", "false"), "unharmful"),
        **dict.fromkeys(("unsafe", "harmful", "1", "true", "toxic"), "harmful"),
    }
)
"""Accepted words for harm, case-folded."""

COMPLETION: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("refusal", "2_full_refusal"), "refusal"),
        **dict.fromkeys(("compliance", "1_full_compliance"), "compliance"),
    }
)
"""Accepted words for refusal and compliance, case-folded."""

WORDS: Mapping[Task, Mapping[str, str]] = MappingProxyType(
    {"request": HARM, "completion": COMPLETION, "response": HARM}
)
"""Accepted words for the labels of each task."""

TEXT_COLUMNS = ("prompt", "text", "content")
"""The prompt is the first of these that a file's first record has."""

NO_LABELS: Mapping[Task, str] = MappingProxyType({})
HARMFUL: Mapping[Task, str] = MappingProxyType({"request": "harmful"})
UNHARMFUL: Mapping[Task, str] = MappingProxyType({"request": "unharmful"})
_MOST_LISTED = 10


class Content(NamedTuple):
    """Content of one sample in a record, before its text is checked."""

    prompt: Any
    response: Any = None
    labels: Mapping[Task, str] = NO_LABELS
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
    ids: bool = False
    """True if one `id` belongs to one text, so that two texts under it are an error."""

    def fits(self, record: Record, name: str) -> bool:
        """Return whether a file's first record and its name show this format."""
        return self.columns <= record.keys() and self.recognizes(record, name)


def columns(names: str) -> frozenset[str]:
    """Return the column names in a text, separated by spaces."""
    return frozenset(names.split())


def named_like(*parts: str) -> Callable[[Record, str], bool]:
    """Recognize a file whose name contains one of `parts`, in any case."""
    return lambda _record, name: any(part in name.casefold() for part in parts)


def constant(prompt: str, labels: Mapping[Task, str], policy: str = "category") -> Callable[[Record], Content]:
    """Return a reader of prompts alone, in the column `prompt`, that all have the same labels."""
    return lambda record: Content(record[prompt], None, labels, None, word(record, policy))


def label(value: Any, task: Task) -> str:
    """Return a file's label as a label of the task. Raises RowRefused for null, an empty one, or an unknown one."""
    known = WORDS[task]
    if isinstance(value, str) and value in known:
        return known[value]
    if value is None or value == "":
        raise RowRefused(f"no {task} label")
    word = str(value).strip().casefold()
    if not isinstance(value, str | int) or word not in known:
        positive, negative = LABELS[task]
        hint = next(
            (f"; for a label of the {other}, add --task {other}" for other in TASKS if word in LABELS[other]), ""
        )
        raise RowRefused(f"unknown {task} label {str(value)[:40]!r}: write {positive} or {negative}{hint}")
    return known[word]


def known_labels(**values: Any) -> dict[Task, str]:
    """Return the labels by task, without null and empty ones. Raises RowRefused for an unknown label."""
    return {task: label(values[task], task) for task in TASKS if values.get(task) not in (None, "")}


def word(record: Record, column: str) -> str | None:
    """Return the text in a column, or None."""
    value = record.get(column)
    return value if isinstance(value, str) and value else None


def plain(column: str) -> str:
    """Return a column's name case-folded and stripped."""
    return column.strip().casefold()


def text_column(sample: Record) -> str | None:
    """Return the column with the prompt, as the record spells it, or None."""
    exact = next((name for name in TEXT_COLUMNS if name in sample), None)
    return exact or next((found for name in TEXT_COLUMNS if (found := _spelling(name, sample)) is not None), None)


def _spelling(name: str, sample: Record) -> str | None:
    """Return the name of a column as the record spells it, or None."""
    return name if name in sample else next((column for column in sample if plain(column) == name), None)


def columns_format(task: Task, sample: Record) -> Format:
    """Return the plain format: a text column and optionally `response`, `source`, `policy`, and `label` for `task`.

    The first record `sample` decides which columns every row must have and how they are spelled: case and spaces around
    a name are ignored.
    """
    prompt = text_column(sample) or TEXT_COLUMNS[0]
    named = {name: _spelling(name, sample) or name for name in ("label", "response", "source", "policy")}
    in_label, in_response, in_source, in_policy = named.values()
    unread = [column for column in sample if column not in (prompt, *named.values(), "id")]
    listed = ", ".join(" ".join(column.split()) for column in unread[:_MOST_LISTED])
    more = f" and {len(unread) - _MOST_LISTED} more" if len(unread) > _MOST_LISTED else ""
    # One mapping for each word: a million rows do not need a million of them.
    ready: dict[str, Mapping[Task, str]] = {written: {task: known} for written, known in WORDS[task].items()}

    def read(record: Record) -> Content:
        labels = NO_LABELS
        if in_label in record:
            given = record[in_label]
            found = ready.get(given) if isinstance(given, str) else None
            labels = found if found is not None else {task: label(given, task)}
        source = word(record, in_source) if in_source in record else None
        policy = word(record, in_policy) if in_policy in record else None
        return Content(record[prompt], record.get(in_response), labels, source, policy)

    columns = frozenset((prompt, in_label) if in_label in sample else (prompt,))
    return Format("columns", columns, read, note=f"ignored columns: {listed}{more}" if unread else "", ids=True)


def mapped_format(mapping: Mapping[str, str], task: Task) -> Format:
    """Return the format of a mapping from keys to columns: {"prompt": "question", "response_label": "harmful?"}.

    Keys are prompt, response, source, policy, label (for `task`) and request_label, completion_label, response_label.
    A value that begins with "=" is not a column but the same word for every row. A null or empty `label` refuses the
    row; the other three are then no label for their task.
    """

    def value(record: Record, key: str) -> Any:
        column = mapping.get(key, "")
        return column[1:] if column.startswith("=") else record.get(column)

    def read(record: Record) -> Content:
        if missing := [column for column in mapping.values() if not column.startswith("=") and column not in record]:
            raise BadRow(f"no column {missing[0]!r}, which the mapping names")
        labels = known_labels(**{task: value(record, f"{task}_label") for task in TASKS})
        if "label" in mapping:
            labels[task] = label(value(record, "label"), task)
        source, policy = (text if isinstance(text := value(record, key), str) else None for key in ("source", "policy"))
        return Content(value(record, "prompt"), value(record, "response"), labels, source, policy)

    return Format("mapped columns", frozenset(), read, ids=True)
