"""The plain columns: a text, and a label, a response, a source and a policy where a file has them or they are mapped.

Case and spaces around a column's name are ignored. A sample record decides how the columns are spelled.
"""

import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from wizloop.loop.data.column_names import is_about_harm, turned, words_of
from wizloop.loop.data.column_names import truth as truth_of
from wizloop.loop.data.formats import (
    NO_LABELS,
    TEXT_COLUMNS,
    Content,
    Format,
    Labels,
    spelling,
    text_column,
    word,
)
from wizloop.loop.data.label_words import WORDS, Given, says_truth, word_of
from wizloop.loop.data.records import BadRow, Record
from wizloop.loop.words import LABELS, TASKS, Task

FIELDS = ("prompt", "response", "label", "source", "policy")
LABEL_FIELDS: Mapping[str, Task] = {f"{task}_label": task for task in TASKS}
MAPPING_KEYS = (*FIELDS, *LABEL_FIELDS)
NOT = "not "
"""Before a column in a mapping: its label is the opposite of what the column says."""
PREFERENCE = (
    "true and false beside a completion is a preference (KTO) and no harm, and not read (--map label=label does)"
)
_HARM_WORDS = frozenset(WORDS["request"]) - {"0", "1", "true", "false"}
_ANSWERS = ("accept", "reject", "ignore")
_MOST_LISTED = 10
_OPPOSITE = 0.9
"""Share of the rows on which a column says the opposite of the label, from which one of the two is turned."""
_SOMETHING_ELSE = re.compile(
    "response|completion|answer|assistant|output|refus|predict|verdict|guard|model|judge", re.IGNORECASE
)
"""Columns that speak of the response, or of what a guard thought: in a list of its errors that is always wrong."""
_BY_ALPHABET = "numbers by the alphabet have harmful as 0"


def columns_format(task: Task, sample: Record, *, relabeled: bool = False) -> Format:
    """Return the plain format, with `label` for `task`. `relabeled` if the user says what some of its words mean."""
    prompt = text_column(sample) or TEXT_COLUMNS[0]
    in_response, in_label, in_source, in_policy = (_of(sample, field) or field for field in FIELDS[1:])
    preference = is_preference(sample)
    if preference:
        in_label = ""
    # One mapping for each word: a million rows do not need a million of them.
    ready: dict[str, Labels] = {} if relabeled else {text: {task: known} for text, known in WORDS[task].items()}

    def read(record: Record) -> Content:
        labels: Labels = NO_LABELS
        if in_label in record:
            given = record[in_label]
            found = ready.get(given) if isinstance(given, str) else None
            labels = found if found is not None else {task: Given(given)}
        source = word(record, in_source) if in_source in record else None
        policy = word(record, in_policy) if in_policy in record else None
        return Content(record[prompt], record.get(in_response), labels, source, policy)

    notes = [PREFERENCE] if preference else []
    notes.append(_unread(sample, (prompt, in_label, in_response, in_source, in_policy), task))
    if in_label in sample and not relabeled:
        notes.append(_of_truth(in_label, sample[in_label], task, WORDS[task]))
    return _judged("columns", {in_label: task}, frozenset((prompt,)), read, sample, notes)


def mapped_format(mapping: Mapping[str, str], task: Task, sample: Record, *, relabeled: bool = False) -> Format:
    """Return the format of a mapping from keys to columns: {"prompt": "question", "response_label": "harmful?"}.

    Keys are prompt, response, source, policy, label (for `task`) and request_label, completion_label, response_label.
    A value that begins with "=" is not a column but the same word for every row; "not is_safe" is the opposite of what
    the column is_safe says. Plain columns that the mapping does not name are read as ever.
    """
    fields = {**_unmapped(mapping, task, sample), **mapping}
    texts = {key: column for key, column in fields.items() if key != "label" and key not in LABEL_FIELDS}
    tasks: Mapping[str, Task] = {"label": task, **LABEL_FIELDS}
    given = {tasks[key]: column for key, column in fields.items() if key not in texts}
    labels = {each: _label_reader(column, each, sample) for each, column in given.items()}

    def value(record: Record, key: str) -> Any:
        column = texts.get(key, "")
        if column.startswith("="):
            return column[1:]
        if column not in record and key in mapping:
            raise BadRow(f"no column {column!r}, which the mapping names")
        return record.get(column)

    def read(record: Record) -> Content:
        found: Labels = {each: reader(record) for each, reader in labels.items()}
        source, policy = (text if isinstance(text := value(record, key), str) else None for key in ("source", "policy"))
        return Content(value(record, "prompt"), value(record, "response"), found, source, policy)

    columns = [column_of(column, sample)[0] for column in fields.values()]
    notes = [_unread(sample, columns, task)]
    if not relabeled:
        notes += [_of_mapped(column, each, sample) for each, column in given.items()]
    return _judged("mapped columns", {column: each for each, column in given.items()}, frozenset(), read, sample, notes)


def column_of(written: str, sample: Container[str]) -> tuple[str, bool]:
    """Return the column that a mapping's value names, and whether its label is the opposite ("not COLUMN")."""
    opposite = written.startswith(NOT) and written not in sample
    return (written.removeprefix(NOT).strip(), True) if opposite else (written, False)


def answer_column(sample: Record) -> str | None:
    """Return the column in which Prodigy writes whether a label holds, whatever is in it, or None."""
    return _of(sample, "answer")


def has_known_label(sample: Record, task: Task) -> bool:
    """Return whether there is a plain label, with a word that is known."""
    column = _of(sample, "label")
    return column is not None and word_of(sample[column]) in WORDS[task]


def is_preference(sample: Record) -> bool:
    """Return whether a plain label beside a completion is a preference (KTO): true or false, and no word for harm."""
    column = _of(sample, "label")
    return column is not None and _of(sample, "completion") is not None and says_truth(sample[column])


def may_contradict(sample: Record, task: Task) -> list[str]:
    """Return the columns that say what a label of numbers, or of true and false, should be: in words or by name."""
    label = _of(sample, "label")
    if label is None or not says_truth(sample[label]) or task == "completion" or is_preference(sample):
        return []
    others = [column for column in sample if column != label and not _SOMETHING_ELSE.search(column)]
    # Beside a response true and false may be about that.
    paired = _of(sample, "response") is not None
    return [one for one in others if _says_harm(sample[one]) or (not paired and is_about_harm(one))]


def contradicting(rows: Sequence[Record], task: Task, columns: Iterable[str]) -> str | None:
    """Return the first of these columns that says the opposite of the plain label, or None."""
    label = _of(rows[0], "label") or ""
    for column in columns:
        words = words_of(column, task) if is_about_harm(column) else {word: WORDS[task][word] for word in _HARM_WORDS}
        said = [
            (WORDS[task].get(word_of(row.get(label)) or ""), words.get(word_of(row.get(column)) or "")) for row in rows
        ]
        both = [one != other for one, other in said if one and other]
        if len(both) > 1 and sum(both) >= _OPPOSITE * len(both):
            return column
    return None


def _says_harm(value: Any) -> bool:
    return isinstance(value, str) and word_of(value) in _HARM_WORDS


def _of(sample: Record, field: str) -> str | None:
    """Return the plain column of a field; a file without a policy may have categories."""
    found = spelling(field, sample)
    return spelling("category", sample) if found is None and field == "policy" else found


def _unmapped(mapping: Mapping[str, str], task: Task, sample: Record) -> dict[str, str]:
    """Return the plain columns of the fields that a mapping does not name, as far as it leaves them free."""
    taken = {column_of(column, sample)[0] for column in mapping.values()}
    found = {"prompt": text_column(sample), **{field: _of(sample, field) for field in FIELDS[1:]}}
    if f"{task}_label" in mapping or is_preference(sample):
        found["label"] = None
    return {
        field: column
        for field, column in found.items()
        if column is not None and field not in mapping and column not in taken
    }


def _label_reader(written: str, task: Task, sample: Record) -> Callable[[Record], Given]:
    """Return a reader of one label; a row without the column has no label."""
    if written.startswith("="):
        return lambda _record: Given(written[1:])
    column, opposite = column_of(written, sample)
    words = turned(task) if opposite else words_of(column, task)
    return lambda record: Given(record.get(column), words, turned=opposite)


def _judged(
    name: str,
    labels: Mapping[str, Task],
    needed: frozenset[str],
    read: Callable[[Record], Content],
    sample: Record,
    notes: Iterable[str],
) -> Format:
    """Return a format; if somebody accepted or rejected its labels (Prodigy), as they did."""
    told = "; ".join(filter(None, notes))
    answer = _answer_of(sample)
    if answer is None or not any(column in sample for column in labels):
        return Format(name, needed, read, note=told)
    said = f"{answer} says whether a label holds: accept is the label, reject the other one, ignore none"
    return Format(f"{name} with answers", needed, partial(_answered, read, answer), note=f"{said}; {told}")


def _answer_of(sample: Record) -> str | None:
    """Return the column in which Prodigy writes whether a label holds, or None."""
    column = answer_column(sample)
    return column if column is not None and _plain(sample[column]) in _ANSWERS else None


def _plain(value: Any) -> str | None:
    return value.strip().casefold() if isinstance(value, str) else None


def _answered(read: Callable[[Record], Content], answer: str, record: Record) -> Content:
    content = read(record)
    given = {task: one if isinstance(one, Given) else Given(one) for task, one in content.labels.items()}
    said = _plain(record.get(answer))
    if said == "reject":
        return content._replace(labels={task: one._replace(rejected=True) for task, one in given.items()})
    return content if said == "accept" else content._replace(labels={task: Given(None) for task in given})


def _unread(sample: Record, read: Iterable[str], task: Task) -> str:
    """Return a note of the columns that are not read; one that may be a label is pointed out."""
    unread = [column for column in sample if column not in (*read, "id", _answer_of(sample))]
    if not unread:
        return ""
    listed = ", ".join(" ".join(column.split()) for column in unread[:_MOST_LISTED])
    more = f" and {len(unread) - _MOST_LISTED} more" if len(unread) > _MOST_LISTED else ""
    likely = next((column for column in unread if _may_be_label(column, sample[column], task)), None)
    hint = f" ({likely} may be a label: --map {likely}=label)" if likely and _of(sample, "label") is None else ""
    return f"ignored columns: {listed}{more}{hint}"


def _may_be_label(column: str, value: Any, task: Task) -> bool:
    if says_truth(value):
        return truth_of(column, task) in ("positive", "negative")
    return word_of(value) in WORDS[task]


def _of_mapped(written: str, task: Task, sample: Record) -> str:
    if written.startswith("="):
        return ""
    column, opposite = column_of(written, sample)
    return _of_truth(column, sample.get(column), task, turned(task) if opposite else words_of(column, task))


def _of_truth(column: str, value: Any, task: Task, words: Mapping[str, str]) -> str:
    """Return a note of what true means in a column of true and false: nothing in the file says so."""
    if not says_truth(value) or word_of(value) not in words:
        return ""
    yes, no = ("1", "0") if word_of(value) in ("0", "1") else ("true", "false")
    why = f"; {_BY_ALPHABET}" if yes == "1" and words["1"] == LABELS[task][0] else ""
    told = f"{yes} in {' '.join(column.split())} is read as {words[yes]} and {no} as {words[no]}"
    return f"{told} (otherwise: --label {yes}={words[no]} --label {no}={words[yes]}{why})"
