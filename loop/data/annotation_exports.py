"""Flatten what annotation tools export: Label Studio, Argilla and Prodigy's choices.

A record becomes one of text columns, and a column for each question with a list of its answer: of one label, or empty
if nobody submitted one or as many annotators said something else.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from wizloop.loop.data.conversations import looks_like_one
from wizloop.loop.data.formats import text_column
from wizloop.loop.data.label_words import WORDS
from wizloop.loop.data.records import BadRow, NumberedRecords, Record, RowRefused
from wizloop.loop.words import TASKS

STUDIO_COLUMNS = frozenset({"annotator", "annotation_id", "lead_time"})
"""Columns of Label Studio's JSON-min and CSV, beside the text and the answers."""
RESPONSES = ".responses"
ANSWER_COLUMNS = ("response", "answer", "completion", "output")
SPEAKS_OF = (("request", "request"), ("prompt", "request"), ("refus", "completion"), ("answer", "response"))
"""What in a question's name shows its task, beside the tasks' own names."""

_OTHER_SHAPE = (KeyError, TypeError, AttributeError)

Flatten = Callable[[Record], Mapping[str, Any]]


@dataclass(frozen=True)
class Export:
    """The export of a tool, by its first record."""

    tool: str
    flatten: Flatten
    questions: tuple[str, ...]
    """Columns of the flattened record that hold answers."""

    def records(self, records: NumberedRecords) -> NumberedRecords:
        """Yield the records flattened. A record of another shape is refused."""
        for number, record in records:
            try:
                yield number, record if isinstance(record, RowRefused) else self.flat(record)
            except _OTHER_SHAPE as error:
                yield number, BadRow(f"not in the shape of an export of {self.tool} ({error})")

    def flat(self, record: Record) -> Record:
        """Return a record flattened, with all questions."""
        return {**{name: [] for name in self.questions}, **self.flatten(record)}

    def note(self, given: Mapping[str, str]) -> str:
        """Return what the user should know about the export, unless they map its columns."""
        if given or not self.questions:
            return ""
        return f"an export of {self.tool}, whose questions are {', '.join(self.questions)}"

    def mapping(self, first: Record) -> dict[str, str]:
        """Return {field: column} of a flattened record; empty if it is not clear which column is the text."""
        left = {name: value for name, value in first.items() if name not in self.questions}
        texts = [name for name, value in left.items() if isinstance(value, str) or looks_like_one(value)]
        prompt = text_column(left) or (texts[0] if len(texts) == 1 else None)
        if prompt is None:
            return {}
        answer = next((name for name in ANSWER_COLUMNS if name in texts and name != prompt), None)
        labels = _fields({name: first[name] for name in self.questions})
        return {"prompt": prompt, **({} if answer is None else {"response": answer}), **labels}


def export_of(first: Record) -> Export | None:
    """Return the tool whose export a file's first record shows, or None."""
    fields, responses = first.get("fields"), first.get("responses")
    tools: Iterable[tuple[str, bool, Flatten]] = (
        ("label studio", isinstance(first.get("data"), dict) and isinstance(first.get("annotations"), list), _studio),
        ("label studio", first.keys() >= STUDIO_COLUMNS, _studio_min),
        ("prodigy", isinstance(first.get("options"), list) and isinstance(first.get("accept"), list), _prodigy),
        ("argilla", any(name.endswith(RESPONSES) for name in first), _argilla_columns),
        (
            "argilla",
            isinstance(fields, dict) and isinstance(responses, dict | list),
            _argilla,
        ),
        ("argilla", any(map(_is_argilla_answer, first.values())), _argilla_dataset),
    )
    for tool, fits, flatten in tools:
        # What only looks like an export is read as what else it is.
        with suppress(*_OTHER_SHAPE):
            if fits:
                flat = flatten(first)
                return Export(tool, flatten, tuple(name for name, value in flat.items() if isinstance(value, _Answer)))
    return None


class _Answer(list[Any]):
    """An answer to a question of the annotation."""


def _agreed(votes: Iterable[Any]) -> _Answer:
    """Return what most annotators said, or an empty answer; a vote is a label or a list of labels."""
    said = Counter(tuple(vote) if isinstance(vote, list) else (vote,) for vote in votes if vote not in (None, "", []))
    top = said.most_common(2)
    return _Answer() if not top or (len(top) > 1 and top[0][1] == top[1][1]) else _Answer(top[0][0])


def _fields(answers: Mapping[str, Any]) -> dict[str, str]:
    """Return {field: question}: by its name, or `label` for the only other one, or the only one with known words."""
    named = {field: name for name in answers if (field := _field(name)) is not None}
    others = [name for name in answers if name not in named.values()]
    if len(others) > 1:
        known = {word for words in WORDS.values() for word in words}
        others = [name for name in others if {str(word).strip().casefold() for word in answers[name]} & known]
    return named if named or len(others) != 1 else {"label": others[0]}


def _field(question: str) -> str | None:
    words = question.casefold()
    tasks = (*((task, task) for task in TASKS), *SPEAKS_OF)
    return next((f"{task}_label" for part, task in tasks if part in words), None)


def _studio(record: Record) -> dict[str, Any]:
    votes: dict[str, list[Any]] = {}
    for annotation in record["annotations"]:
        if not annotation.get("was_cancelled"):
            for result in annotation.get("result", []):
                if isinstance(result, dict) and "choices" in result.get("value", {}):
                    votes.setdefault(result["from_name"], []).append(result["value"]["choices"])
    return {**record["data"], **{name: _agreed(said) for name, said in votes.items()}}


def _studio_min(record: Record) -> dict[str, Any]:
    """Read a record with one annotator's answers: several choices are an object, one is a text like any other."""
    words = {word for words in WORDS.values() for word in words}
    flat = dict(record)
    for name, value in record.items():
        if isinstance(value, dict) and isinstance(value.get("choices"), list):
            flat[name] = _agreed([value["choices"]])
        elif isinstance(value, str) and value.strip().casefold() in words and name != text_column(record):
            flat[name] = _agreed([value])
    return flat


def _prodigy(record: Record) -> dict[str, Any]:
    """Read choices; a rejected or ignored task has no answer. Options by number are read by their text."""
    names = {option["id"]: option.get("text") for option in record["options"] if isinstance(option, dict)}
    numbered = any(str(name).isdigit() for name in names)
    chosen = [names.get(name, name) if numbered else name for name in record["accept"]]
    left = {name: value for name, value in record.items() if name not in ("options", "accept", "answer")}
    return {**left, "accept": _agreed([chosen] if record.get("answer", "accept") == "accept" else [])}


def _argilla_columns(record: Record) -> dict[str, Any]:
    flat = dict(record)
    for column in record:
        name = column.removesuffix(RESPONSES)
        if name != column:
            said = record[column] or []
            states = record.get(f"{column}.status") or ["submitted"] * len(said)
            flat[name] = _agreed(vote for vote, state in zip(said, states, strict=False) if state == "submitted")
    return flat


def _argilla(record: Record) -> dict[str, Any]:
    """Read the records of Argilla's own JSON: by question in version 2, by annotator in its server's answers."""
    given, votes = record["responses"], dict[str, list[Any]]()
    by_question = given.items() if isinstance(given, dict) else _by_question(given)
    for name, answers in by_question:
        votes.setdefault(name, []).extend(_submitted(answers))
    return {**record["fields"], **{name: _agreed(said) for name, said in votes.items()}}


def _by_question(responses: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, list[Any]]]:
    for response in responses:
        for name, answer in (response.get("values") or {}).items():
            yield name, [{"status": response.get("status", "submitted"), **answer}]


def _argilla_dataset(record: Record) -> dict[str, Any]:
    answers = {name: _agreed(_submitted(value)) for name, value in record.items() if _is_argilla_answer(value)}
    return {**record, **answers}


def _submitted(answers: Any) -> Iterator[Any]:
    return (answer["value"] for answer in answers or [] if answer.get("status", "submitted") == "submitted")


def _is_argilla_answer(value: Any) -> bool:
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, dict) and first.keys() >= {"user_id", "value", "status"}
