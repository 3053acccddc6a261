"""Files whose labels are the outputs of a guard or a moderation API: `guard_outputs` reads them.

A file is recognized by what stands in its columns. What an output speaks of is never guessed: its column is called
after the request or the response, or the row has no response.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from wizloop.loop.data import guard_outputs
from wizloop.loop.data.formats import Content, Format, columns, text_column
from wizloop.loop.data.guard_outputs import Output
from wizloop.loop.data.label_words import THIRD, Given, word_of
from wizloop.loop.data.records import BadRow, Record, RowRefused
from wizloop.loop.words import Task

ABOUT: Mapping[Task, frozenset[str]] = {
    "request": columns("prompt request user input"),
    "response": columns("response completion assistant agent answer"),
}
"""Words in a column's name that say what its output speaks of."""
RESPONSES = ("response", "completion")
NOT_OUTPUTS = frozenset((*RESPONSES, "prompt", "text", "content", "input", "instruction", "id", "model"))
OWN_LABELS = columns("label labels")
"""A file with such a column has labels of its own, and outputs beside them are left alone."""
_SHOWN = 40
GUARDED = "guard outputs"
UNCHECKED = "its labels are the outputs of a guard or a moderation API: nobody checked them"


def is_called_after_one(column: str) -> bool:
    """Return whether a column's name says that a guard or a moderation API wrote it."""
    return "guard" in column.casefold() or "moderation" in column.casefold()


def bound(fmt: Format, first: Record) -> Format:
    """Return the format of guards' outputs with the columns that hold them in the first record, and no others.

    What no guard writes is then an unknown label and not a missing one.
    """
    if fmt.read is not _guarded or guard_outputs.read(first) is not None or "input" in fmt.columns:
        return fmt
    names = [name for name, _ in _outputs(first, frozenset())]
    return replace(fmt, read=partial(_guarded, trusted=frozenset(names), bound=True))


def _outputs(record: Record, trusted: frozenset[str], bound: bool = False) -> Iterator[tuple[str, Output]]:
    """Yield the columns that hold a guard's output; if `bound` these are the trusted ones, whatever is in them.

    A bare word is one only in a trusted column, or in one that is called after a guard. A record that is a moderation
    result itself, with its text, is the output of the column "".
    """
    if bound:
        yield from ((name, _output(record[name])) for name in trusted if word_of(record.get(name)) is not None)
        return
    if (flat := guard_outputs.read(record)) is not None:
        yield "", flat
        return
    for name, value in record.items():
        says_it = name in trusted or is_called_after_one(name)
        if name in NOT_OUTPUTS or (_is_bare(value) and not says_it):
            continue
        if (output := guard_outputs.read(value)) is not None:
            yield name, output


def _output(value: object) -> Output:
    return guard_outputs.read(value) or Output(word=str(value))


def _is_bare(value: object) -> bool:
    return isinstance(value, str) and value.strip().casefold() in ("safe", "unsafe")


def is_open(record: Record) -> bool:
    """Return whether a file may hold outputs of a guard, by its first record: it has a word or more, and no label."""
    return record.keys().isdisjoint(OWN_LABELS) and (
        any(map(_is_bare, record.values())) or any(_outputs(record, frozenset()))
    )


def settle(fmt: Format, records: Sequence[Record]) -> Format:
    """Return the format of guards' outputs if a file of plain columns shows in its first rows that it has some.

    If it does not show what they are about, return `fmt` with a note about that.
    """
    trusted = frozenset(
        name
        for name, value in records[0].items()
        if _is_bare(value) and name not in NOT_OUTPUTS | OWN_LABELS and _is_output(name, records)
    )
    if trusted and _is_guarded(records[0], "", trusted):
        return Format(GUARDED, frozenset(), partial(_guarded, trusted=trusted, bound=True), note=UNCHECKED)
    names = [" ".join(name.split())[:_SHOWN] for name, _ in _outputs(records[0], trusted) if name]
    if not names:
        return fmt
    note = (
        f"the outputs of a guard in the column {names[0]!r} do not say what they are about, and are not read: "
        f"--map {names[0]}=request_label or {names[0]}=response_label does"
    )
    return replace(fmt, note="; ".join(filter(None, (note, fmt.note))))


def _is_output(name: str, records: Sequence[Record]) -> bool:
    """Return whether a column holds nothing but a guard's outputs, and one of them names a category."""
    values = [record[name] for record in records if record.get(name) not in (None, "")]
    return all(map(guard_outputs.read, values)) and not all(map(_is_bare, values))


def _about(name: str, response: object) -> Task | None:
    """Return the task of an output in the column `name`, or None if that would be a guess."""
    words = frozenset(re.split(r"[^a-z]+", name.casefold()))
    named: list[Task] = [task for task, known in ABOUT.items() if words & known]
    if len(named) == 1:
        return named[0]
    return None if response else "request"


def _is_guarded(record: Record, _name: str, trusted: frozenset[str] = frozenset()) -> bool:
    response = _response(record)
    if _prompt(record) is None or not record.keys().isdisjoint(OWN_LABELS):
        return False
    found = [
        (*output.labels, *([] if output.labels else [_about(name, response)]))
        for name, output in _outputs(record, trusted)
    ]
    tasks = [task for of_one in found for task in of_one]
    return bool(tasks) and None not in tasks and len(set(tasks)) == len(tasks)


def _guarded(record: Record, trusted: frozenset[str] = frozenset(), bound: bool = False) -> Content | list[Content]:
    inputs, results = record.get("input"), record.get("results")
    if isinstance(inputs, list) and isinstance(results, list):
        return _each(inputs, results)
    response = _response(record)
    labels: dict[Task, str | Given] = {}
    policy = None
    for name, output in _outputs(record, trusted, bound):
        policy = policy or output.policy
        task = _about(name, response)
        harm = {task: _harm(output)} if task and not output.labels else {}
        for about, known in {**output.labels, **harm}.items():
            if labels.setdefault(about, known) != known:
                raise RowRefused(f"two outputs about the {about} disagree")
    if not response:
        labels = {task: known for task, known in labels.items() if task == "request"}
    return Content(_prompt(record), response, labels, policy=policy)


def _each(inputs: list[object], results: list[object]) -> list[Content]:
    """Read an answer about several texts: one sample each."""
    if len(inputs) != len(results) or not inputs:
        raise BadRow(f"{len(inputs)} inputs and {len(results)} results")
    outputs = [guard_outputs.read(result) or Output() for result in results]
    return [
        Content(text, None, {"request": _harm(said)}, policy=said.policy)
        for text, said in zip(inputs, outputs, strict=True)
    ]


def _harm(said: Output) -> str | Given:
    return said.harm or Given(said.word, THIRD)


def _prompt(record: Record) -> object:
    return record[text_column(record) or "input"] if text_column(record) or "input" in record else None


def _response(record: Record) -> object:
    given = next((record[name] for name in RESPONSES if name in record), None)
    return given or None


def _is_moderated(record: Record, _name: str) -> bool:
    inputs, results = record["input"], record["results"]
    return isinstance(inputs, list) and isinstance(results, list) and any(map(guard_outputs.read, results))


GUARD_SETS: tuple[Format, ...] = (
    Format("moderation answers", columns("input results"), _guarded, _is_moderated, UNCHECKED),
    Format(GUARDED, frozenset(), _guarded, _is_guarded, UNCHECKED),
)
