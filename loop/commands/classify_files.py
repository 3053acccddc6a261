"""What `classify` reads and writes: lines of text, or the rows of a table with their labels; JSON objects, or a table.

Every text is data: in a table no cell can be taken for a formula by a spreadsheet.
"""

import csv
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from wizloop import regular_file
from wizloop.loop.words import DEFAULT, TASKS, Declaration, by_task

if TYPE_CHECKING:
    from wizloop.loop.api import Guard, Verdict
    from wizloop.loop.data.sample_reader import SampleStream
    from wizloop.loop.data.sample_rows import Refused
    from wizloop.loop.guard.rendering import InputText

TABLES = (".csv", ".tsv", ".json", ".parquet", ".gz")
"""Suffixes of files that do not hold one text per line."""
_KEYS = ("line", "verdict", "probability", "confidence", "cell", "trace", "cut_tokens", "threshold", "scale")
_BY_TASK = ("verdict", "probability", "label")
_ONCE = ("confidence", "cell", "right", "cut_tokens", "trace")
_MOST_WORDS = 5
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters that make a spreadsheet read a cell as a formula."""


class BadLine(ValueError):
    """A line of the input holds no text to classify."""


class Asked(NamedTuple):
    """A text to judge, where it stands, and its known labels."""

    text: "InputText"
    row: str
    """File name and row number."""
    labels: Mapping[Any, str]


def is_table(file: Path) -> bool:
    """Return whether a file is read as `import` reads it: by its name, or JSON Lines of more than the texts."""
    suffix = file.suffix.casefold()
    return suffix in TABLES or (suffix in (".jsonl", ".ndjson") and file.is_file() and _has_columns(file))


def _has_columns(file: Path) -> bool:
    """Return whether the first line is an object with other columns than prompt and response, or without a prompt."""
    try:
        with TextIOWrapper(regular_file.opened(file), "utf-8-sig", errors="replace") as lines:
            first = json.loads(next((line for line in lines if line.strip()), ""))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(first, dict) and ("prompt" not in first or not first.keys() <= {"prompt", "response"})


@dataclass
class Table:
    """A file that is read as `import` reads it into the pool, by settings of [[data]]."""

    file: Path
    how: Mapping[str, Any]
    declared: Declaration = DEFAULT
    """The labels that its words stand for."""
    refused: "list[Refused]" = field(default_factory=list)
    stream: "SampleStream | None" = None

    def rows(self) -> Iterator[Asked]:
        """Read the rows that can be judged; those without a known label have none. Raises ImportRefused."""
        from wizloop.loop.data.sample_reader import stream_samples
        from wizloop.loop.data.sample_rows import SampleRow
        from wizloop.loop.guard.rendering import InputText
        from wizloop.recipes.sections import Data

        data = Data(path=str(self.file), split="pool", **self.how)
        self.stream = stream_samples(data, declared=self.declared)
        for row in self.stream.rows:
            if isinstance(row, SampleRow):
                number = row.row_ref.rpartition(":")[2].partition(".")[0]
                yield Asked(InputText(row.prompt, row.response, int(number)), row.row_ref, row.labels)
            else:
                self.refused.append(row)

    def told(self) -> list[str]:
        """Return what to say of the file once it is read: its format, the rows and the labels that were left out."""
        from wizloop.loop.data.import_file import list_refused

        if self.stream is None:
            return []
        lines = [f"{self.file}: format {self.stream.format}" + (f"; {self.stream.note}" if self.stream.note else "")]
        if self.refused:
            lines += [f"{len(self.refused):,} of its rows are left out", *list_refused(self.refused)]
        for task, words in self.stream.words.unknown.items():
            listed = ", ".join(f"{n:,} {word!r}" for word, n in words.most_common(_MOST_WORDS))
            lines.append(f"{words.total():,} rows have an unknown {task} label and are judged without it: {listed}")
        return lines


def lines_of(lines: Iterable[str], name: str) -> Iterator[Asked]:
    """Read the lines of a file, or of stdin, by its name. Raises BadLine."""
    return (Asked(text, f"{name}:{text.line}", {}) for text in read_lines(lines))


def read_lines(lines: Iterable[str]) -> "Iterator[InputText]":
    """Read one text per line, plain or as an object with `prompt` and an optional `response`; skip empty lines.

    Raises BadLine.
    """
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _text(number, line.rstrip("\r\n"))


def _text(number: int, line: str) -> "InputText":
    from wizloop.loop.guard.rendering import InputText

    prompt, response = _object(number, line) if line.lstrip().startswith("{") else (line, None)
    try:
        f"{prompt}{response}".encode()
    except UnicodeEncodeError:
        raise BadLine(f"line {number}: a lone surrogate or invalid UTF-8: write whole characters") from None
    return InputText(prompt, response, number)


def _object(number: int, line: str) -> tuple[str, str | None]:
    """Return the prompt and response of a JSON object; a line that is not valid JSON is a prompt itself."""
    try:
        given = json.loads(line)
    except (ValueError, RecursionError):
        return line, None
    prompt, response = given.get("prompt"), given.get("response")
    if not isinstance(prompt, str) or not (response is None or isinstance(response, str)):
        raise BadLine(f"line {number}: `prompt` must be a string, and so must `response`, if given")
    return prompt, response


def judged(guard: "Guard", asked: Iterable[Asked], *, texts: bool) -> Iterator[dict[str, Any]]:
    """Judge texts and yield a row for each, in order, with its label and whether the verdict is right."""
    waiting: deque[Asked] = deque()

    def fed() -> "Iterator[InputText]":
        for one in asked:
            waiting.append(one)
            yield one.text

    for verdict in guard.judge(fed()):
        yield _row(waiting.popleft(), verdict, texts=texts, named=bool(guard.categories))


def _row(one: Asked, found: "Verdict", *, texts: bool, named: bool) -> dict[str, Any]:
    known = {task: label for task, label in one.labels.items() if task in found.verdict}
    row = {key: getattr(found, key) for key in _KEYS}
    if found.decision is not None:
        row["decision"] = found.decision
    row |= {"row": one.row, "label": by_task(one.labels)} | ({"policies": found.policies} if found.policies else {})
    row["right"] = all(found.verdict[task] == label for task, label in known.items()) if known else None
    row |= {"categories": found.categories} if named else {}
    return row | {"prompt": one.text.prompt, "response": one.text.response} if texts else row


def csv_writer(
    to: TextIO, *, texts: bool, decides: bool = False, named: bool = False
) -> Callable[[dict[str, Any]], None]:
    """Write the header of a table and return the writer of its rows, with a column for each task.

    `decides` is whether the guard has a promised error, and so a decision on every row; `named` whether it names
    categories.
    """
    names = [f"{task}_{key}" for key in _BY_TASK for task in TASKS]
    columns = ["row", *names, *_ONCE, *(("decision",) if decides else ()), *(("categories",) if named else ())]
    columns += ["prompt", "response"] if texts else []
    table = csv.DictWriter(to, columns, extrasaction="ignore", lineterminator="\n")
    table.writeheader()

    def write(row: dict[str, Any]) -> None:
        flat = {f"{task}_{key}": row[key].get(task) for key in _BY_TASK for task in TASKS}
        flat |= {"categories": ", ".join(row["categories"])} if row.get("categories") is not None else {}
        table.writerow({name: cell(value) for name, value in (row | flat).items()})

    return write


def cell(value: object) -> object:
    """Return a value as a spreadsheet shows it: a text that begins like a formula gets an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
