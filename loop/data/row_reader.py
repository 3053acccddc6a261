"""One record of a file made into the rows that it holds, or into the reason why it is refused.

Every text here is hostile: it is checked for what the store cannot hold, and never interpreted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wizloop.loop.data.containers import BadRow, Record, RowRefused
from wizloop.loop.data.formats import NO_LABELS, Content, Format
from wizloop.loop.data.sample_rows import Refused, SampleRow, Split
from wizloop.loop.words import Task

_REQUEST = {"request"}
MAX_TEXT = 1_000_000
"""Bytes of UTF-8 of one prompt or one response."""


@dataclass(frozen=True)
class RowReader:
    """Turns the records of one file into rows."""

    name: str
    format: Format
    split: Split
    hide_labels: bool
    prompts_only: bool
    ids: dict[int, int] = field(default_factory=dict)
    """Of each id's hash, the hash of the text that it came with first."""

    def rows(self, number: int, record: Record | RowRefused) -> Sequence[SampleRow | Refused]:
        """The rows that a record holds, or the reason against it."""
        try:
            found = self._read(record)
            if not isinstance(found, list):
                return (self._accepted(found, f"{self.name}:{number}"),)
        except RowRefused as refused:
            return (Refused(number, str(refused), refused.bad),)
        return [self._one_of_several(content, number, place) for place, content in enumerate(found, start=1)]

    def _one_of_several(self, content: Content, number: int, place: int) -> SampleRow | Refused:
        try:
            return self._accepted(content, f"{self.name}:{number}.{place}")
        except RowRefused as refused:
            return Refused(number, str(refused), refused.bad)

    def _read(self, record: Record | RowRefused) -> Content | list[Content]:
        if isinstance(record, RowRefused):
            raise record
        if self.hide_labels and "label" in record:
            record = {column: value for column, value in record.items() if column != "label"}
        wanted = self.format
        if not wanted.columns <= record.keys():
            raise BadRow(f"no column {min(wanted.columns - record.keys())!r}, which the format {wanted.name!r} needs")
        try:
            found = wanted.read(record)
        except (KeyError, TypeError, AttributeError) as error:
            raise BadRow(f"not in the shape of the format {wanted.name!r} ({error})") from None
        if wanted.ids and "id" in record and not isinstance(found, list):
            self._one_text_an_id(record["id"], found)
        return found

    def _one_text_an_id(self, given: Any, content: Content) -> None:
        """Raise BadRow for an id that stood for another text before."""
        text = hash((str(content.prompt), str(content.response))) & 0x3FFFFFFF
        if self.ids.setdefault(hash(str(given)), text) != text:
            raise BadRow(f"the id {str(given)[:40]!r} came before with another text")

    def _accepted(self, content: Content, row_ref: str) -> SampleRow:
        prompt, response, labels, source, policy = content
        if self.prompts_only:
            response = None
            labels = {task: label for task, label in labels.items() if task == "request"}
        prompt = _text(prompt, "prompt")
        if not prompt or prompt.isspace():
            raise RowRefused("the prompt is empty")
        response = None if response is None or response == "" else _text(response, "response")
        if self.hide_labels:
            labels = NO_LABELS
        elif not labels or (response is None and labels.keys() != _REQUEST):
            self._fit(labels, response)
        source = self.name if source is None else _text(source, "source")
        policy = None if policy is None else _text(policy, "policy")
        return SampleRow(prompt, response, labels, source, row_ref, policy)

    def _fit(self, labels: Mapping[Task, str], response: str | None) -> None:
        """Raise RowRefused for labels that cannot be about what the row holds, or that the split lacks."""
        if response is None and (about := [task for task in labels if task != "request"]):
            raise RowRefused(f"a {about[0]} label, and no response that it could be about")
        if self.split != "pool" and not labels:
            raise RowRefused(f"no label, and a sample of {self.split} needs one")


def _text(value: Any, name: str) -> str:
    """The text, unchanged, if the store can hold it. Raises BadRow."""
    if not isinstance(value, str):
        raise BadRow(f"the {name} is a {type(value).__name__}, not a text")
    if "\0" in value:
        raise BadRow(f"the {name} holds a NUL character")
    if value.isascii():
        size = len(value)
    else:
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            raise BadRow(f"the {name} holds a lone surrogate, or bytes that are not UTF-8") from None
    if size > MAX_TEXT:
        raise BadRow(f"the {name} is {size:,} bytes, more than {MAX_TEXT:,}")
    return value
