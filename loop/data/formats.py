"""What a record says: prompt, response, labels. The labels' words, the plain formats, and the shape of a known one.

A format turns one record into the text and labels of its samples, or refuses it with a reason. A label that it does
not know is refused, never guessed. The known datasets are in `formats_known`; files are opened elsewhere.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from wizloop.loop.data.containers import BadRow, Record, RowRefused
from wizloop.loop.words import LABELS, TASKS, Task

HARM: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("safe", "benign", "unharmful", "harmless", "0", "false"), "unharmful"),
        **dict.fromkeys(("unsafe", "harmful", "1", "true", "toxic"), "harmful"),
    }
)
"""The words for harm that are understood, case-folded."""

COMPLETION: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("refusal", "2_full_refusal"), "refusal"),
        **dict.fromkeys(("compliance", "1_full_compliance"), "compliance"),
    }
)

TEXT_COLUMNS = ("prompt", "text", "content")
"""The first of these that a file's first record has is its prompt."""

NO_LABELS: Mapping[Task, str] = MappingProxyType({})
_MOST_LISTED = 10


class Content(NamedTuple):
    """What a record says of one sample, before its text is checked."""

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
    """Every record must have these."""
    read: Callable[[Record], Content | list[Content]]
    """One sample, or several where a record holds several responses. Raises RowRefused."""
    recognises: Callable[[Record, str], bool] = lambda _record, _name: True
    """What a first record with these columns, in a file of this name, must show besides."""
    note: str = ""
    """What is to be known of such a file."""
    ids: bool = False
    """Whether one `id` stands for one text, so that two texts under it are a fault."""


def label(value: Any, task: Task) -> str:
    """A foreign label in the words of the task. Raises RowRefused for null, an empty one, or an unknown one."""
    known = _words(task)
    if isinstance(value, str) and value in known:
        return known[value]
    if value is None or value == "":
        raise RowRefused(f"no {task} label")
    word = str(value).strip().casefold()
    if not isinstance(value, str | int) or word not in known:
        positive, negative = LABELS[task]
        named = (f"; if it speaks about the {other}, say --task {other}" for other in TASKS if word in LABELS[other])
        raise RowRefused(f"unknown {task} label {str(value)[:40]!r}: write {positive} or {negative}{next(named, '')}")
    return known[word]


def _words(task: Task) -> Mapping[str, str]:
    return COMPLETION if task == "completion" else HARM


def known_labels(values: Mapping[Task, Any]) -> dict[Task, str]:
    """The labels that are there; null and empty are no label. Raises RowRefused for an unknown one."""
    return {task: label(value, task) for task, value in values.items() if value is not None and value != ""}


def word(record: Record, column: str) -> str | None:
    """The text in a column, or None where there is none."""
    value = record.get(column)
    return value if isinstance(value, str) and value else None


def plain(column: str) -> str:
    """A column's name without what does not count."""
    return column.strip().casefold()


def text_column(sample: Record) -> str | None:
    """The column with the prompt, as the record spells it; None where there is none."""
    exact = next((name for name in TEXT_COLUMNS if name in sample), None)
    return exact or next((found for name in TEXT_COLUMNS if (found := _spelt(name, sample)) is not None), None)


def _spelt(name: str, sample: Record) -> str | None:
    """How a record spells the name of a column; None where it has none such."""
    return name if name in sample else next((column for column in sample if plain(column) == name), None)


def columns_format(task: Task, sample: Record) -> Format:
    """The plain case: a text column, perhaps `response`, and perhaps `label`, which speaks about `task`.

    What the first record `sample` has decides which columns every row must have, and how they are spelt: case and
    spaces around a name do not count.
    """
    prompt = text_column(sample) or TEXT_COLUMNS[0]
    named = {name: _spelt(name, sample) or name for name in ("label", "response", "source", "policy")}
    labelled = named["label"] in sample
    in_label, in_response, in_source, in_policy = named.values()
    needed = frozenset((prompt, named["label"])) if labelled else frozenset((prompt,))
    unread = [column for column in sample if column not in (prompt, *named.values(), "id")]
    listed = ", ".join(" ".join(column.split()) for column in unread[:_MOST_LISTED])
    more = f" and {len(unread) - _MOST_LISTED} more" if len(unread) > _MOST_LISTED else ""
    note = f"columns that are not read: {listed}{more}" if unread else ""
    # One mapping for each word: a million rows need no million of them.
    ready: dict[str, Mapping[Task, str]] = {written: {task: known} for written, known in _words(task).items()}

    def read(record: Record) -> Content:
        labels = NO_LABELS
        if in_label in record:
            given = record[in_label]
            found = ready.get(given) if isinstance(given, str) else None
            labels = found if found is not None else {task: label(given, task)}
        source = word(record, in_source) if in_source in record else None
        policy = word(record, in_policy) if in_policy in record else None
        return Content(record[prompt], record.get(in_response), labels, source, policy)

    return Format("columns", needed, read, note=note, ids=True)


def mapped_format(mapping: Mapping[str, str], task: Task) -> Format:
    """Columns as the mapping names them: {"prompt": "question", "response_label": "harmful?"}.

    Keys are prompt, response, source, policy, label (which speaks about `task`) and request_label, completion_label,
    response_label. A value that begins with "=" is not a column but the same word for every row. A null or empty
    `label` refuses the row; one of the other three is no label for its task.
    """

    def value(record: Record, key: str) -> Any:
        column = mapping.get(key, "")
        return column[1:] if column.startswith("=") else record.get(column)

    def read(record: Record) -> Content:
        if missing := [column for column in mapping.values() if not column.startswith("=") and column not in record]:
            raise BadRow(f"no column {missing[0]!r}, which the mapping names")
        labels = known_labels({one: value(record, f"{one}_label") for one in TASKS})
        if "label" in mapping:
            labels[task] = label(value(record, "label"), task)
        source, policy = value(record, "source"), value(record, "policy")
        return Content(
            value(record, "prompt"),
            value(record, "response"),
            labels,
            source if isinstance(source, str) else None,
            policy if isinstance(policy, str) else None,
        )

    return Format("mapped columns", frozenset(), read, ids=True)
