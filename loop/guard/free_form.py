"""Parse the answers of instruct models that were never taught our format: Markdown, capitals, full stops, JSON.

It accepts other spellings of an answer, not other answers. The text must end in the answer: below a heading `Answers`,
or with nothing else in the text. Each field has exactly one of its task's words, and the text states no other anywhere.
A label that the judged text states itself may be a quotation of it. Whatever is unclear is unparsed.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from wizloop.loop.data import strict_json
from wizloop.loop.words import DEFAULT, FIELD, Declaration, Task

_MOST_LINES: Final = 16
"""Lines of an answer with its headings, fences and blank lines; also of a JSON object."""
_NOTHING: Final = ("none", "null", "n/a", "not applicable")
"""What models write where there is nothing to judge."""

# Bounded, so that no text takes longer than linear time.
_MARKS = r"[ \t*_`\"']{0,8}"
_NAMES = "|".join(FIELD.values())
_HEADING = re.compile(rf"#{{0,6}}{_MARKS}(?:final[ \t]{{1,4}})?answers?{_MARKS}:?{_MARKS}", re.IGNORECASE)
_EMPTY = re.compile(r"(?:```|~~~)[a-z]{0,10}|-{3,9}|\*{3,9}|={3,9}|", re.IGNORECASE)
_END = re.compile(r"(?:</s>|<\|[a-z_]{1,20}\|>)\Z")
_ITEM = re.compile(r"(?:[-*+•]|\d[.)])[ \t]{1,4}")
_NEXT_FIELD = re.compile(rf"[,;][ \t]{{1,4}}(?={_MARKS}(?:{_NAMES}){_MARKS}:)", re.IGNORECASE)
_TASK_OF: Final[Mapping[str, Task]] = {name.casefold(): task for task, name in FIELD.items()}


class Said(NamedTuple):
    """What an answer says about a task."""

    label: str | None
    """None: there is nothing to judge."""
    start: int
    """The character at which its word begins; -1 where that is unknown."""


class _Patterns(NamedTuple):
    """What the declared words make of a line."""

    field: re.Pattern[str]
    """A whole field of an answer."""
    statement: re.Pattern[str]
    """A label that is stated anywhere."""


class _Line(NamedTuple):
    text: str
    start: int


@lru_cache(maxsize=16)
def _patterns(declared: Declaration) -> _Patterns:
    # The longer first: a label may begin with another one.
    known = sorted({word for words in declared.by_task.values() for word in words}, key=lambda word: (-len(word), word))
    words = "|".join(map(re.escape, known))
    field = rf"(?P<name>{_NAMES}){_MARKS}:{_MARKS}(?P<word>{words}|{'|'.join(_NOTHING)}){_MARKS}[.,;!]?{_MARKS}"
    # Not the format itself, which many repeat: `Request: harmful|unharmful`, `Request: harmful or unharmful`.
    statement = rf"\b(?P<name>{_NAMES}){_MARKS}[:=]{_MARKS}(?P<word>{words})\b(?!{_MARKS}(?:[|/]|or\b))"
    return _Patterns(re.compile(field, re.IGNORECASE), re.compile(statement, re.IGNORECASE))


def parse(
    text: str, tasks: Sequence[Task], judged: Iterable[str] = (), declared: Declaration = DEFAULT
) -> dict[Task, Said] | None:
    """Return what the text says about the tasks; None if it is unparsed.

    Every task needs a label or, but for the request, a word such as `None`; other tasks are ignored. `judged` are the
    texts of the sample.
    """
    patterns = _patterns(declared)
    answer, fields = _answer(_lines(text), patterns.field), None
    if answer is not None:
        fields = _of_json(text, answer) if answer[0].text.startswith("{") else _of_lines(answer, patterns.field)
    if answer is None or fields is None or not set(tasks) <= set(fields):
        return None
    folded = {task: fields[task] for task in tasks}
    said = {task: one._replace(label=declared.known(task, one.label or "")) for task, one in folded.items()}
    if any(folded[task].label is not None and one.label is None for task, one in said.items()):
        return None
    if said["request"].label is None:
        return None
    if any(label != folded[task].label for task, label in _stated(text, patterns) if task in said):
        return None
    if any(label == folded[task].label for each in judged for task, label in _stated(each, patterns) if task in said):
        return None
    return said


def _lines(text: str) -> list[_Line]:
    """Return the lines without the white space around them, and where they start."""
    found, at = [], 0
    for line in text.splitlines(keepends=True):
        bare = _END.sub("", line.strip()).rstrip()
        found.append(_Line(bare, at + len(line) - len(line.lstrip())))
        at += len(line)
    return found


def _answer(lines: Sequence[_Line], field: re.Pattern[str]) -> list[_Line] | None:
    """Return the lines of the answer at the end, without headings, fences and blank lines; None if there is none."""
    found: list[_Line] = []
    braces = False
    for count, line in enumerate(reversed(lines), start=1):
        if _HEADING.fullmatch(line.text):
            return found[::-1] or None
        if _EMPTY.fullmatch(line.text):
            continue
        braces = braces or line.text.endswith("}")
        if count > _MOST_LINES or not (braces or all(field.fullmatch(part.text) for part in _parts(line))):
            return None
        found.append(line)
    return found[::-1] or None


def _parts(line: _Line) -> Iterator[_Line]:
    """Yield the fields of a line without the mark of a list; several may share it, with commas between them."""
    text, start = line
    if item := _ITEM.match(text):
        text, start = text[item.end() :], start + item.end()
    at = 0
    for comma in (*_NEXT_FIELD.finditer(text), None):
        piece = text[at : comma.start() if comma else None]
        bare = piece.lstrip(" \t*_`\"'")
        yield _Line(bare, start + at + len(piece) - len(bare))
        at = comma.end() if comma else at


def _of_lines(answer: Sequence[_Line], pattern: re.Pattern[str]) -> dict[Task, Said] | None:
    found: dict[Task, Said] = {}
    for part in (part for line in answer for part in _parts(line)):
        field = pattern.fullmatch(part.text)
        if field is None or (task := _TASK_OF[field["name"].casefold()]) in found:
            return None
        found[task] = Said(_label(field["word"]), part.start + field.start("word"))
    return found


def _of_json(text: str, answer: Sequence[_Line]) -> dict[Task, Said] | None:
    """Read one JSON object, or the one under its key `answers`; no key may occur twice, in whatever case."""
    whole = text[answer[0].start : answer[-1].start + len(answer[-1].text)]
    try:
        given: Any = strict_json.Parser().whole(whole)
    except strict_json.Malformed:
        return None
    keys = {key.casefold(): value for key, value in given.items()}
    inner = keys.get("answers", keys.get("answer"))
    if isinstance(inner, dict) and not set(keys) & set(_TASK_OF):
        given, keys = inner, {key.casefold(): value for key, value in inner.items()}
    if len(keys) < len(given):
        return None
    found = {task: keys[name] for name, task in _TASK_OF.items() if name in keys}
    if not all(value is None or isinstance(value, str) for value in found.values()):
        return None
    return {
        task: Said(None if value is None else _label(value.strip().rstrip(".")), -1) for task, value in found.items()
    }


def _label(word: str) -> str | None:
    """Return a word in lower case; None for one that says that there is nothing to judge."""
    folded = word.casefold()
    return None if folded in _NOTHING else folded


def _stated(text: str, patterns: _Patterns) -> Iterator[tuple[Task, str]]:
    """Yield the labels that a text states anywhere, in whatever spelling."""
    for statement in patterns.statement.finditer(text):
        yield _TASK_OF[statement["name"].casefold()], statement["word"].casefold()
