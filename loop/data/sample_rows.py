"""Convert one record of a file to sample rows, or to the reason why it is refused.

Every text here is hostile: it is checked for what the store cannot hold, and never interpreted.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from wizloop.loop.data.category_columns import Read
from wizloop.loop.data.formats import NO_LABELS, Content, Format, Labels
from wizloop.loop.data.formats_conversations import chosen_turns
from wizloop.loop.data.label_words import Given, LabelWords, UnknownLabel, is_missing
from wizloop.loop.data.records import BadRow, Record, RowRefused
from wizloop.loop.data.similarity import normalize
from wizloop.loop.words import Task
from wizloop.recipes.sections import Data

_REQUEST_ONLY = {"request"}
_HALVES = {"dev": (0.0, 0.5), "test": (0.5, 1.0), None: (0.0, 1.0)}
MAX_TEXT = 1_000_000
"""UTF-8 bytes of one prompt or one response."""


class SampleRow(NamedTuple):
    """One accepted row."""

    prompt: str
    response: str | None
    labels: Mapping[Task, str]
    """The known labels; empty if they are hidden."""
    source: str
    """The row's own source, or else the file's name."""
    row_ref: str
    """File name and row number."""
    policy: str | None
    categories: tuple[str, ...] | None = None
    """As the file names them; None where it does not say."""


class Refused(NamedTuple):
    """One row that was not imported, by its row number, from 1."""

    row: int
    reason: str
    bad: bool = False
    """True if the row is malformed, False if it is merely unusable."""


@dataclass(frozen=True)
class RowReader:
    """Convert the records of one file to rows."""

    name: str
    format: Format
    data: Data
    words: LabelWords = field(default_factory=LabelWords)
    """What the file's label words mean, and which of them are unknown."""
    categories: Read | None = None
    """Reads the categories of a record; None for a file without any."""

    def rows(self, number: int, record: Record | RowRefused) -> Sequence[SampleRow | Refused]:
        """Return the rows of a record, or the reason to refuse it."""
        try:
            content = self._content(record)
        except RowRefused as refused:
            return (Refused(number, str(refused), refused.bad),)
        if isinstance(content, list):
            rows = [self._row(one, number, f"{number}.{place}") for place, one in enumerate(content, start=1)]
        else:
            rows = [self._row(content, number, str(number))]
        if self.categories is None or isinstance(record, RowRefused):
            return rows
        if (named := self.categories(record)) is None:
            return rows
        return [row._replace(categories=named) if isinstance(row, SampleRow) else row for row in rows]

    def _content(self, record: Record | RowRefused) -> Content | list[Content]:
        if isinstance(record, RowRefused):
            raise record
        if self.data.hide_labels and "label" in record:
            record = {column: value for column, value in record.items() if column != "label"}
        fmt = self.format
        if not fmt.columns <= record.keys():
            raise BadRow(f"no column {min(fmt.columns - record.keys())!r}, which the format {fmt.name!r} needs")
        try:
            content = fmt.read(record)
        except (KeyError, TypeError, AttributeError) as error:
            raise BadRow(f"not in the shape of the format {fmt.name!r} ({error})") from None
        if isinstance(content, list):
            return content if all(type(one.prompt) is str for one in content) else self._turns_of(content)
        return content if type(content.prompt) is str else chosen_turns(content, self.data)

    def _turns_of(self, contents: Sequence[Content]) -> list[Content]:
        """Return the samples of several conversations in one record."""
        chosen = (chosen_turns(content, self.data) for content in contents)
        return [sample for each in chosen for sample in (each if isinstance(each, list) else [each])]

    def _row(self, content: Content, number: int, place: str) -> SampleRow | Refused:
        try:
            return self._accepted(content, f"{self.name}:{place}")
        except RowRefused as refused:
            return Refused(number, str(refused), refused.bad)

    def _accepted(self, content: Content, row_ref: str) -> SampleRow:
        prompt, response, given, source, policy = content
        if self.data.prompts_only:
            response = None
            given = {task: label for task, label in given.items() if task == "request"}
        prompt = "" if prompt is None else _text(prompt, "prompt")
        if not prompt or prompt.isspace():
            raise RowRefused("the prompt is empty")
        if _is_redacted(prompt):
            raise RowRefused("the prompt is redacted")
        # NaN, which is not equal to itself, is how pandas writes that there is none.
        response = None if response is None or response == "" or response != response else _text(response, "response")
        if response is not None and is_missing(response):
            response = None
        if response is not None and _is_redacted(response):
            raise RowRefused("the response is redacted")
        labels = NO_LABELS if self.data.hide_labels else self._read(given, prompt, response)
        if not self.data.hide_labels and (not labels or (response is None and labels.keys() != _REQUEST_ONLY)):
            labels = self._checked(labels, given, response)
        source = self.name if source is None else _text(source, "source")
        policy = None if policy is None else _text(policy, "policy")
        return SampleRow(prompt, response, labels, source, row_ref, policy)

    def _read(self, given: Labels, prompt: str, response: str | None) -> Mapping[Task, str]:
        """Return the labels that are known. Raises UnknownLabel, unless the pool takes the row without this label."""
        if self.words.is_own:
            given = {task: one if isinstance(one, Given) else Given(one) for task, one in given.items()}
        # Most rows have one word that the format knew already.
        for one in given.values():
            if one.__class__ is Given:
                return dict(self._known(given, prompt, response))
        return given  # type: ignore[return-value]

    def _known(self, given: Labels, prompt: str, response: str | None) -> Iterator[tuple[Task, str]]:
        for task, one in given.items():
            try:
                label = self.words.read(one, task) if isinstance(one, Given) else one
            except UnknownLabel as unknown:
                if is_wanted(prompt, response, self.data):
                    self.words.count(task, unknown.word)
                if self.data.split != "pool":
                    raise
                label = None
            if label is not None:
                yield task, label

    def _checked(self, labels: Mapping[Task, str], given: Labels, response: str | None) -> Mapping[Task, str]:
        """Return the labels that a row of the pool can have; in another split raise RowRefused for one that it cannot.

        That is a label of a response that is missing, and no label at all.
        """
        about = [] if response is not None else [task for task in labels if task != "request"]
        if self.data.split == "pool":
            return {task: label for task, label in labels.items() if task not in about}
        if about:
            raise RowRefused(f"a {about[0]} label without a response")
        if not labels:
            none = f"no {next(iter(given))} label" if given else "no label"
            raise RowRefused(none if given else f"{none}, and a sample of {self.data.split} needs one")
        return labels


def is_wanted(prompt: str, response: str | None, data: Data) -> bool:
    """Return whether a row passes the filters max_chars, half and part. One that does not is not an error."""
    if data.max_chars is not None and len(prompt) + len(response or "") > data.max_chars:
        return False
    low, high = data.part or _HALVES[data.half]
    return (low, high) == (0.0, 1.0) or low <= place_of(prompt) < high


def place_of(prompt: str) -> float:
    """Return a prompt's place in [0, 1), whatever its case, spacing and punctuation.

    The first 8 hex digits of the SHA-256 of the normalized prompt, over 16^8.
    """
    return int(hashlib.sha256(normalize(prompt).encode()).hexdigest()[:8], 16) / 16**8


def _is_redacted(text: str) -> bool:
    """Return whether a text only says that it was taken out, as Aegis 2.0 does."""
    return len(text) < 20 and text.strip(" \t\r\n[]<>()*").casefold() == "redacted"


def _text(value: Any, name: str) -> str:
    """Return the text unchanged if the store can hold it. Raises BadRow."""
    if not isinstance(value, str):
        raise BadRow(f"the {name} is a {type(value).__name__}, not a text")
    if "\0" in value:
        raise BadRow(f"the {name} holds a NUL character")
    try:
        size = len(value) if value.isascii() else len(value.encode())
    except UnicodeEncodeError:
        raise BadRow(f"the {name} holds a lone surrogate, or bytes that are not UTF-8") from None
    if size > MAX_TEXT:
        raise BadRow(f"the {name} is {size:,} bytes, more than {MAX_TEXT:,}")
    return value
