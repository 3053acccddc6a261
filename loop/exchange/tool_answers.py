"""Read the answers of people from the exports of Label Studio and Argilla, and from plain tables. Decides nothing.

Label Studio's JSON, JSON-MIN and CSV, and Argilla's records as `Dataset.to_disk`, `records.to_json` and
`records.to_list(flatten=True)` give them. Predictions, suggestions, drafts and canceled or discarded answers are no
answers.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wizloop.loop.data.files import read_records
from wizloop.loop.data.records import ImportRefused, Record, RowRefused
from wizloop.store.display import shown

_NAME_BYTES = 80
"""Bytes of a person's name: it comes from a file, and stands beside every decision."""
_MOST_DIGITS = 18
"""Of an id: the database holds no longer one."""
_MAYBE_DRAFT = "its answers may be drafts: Argilla's nested records do not say; export them with to_list(flatten=True)"


@dataclass(frozen=True)
class Asked:
    """What was exported: by which names a file has the questions, an item's id and its digest, and by which command."""

    questions: Sequence[str]
    item: str
    digest: str
    command: str
    kept: Sequence[str] = ()
    """Names of other values that were exported and come back."""
    rater: str | None = None
    """Column of a plain table that names the person."""


@dataclass(frozen=True)
class Answer:
    """What one person answered about one item; a question without an answer is left out."""

    row: int
    item: int
    digest: str
    kept: Mapping[str, str]
    by: str
    """person:<tool>:<name or id>."""
    given: Mapping[str, str]


class NotAnswers(ValueError):
    """A record is no export of our questions; the message is the reason."""


@dataclass
class Answers:
    """The answers in a file, and the records that hold none, with the reasons."""

    found: list[Answer] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def read(path: Path, asked: Asked) -> Answers:
    """Read a file, or the folder that Argilla's `to_disk` made. Raises ImportRefused."""
    answers = Answers()
    file = path / "records.json" if path.is_dir() else path
    for number, record in read_records(file):
        try:
            if isinstance(record, RowRefused):
                raise NotAnswers(str(record))
            answers.found += [
                Answer(number, *_identity(record, asked), by, given)
                for by, given in _reader(record, asked)(record, asked.questions)
                if given
            ]
        except NotAnswers as error:
            answers.problems.append(f"record {number}: {error}")
    if not answers.found:
        raise ImportRefused(f"{file}: {next(iter(answers.problems), 'nobody has answered anything in it yet')}")
    return answers


Given = Iterator[tuple[str, dict[str, str]]]


def _reader(record: Record, asked: Asked) -> Callable[[Record, Sequence[str]], Given]:
    if isinstance(record.get("annotations"), list) and isinstance(record.get("data"), dict):
        return _label_studio
    if "annotation_id" in record or "annotator" in record:
        return _label_studio_flat
    if isinstance(record.get("responses"), dict) and isinstance(record.get("fields"), dict):
        return _argilla
    if any(key.endswith(".responses") for key in record):
        return _argilla_flat
    if (named := asked.rater) is not None and named in record:
        return lambda record, questions: _plain(record, questions, str(record[named]))
    if any(isinstance(inside, dict) and asked.item in inside for inside in (record, record.get("data"))):
        # Ours, without an answer: Argilla's flat records name no question that nobody has answered.
        return lambda *_: iter(())
    raise NotAnswers("not an export of Label Studio or Argilla")


def _identity(record: Record, asked: Asked) -> tuple[int, str, dict[str, str]]:
    """Return the item's id, its digest and what else is kept, wherever the tool has them."""
    inside = record.get("data") or record.get("metadata")
    there = inside if isinstance(inside, dict) and asked.item in inside else record
    item = str(there.get(asked.item))
    if not (item.isascii() and item.isdigit() and len(item) <= _MOST_DIGITS):
        raise NotAnswers(f"it has no {asked.item}, so it was not exported by `wizloop {asked.command}`")
    return int(item), str(there.get(asked.digest)), {name: str(there[name]) for name in asked.kept if there.get(name)}


def _label_studio(record: Record, questions: Sequence[str]) -> Given:
    for one in record["annotations"]:
        if not isinstance(one, dict) or one.get("was_cancelled") or not isinstance(one.get("result"), list):
            continue
        given: dict[str, str] = {}
        for each in one["result"]:
            if isinstance(each, dict) and each.get("from_name") in questions and isinstance(each.get("value"), dict):
                value = each["value"]
                _add(given, each["from_name"], value.get("choices", value.get("text")))
        yield _person("label-studio", one.get("completed_by")), given


def _label_studio_flat(record: Record, questions: Sequence[str]) -> Given:
    """Read JSON-MIN and CSV: one row for each annotation, canceled ones left out."""
    given: dict[str, str] = {}
    for name in questions:
        value = record.get(name)
        _add(given, name, value.get("choices", value.get("text")) if isinstance(value, dict) else value)
    yield _person("label-studio", record.get("annotator")), given


def _argilla(record: Record, questions: Sequence[str]) -> Given:
    by: dict[str, dict[str, str]] = {}
    for name, responses in record["responses"].items():
        for one in responses if isinstance(responses, list) and name in questions else ():
            if isinstance(one, dict) and _is_submitted(one.get("status"), record):
                _add(by.setdefault(_person("argilla", one.get("user_id")), {}), name, one.get("value"))
    yield from by.items()


def _argilla_flat(record: Record, questions: Sequence[str]) -> Given:
    by: dict[str, dict[str, str]] = {}
    for name in questions:
        columns = [record.get(f"{name}.responses{rest}") for rest in ("", ".users", ".status")]
        values, users, statuses = (each if isinstance(each, list) else [] for each in columns)
        for at, value in enumerate(values):
            user, status = (each[at] if at < len(each) else None for each in (users, statuses))
            if _is_submitted(status, record):
                _add(by.setdefault(_person("argilla", user), {}), name, value)
    yield from by.items()


def _plain(record: Record, questions: Sequence[str], who: str) -> Given:
    given: dict[str, str] = {}
    for name in questions:
        _add(given, name, record.get(name))
    yield f"person:{who}", given


def _is_submitted(status: object, record: Record) -> bool:
    """Return whether an answer of Argilla was submitted. Raises NotAnswers if that cannot be told."""
    if status is None and record.get("status") == "pending":
        raise NotAnswers(_MAYBE_DRAFT)
    return status in (None, "submitted")


def _add(given: dict[str, str], name: str, value: object) -> None:
    """Keep an answer: a text or a number, or a list of one. Raises NotAnswers for several."""
    values = [str(one) if type(one) is int else one for one in (value if isinstance(value, list) else [value])]
    texts = [one for one in values if isinstance(one, str) and one.strip()]
    if len(texts) > 1:
        raise NotAnswers(f"{name} has {len(texts)} answers of one person: choose one")
    if texts:
        given[name] = texts[0]


def _person(tool: str, who: object) -> str:
    """Return who answered: Label Studio gives an id, or an object with an e-mail address; Argilla an id."""
    named = (who.get("email") or who.get("id")) if isinstance(who, dict) else who
    text = "unknown" if named is None else " ".join(str(named).split()) or "unknown"
    return f"person:{tool}:{shown(text, _NAME_BYTES)}"
