"""Read the rows of a file that holds reasoning: each row's sample, and its trace, checked as a teacher's answer is."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from wizloop.backends.teachers.base import InvalidTrace, Question, Words
from wizloop.backends.teachers.base import form_of as trace_form_of
from wizloop.backends.teachers.given import GivenTrace, check_given, first_fault
from wizloop.loop.data.files import read_records
from wizloop.loop.data.formats import Format
from wizloop.loop.data.label_words import LabelWords, UnknownLabel
from wizloop.loop.data.records import BadRow, ImportRefused, NumberedRecords, Record, RowRefused
from wizloop.loop.data.sample_rows import Refused, RowReader, SampleRow
from wizloop.loop.teaching.given_forms import FORMS, LONGEST_REASON, MAP_KEYS, Form, Reasoned, form_of
from wizloop.loop.teaching.written_traces import Steps
from wizloop.loop.words import DEFAULT, Declaration
from wizloop.recipes.sections import Data

_LEAST_WORDS: Final = 9
"""Words from which a sentence that ends in a label also says why."""
_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+")
_ENDS_IN_A_LABEL: Final = re.compile(r"\b(?:\w*harmful|\w*safe|refusal|complian\w+|none)\W*\Z", re.IGNORECASE)


@dataclass(frozen=True)
class GivenRow:
    """One row: its sample, and its trace."""

    number: int
    sample: SampleRow
    trace: GivenTrace


@dataclass(frozen=True)
class GivenFile:
    """A file's form, and its rows as they are read."""

    form: Form
    rows: Iterator[GivenRow | Refused]
    verdict_words: LabelWords
    """Counts the verdicts of unknown words, as rows are read."""


def open_rows(data: Data, declared: Declaration = DEFAULT) -> GivenFile:
    """Open a file of reasoning; rows are read on demand. Raises ImportRefused, also between rows."""
    records, name = _records(data)
    head: list[tuple[int, Record | RowRefused]] = []
    for number, record in records:
        head.append((number, record))
        if not isinstance(record, RowRefused):
            break
    if not head:
        raise ImportRefused(f"{data.path}: it has no rows")
    number, first = head[-1]
    if isinstance(first, RowRefused):
        raise ImportRefused(f"{data.path}: no row can be read; the last is row {number}: {first}")
    form = _form(data, first)
    # Labels are known or not, whatever a split needs: a trace has its verdicts.
    plain = data.model_copy(update={"split": "pool", "map": {}})
    as_it_is = Format(form.name, frozenset(), lambda record: record["content"])
    reader = RowReader(name, as_it_is, plain, LabelWords(data.label, declared=declared))
    words = LabelWords(data.label, declared=declared)
    rows = (_row(form, reader, words, number, record) for number, record in chain(head, records))
    return GivenFile(form, rows if data.limit is None else _first_accepted(rows, data.limit), words)


def words_of(declared: Declaration) -> Words:
    """Return the label words as teachers take them."""
    return Words(declared.request, declared.completion, declared.response)


def trace_of(given: Reasoned, origin: str, sample: SampleRow, declared: Declaration = DEFAULT) -> GivenTrace:
    """Return a row's trace, checked as a teacher's answer is. Raises RowRefused."""
    if missing := [task for task in declared.tasks_of(sample) if given.verdict.get(task) is None]:
        raise RowRefused(f"no verdict on the {missing[0]}")
    steps = {f"{task}_steps": tuple(given.steps.get(task, ())) for task in declared.tasks}
    verdict: dict[str, Any] = {task: given.verdict.get(task) for task in declared.tasks}
    values: dict[str, Any] = {**given.rest, **steps, **verdict, "origin": origin}
    values["explanation"] = values.get("explanation") or reason_of(given.steps, sample, declared)
    if not values["explanation"]:
        raise RowRefused("it has a verdict and no reasoning")
    try:
        trace: GivenTrace = trace_form_of(GivenTrace, words_of(declared)).model_validate(values)
        check_given(trace, Question("", sample.prompt, sample.response), words_of(declared))
    except ValidationError as error:
        raise RowRefused(first_fault(error)) from None
    except InvalidTrace as error:
        raise RowRefused(str(error)) from None
    if "\\u0000" in trace.model_dump_json():
        raise RowRefused("its reasoning holds a NUL character")
    return trace


def reason_of(steps: Steps, sample: SampleRow, declared: Declaration = DEFAULT) -> str:
    """Return the reasoning's last sentence that says more than a label, on the task that decides; "" without any."""
    decided = steps.get(declared.main_task(sample)) or next(iter(steps.values()), ())
    sentences = [sentence for step in decided for sentence in _SENTENCE.split(step) if sentence]
    fitting = [one for one in sentences if len(one) <= LONGEST_REASON]
    telling = [one for one in fitting if len(one.split()) >= _LEAST_WORDS or not _ENDS_IN_A_LABEL.search(one)]
    chosen = next(iter([*telling[::-1], *fitting[::-1], *sentences[::-1]]), "")
    cut = chosen[:LONGEST_REASON]
    return chosen if len(chosen) <= LONGEST_REASON else cut.rpartition(" ")[0] or cut


def _records(data: Data) -> tuple[NumberedRecords, str]:
    if data.hub_split is None:
        return read_records(Path(data.path)), Path(data.path).name
    from wizloop.loop.data import hub

    return hub.read_records(data.path, data.hub_split), hub.dataset_name(data.path)


def _form(data: Data, first: Record) -> Form:
    _check_mapping(data, first)
    found = form_of(first, data.map)
    if found is None:
        listed = ", ".join(" ".join(column.split()) for column in list(first)[:20])
        names = ", ".join(dict.fromkeys(form.name for form in FORMS))
        raise ImportRefused(
            f"{data.path}: no reasoning is found in its columns ({listed}). Known forms: {names}; or map the columns: "
            "--map COLUMN=prompt --map COLUMN=reasoning --map COLUMN=verdict"
        )
    return found


def _check_mapping(data: Data, first: Record) -> None:
    """Raise ImportRefused for a mapping of traces that names an unknown key or column."""
    if unknown := sorted(set(data.map) - set(MAP_KEYS)):
        raise ImportRefused(
            f"{data.path}: the mapping of traces names {unknown[0]!r}; choose one of {', '.join(MAP_KEYS)}"
        )
    if absent := [column for column in data.map.values() if column not in first]:
        raise ImportRefused(
            f"{data.path}: no column {absent[0]!r}, which the mapping names; there are {', '.join(first)}"
        )


def _row(
    form: Form, reader: RowReader, words: LabelWords, number: int, record: Record | RowRefused
) -> GivenRow | Refused:
    try:
        given = _read(form, record, words)
        [sample] = reader.rows(number, {"content": given.content})
        if isinstance(sample, Refused):
            return sample
        return GivenRow(number, sample, trace_of(given, sample.row_ref, sample, words.declared))
    except RowRefused as refused:
        if isinstance(refused, UnknownLabel):
            words.count(refused.task, refused.word)
        return Refused(number, str(refused), refused.bad)


def _read(form: Form, record: Record | RowRefused, words: LabelWords) -> Reasoned:
    if isinstance(record, RowRefused):
        raise record
    if missing := form.columns - record.keys():
        raise BadRow(f"no column {min(missing)!r}, which {form.name} needs")
    try:
        return form.read(record, words)
    except (KeyError, TypeError, AttributeError) as error:
        raise BadRow(f"not in the shape of {form.name} ({error})") from None


def _first_accepted(rows: Iterator[GivenRow | Refused], limit: int) -> Iterator[GivenRow | Refused]:
    """Yield rows until `limit` of them were accepted."""
    accepted = 0
    while accepted < limit and (row := next(rows, None)) is not None:
        accepted += isinstance(row, GivenRow)
        yield row
