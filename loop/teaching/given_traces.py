"""The teacher "traces" over the files that a recipe names: which text has which reasoning, as it stands in its row."""

import hashlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from wizloop import regular_file
from wizloop.backends.teachers.given import GivenTeacher, GivenTrace
from wizloop.backends.teachers.recorded import text_sha
from wizloop.loop.data.records import ImportRefused
from wizloop.loop.data.sample_rows import Refused
from wizloop.loop.teaching.given_rows import GivenRow, open_rows, words_of
from wizloop.loop.words import DEFAULT, TASKS, Declaration
from wizloop.recipes.sections import Data
from wizloop.recipes.teaching import Traces

IMPORTED = "imported traces"
"""The model of the teacher without files: everything that it can say was imported."""


def teacher_of(files: Iterable[Traces], declared: Declaration = DEFAULT) -> GivenTeacher:
    """Read the files whole. Raises ImportRefused for one that cannot be read or has no reasoning.

    Of a text with two different verdicts neither can be trusted: it is refused.
    """
    traces: dict[str, str] = {}
    refused: dict[str, str] = {}
    names = []
    for file in files:
        data = data_of(file)
        names.append(model_of(data))
        _fill(data, traces, refused, declared)
    return GivenTeacher(", ".join(names) or IMPORTED, traces, refused, words_of(declared))


def reasons(files: Iterable[Traces], most: int, declared: Declaration = DEFAULT) -> Iterator[str]:
    """Yield the sentences of the first traces: the wording that a guard built from scratch must learn to read."""
    rows = (row for file in files for row in open_rows(data_of(file), declared).rows if isinstance(row, GivenRow))
    yield from (row.trace.explanation for row in islice(rows, most))


def data_of(file: Traces) -> Data:
    """Return a file of traces as the reader of rows takes it."""
    return Data(path=file.path, hub_split=file.hub_split, map=file.map, label=file.label, split="seed")


def model_of(data: Data) -> str:
    """Return the name of what answers: the file and its content, so that another content may be asked again."""
    if data.hub_split is not None:
        return f"{data.path} {data.hub_split}"
    try:
        with regular_file.opened(Path(data.path)) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ImportRefused(f"{data.path}: cannot be read: {error.strerror}") from None
    return f"{Path(data.path).name} {digest[:12]}"


def _fill(data: Data, traces: dict[str, str], refused: dict[str, str], declared: Declaration) -> None:
    found, first = 0, ""
    for row in open_rows(data, declared).rows:
        if isinstance(row, Refused):
            first = first or f"; the first reason is in row {row.row}: {row.reason}"
            continue
        found += 1
        sample, trace = row.sample, row.trace
        _take(text_sha(sample.prompt, sample.response), trace, traces, refused)
        if sample.response is not None and trace.request_steps:
            _take(text_sha(sample.prompt, None), _about_the_request(trace), traces, refused)
    if not found:
        raise ImportRefused(f"{data.path}: no row has reasoning and a verdict{first}")


def _take(key: str, trace: GivenTrace, traces: dict[str, str], refused: dict[str, str]) -> None:
    """Keep the first trace of a text, unless a later one has another verdict."""
    raw = traces.get(key)
    if raw is None and key not in refused:
        traces[key] = trace.model_dump_json()
    elif raw is not None:
        first = type(trace).model_validate_json(raw)
        if any(getattr(first, task) != getattr(trace, task) for task in TASKS):
            del traces[key]
            refused[key] = f"{first.origin} and {trace.origin} have different verdicts on this text"


def _about_the_request(trace: GivenTrace) -> GivenTrace:
    """Return the part of a pair's trace that is about the prompt."""
    without = {"completion": None, "completion_steps": (), "response": None, "response_steps": ()}
    return trace.model_copy(update={**without, "explanation": trace.request_steps[-1][:240]})
