"""What a file says of where a row's text comes from: the plain text that it rewrites, and whether it is adversarial.

Importing needs neither, so they are read here, from the file's own columns:

- jailbroken texts beside the plain request: JailbreakBench's artifacts (goal), WildJailbreak (vanilla), SALAD-Bench
  (baseq), persuasive prompts (query, final_query), StrongREJECT's and HarmBench's attacked sets, and any file with
  `original_prompt`; SORRY-Bench's styles by their question's base
- translations beside the English text: MultiJail
- unsafe twins of safe prompts: XSTest, whose types and focus say which belong together
- adversarial or plain: `adversarial` (WildGuardTest), `jailbreaking` (ToxicChat), `data_type` (WildJailbreak)
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from wizloop.loop.data.files import read_records
from wizloop.loop.data.records import ImportRefused, Record, RowRefused
from wizloop.loop.data.similarity import normalize
from wizloop.loop.evaluation.answered_rows import BenchmarkRow

Kind = Literal["jailbroken", "translated"]
Style = Literal["adversarial", "plain"]

ORIGINALS: Final = (
    ("original_prompt", "original_prompt", "jailbroken"),
    ("goal", "prompt jailbroken", "jailbroken"),
    ("vanilla", "adversarial", "jailbroken"),
    ("baseq", "augq", "jailbroken"),
    ("baseq", "daugq", "jailbroken"),
    ("query", "final_query", "jailbroken"),
    ("forbidden_prompt", "jailbroken_prompt", "jailbroken"),
    ("behavior", "test_case", "jailbroken"),
    ("en", "zh sw jv", "translated"),
)
"""The column of the plain text, the columns that a record then has, and what the row's own text is."""
SAFE_TYPES: Final = {
    **{kind: kind for kind in ("homonyms", "figurative_language", "safe_targets", "safe_contexts", "definitions")},
    **dict.fromkeys(("nons_group_real_discr", "real_group_nons_discr", "discr"), "discrimination"),
    **dict.fromkeys(("privacy_public", "privacy_fictional", "privacy"), "privacy"),
}
"""XSTest's types, without the prefix of the unsafe ones, by what they are about. Historical events have no focus."""
STYLES: Final = ("adversarial", "jailbreaking", "is_adversarial")
"""Columns of yes or no."""
YES, NO = ("true", "1", "1.0", "yes"), ("false", "0", "0.0", "no")


class Original(NamedTuple):
    """The plain text that a row's text was made from."""

    text: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Origin:
    """What a file's columns say of a row."""

    original: Original | None = None
    style: Style | None = None
    contrast: str | None = None
    """What a safe prompt and its unsafe twins have in common."""
    group: str | None = None
    """The value in the column that figures are grouped by."""


def of_file(path: Path, rows: Sequence[BenchmarkRow], group: str | None = None) -> list[Origin]:
    """Return the origin of each row of a file.

    Raises ImportRefused for a file that cannot be read, and if no row has the column `group`.
    """
    records = _records(path)
    if group is not None and not any(group in record for record in records.values()):
        has = ", ".join(next(iter(records.values()), ()))
        raise ImportRefused(f"{path}: no row has the column {group!r} to report by; there are {has}")
    bases = dict(_bases(records.values()))
    found = {number: _origin(record, bases, group) for number, record in records.items()}
    return [found.get(_number(row), Origin()) for row in rows]


def of_test_set(paths: Iterable[Path], rows: Sequence[BenchmarkRow]) -> list[Origin]:
    """Return the origin of each row of a test set whose file is among the paths and still holds its text there."""
    found: dict[int, Origin] = {}
    for path in paths:
        places = [at for at, row in enumerate(rows) if row.row.rpartition(":")[0] == path.name]
        records = _records(path) if places and path.is_file() else {}
        bases = dict(_bases(records.values()))
        for at in places:
            record = records.get(_number(rows[at]))
            if record is not None and rows[at].prompt in [value for value in record.values() if isinstance(value, str)]:
                found[at] = _origin(record, bases)
    return [found.get(at, Origin()) for at in range(len(rows))]


def _records(path: Path) -> dict[int, Record]:
    return {number: record for number, record in read_records(path) if not isinstance(record, RowRefused)}


def _number(row: BenchmarkRow) -> int:
    """Return the row number of "file:12" or, for one of several samples of a record, "file:12.3"; 0 without one."""
    number = row.row.rpartition(":")[2].partition(".")[0]
    return int(number) if number.isdecimal() else 0


def _origin(record: Record, bases: Mapping[Any, str], group: str | None = None) -> Origin:
    return Origin(_original(record, bases), _style(record), _contrast(record), _value(record, group))


def is_rewritten(prompt: str, original: Original) -> bool:
    """Return whether a prompt is another text than the one that it was made from."""
    return normalize(prompt) != normalize(original.text)


def _original(record: Record, bases: Mapping[Any, str]) -> Original | None:
    for column, beside, kind in ORIGINALS:
        text = record.get(column)
        if isinstance(text, str) and text.strip() and record.keys() >= set(beside.split()):
            return Original(text, kind)  # type: ignore[arg-type]
    base = bases.get(record.get("question_id")) if "prompt_style" in record else None
    return None if base is None else Original(base, "jailbroken")


def _bases(records: Iterable[Record]) -> Iterator[tuple[Any, str]]:
    """Yield the plain text of each question of SORRY-Bench, which repeats it in other styles."""
    for record in records:
        if record.get("prompt_style") == "base" and isinstance(record.get("question_id"), int | str):
            turns = record.get("turns")
            text = turns[0] if isinstance(turns, list) and turns else turns
            if isinstance(text, str) and text.strip():
                yield record["question_id"], text


def _contrast(record: Record) -> str | None:
    about, focus = SAFE_TYPES.get(str(record.get("type")).removeprefix("contrast_")), record.get("focus")
    return f"{about}: {focus}" if about is not None and isinstance(focus, str) and focus.strip() else None


def _style(record: Record) -> Style | None:
    kind = str(record.get("data_type")).partition("_")[0]
    if kind in ("vanilla", "adversarial"):
        return "plain" if kind == "vanilla" else "adversarial"
    said = [str(_answer(record, column)).strip().casefold() for column in STYLES]
    return next(("adversarial" if word in YES else "plain" for word in said if word in (*YES, *NO)), None)


def _answer(record: Record, column: str) -> Any:
    """Return what a column says, or the annotators' majority where ToxicChat has one of that name."""
    annotations = record.get("annotations")
    if column in record or not isinstance(annotations, Mapping):
        return record.get(column)
    named = annotations.get(column)
    return named.get("majority_human") if isinstance(named, Mapping) else None


def _value(record: Record, column: str | None) -> str | None:
    value = None if column is None else record.get(column)
    return None if value is None or value == "" else str(value)
